"""Training by rewards: TRL's GRPOTrainer, with our order of rows, our rewards, and pictures that are read when needed.

Shapes: B answers in a generation, which is B / group prompts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from vlmrecipes.data.loader import decode
from vlmrecipes.data.order import Groups
from vlmrecipes.models.chat import Chat
from vlmrecipes.models.turns import text_of
from vlmrecipes.train.arguments import one_device, shared
from vlmrecipes.train.curve import Judge, summary
from vlmrecipes.train.rewards import Term, best, terms
from vlmrecipes.train.rows import Reader, prompts
from vlmrecipes.train.trainer import Steady

if TYPE_CHECKING:
    from vlmrecipes.recipe import Train
    from vlmrecipes.rewarding import Grpo
    from vlmrecipes.train.task import Task

LOSSES = {"grpo": "dapo", "gspo": "grpo"}
"""How tokens are averaged unless the recipe says it: GSPO's objective is a mean over answers."""
SAME = 1e-6
"""Rewards that differ by less are equal."""


def judge(task: Task) -> Judge | None:
    """Return what tells whether the training has collapsed; None for one that is not by rewards."""
    if task.grpo is None:
        return None
    groups = per_step(task.settings, task.grpo) / task.grpo.iterations
    return Judge(groups_per_step=groups, best=best(terms(task.grpo)))


def per_step(settings: Train, grpo: Grpo) -> int:
    """Return how many prompts an optimizer step has answers to."""
    return settings.rows_a_step // grpo.group


def told(task: Task, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of TrainResult that are about rewards."""
    if task.grpo is None or (found := judge(task)) is None:
        return {}
    named = [{"name": term.name, "weight": term.weight, "spec": term.spec} for term in terms(task.grpo)]
    return {"rewards": {"terms": named} | summary(entries), "collapse": found.collapse(entries, ended=True)}


def trainer(task: Task, model: Any, **more: Any) -> Any:
    """Return the trainer of `task`, whose `grpo` is given; `more` goes to GRPOTrainer."""
    grpo, settings = task.grpo, task.settings
    if grpo is None:
        raise TypeError("no rewards")
    processor = reading(task.processor, model)
    found = terms(grpo)
    order = Groups(
        task.lengths,
        per_step(settings, grpo),
        settings.seed,
        by_length=settings.group_by_length,
        group=grpo.group,
        repeats=grpo.iterations * settings.gradient_accumulation,
    )
    return trainer_class()(
        model=model,
        args=arguments(task, grpo, model, found, unsaid(processor)),
        reward_funcs=[Scored(term, processor.tokenizer) for term in found],
        train_dataset=prompts(task.rows, task.lengths, task.run / "rows.arrow"),
        processing_class=processor,
        order=order,
        readers=task.readers,
        **more,
    )


def arguments(task: Task, grpo: Grpo, model: Any, found: Sequence[Term], never: Sequence[int]) -> Any:
    """Return TRL's GRPOConfig on the device where the model is: one generation for an optimizer step, or for several.

    Tokens in `never` are not drawn. What Unsloth's GRPOConfig would change to what papers recommend stays as it is given.
    """
    from trl import GRPOConfig

    method = task.settings.method
    made = one_device(
        GRPOConfig(
            num_generations=grpo.group,
            reward_weights=[term.weight for term in found],
            beta=grpo.beta,
            epsilon=grpo.epsilon,
            epsilon_high=grpo.epsilon if grpo.epsilon_high is None else grpo.epsilon_high,
            max_completion_length=grpo.max_completion_length,
            mask_truncated_completions=grpo.mask_truncated,
            temperature=grpo.temperature,
            top_p=grpo.top_p,
            top_k=grpo.top_k,
            generation_kwargs={"suppress_tokens": list(never)} if never else None,
            num_iterations=grpo.iterations,
            loss_type=grpo.loss_type or LOSSES[method],
            scale_rewards=grpo.scale_rewards,
            importance_sampling_level="sequence" if method == "gspo" else "token",
            **shared(model, task.settings, task.steps, task.run / "checkpoints"),
        )
    )
    made.scale_rewards = grpo.scale_rewards
    return made


def reading(processor: Any, model: Any) -> Any:
    """Return a processor as GRPOTrainer wants it: padding on the left, and the end of a turn as its only end.

    Some models (Gemma) end their turns with another token than their tokenizer ends texts with.
    """
    from vlmrecipes.evaluate.engines.hf import end_tokens

    own = copy.deepcopy(processor)
    own.tokenizer.padding_side = "left"
    said = Chat(own).pair([{"role": "user", "content": [{"type": "text", "text": "A"}]}], "A").completion
    ends = end_tokens(model, own)
    end = next(
        (number for number in own.tokenizer(said, add_special_tokens=False)["input_ids"] if number in ends), None
    )
    if end is not None:
        own.tokenizer.eos_token = own.tokenizer.convert_ids_to_tokens(end)
    return own


def unsaid(processor: Any) -> list[int]:
    """Return the special tokens that end no answer: no words, and where they stand for a picture the model would want one."""
    tokenizer = processor.tokenizer
    images = [number for number in processor.image_token_ids if number is not None]
    return sorted({*tokenizer.all_special_ids, *images} - {tokenizer.eos_token_id})


class Scored:
    """A reward as GRPOTrainer calls it."""

    def __init__(self, term: Term, tokenizer: Any) -> None:
        self.term = term
        self.tokenizer = tokenizer
        self.__name__ = term.name

    def __call__(
        self,
        *,
        completion_ids: Sequence[Sequence[int]],
        references: Sequence[Sequence[str]],
        asked: Sequence[str],
        **_: Any,
    ) -> list[float]:
        """Return the rewards of B answers [B], before their weight."""
        answers = self.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        return [self.term(*one) for one in zip(answers, references, asked, strict=True)]


@cache
def trainer_class() -> Any:
    """Return the class; its constructor takes `order` and `readers` besides what GRPOTrainer takes."""
    from trl import GRPOTrainer

    return type("RewardTrainer", (_Rewarded, GRPOTrainer), {})


class _Rewarded(Steady):
    """Reads the pictures of a generation once, and tells of groups without variance; the loss is TRL's own."""

    num_generations: int
    reward_weights: Any
    _metrics: Any
    _step: int
    computing = "answering prompts and learning from the answers"
    """What is told when the memory runs out."""

    def __init__(self, *args: Any, readers: Sequence[Reader], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.readers = readers

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if self._step == 0:  # TRL counts from 0 again after an interruption
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        return super()._prepare_inputs(generation_batch)  # type: ignore[misc] # known once trl is loaded

    def _generate_and_score_completions(self, inputs: Sequence[Mapping[str, Any]]) -> Any:
        groups = [self._loaded(row) for row in inputs[:: self.num_generations]]
        self.rows_seen += len(groups)
        rows = [dict(row) for row in groups for _ in range(self.num_generations)]
        return super()._generate_and_score_completions(rows)  # type: ignore[misc] # known once trl is loaded

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        numbers, images, more = super()._tokenize_prompts(prompts)  # type: ignore[misc] # known once trl is loaded
        return numbers, images and [pictures or [] for pictures in images], more  # processors take no None among them

    def _loaded(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of the dataset with its messages read, what its user says, and its pictures decoded."""
        pictures = [decode(data) for data in self.readers[row["part"]].read(row["images"])]
        turns = json.loads(row["prompt"])
        asked = "\n".join(text_of(turn) for turn in turns if turn["role"] == "user")
        return {"prompt": turns, "images": pictures, "references": row["references"], "asked": asked}

    def _calculate_rewards(self, *args: Any) -> Any:
        found = super()._calculate_rewards(*args)  # type: ignore[misc] # known once trl is loaded
        total = (found * self.reward_weights.to(found.device)).sum(1).view(-1, self.num_generations)
        same = (total.max(1).values - total.min(1).values) < SAME
        self._metrics["train"]["zero_variance"].append(same.float().mean().item())
        return found
