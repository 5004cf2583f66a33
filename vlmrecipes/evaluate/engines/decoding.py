"""Greedy decoding that lets go of the rows that have ended.

transformers' own loop goes on with all rows of a batch until the last one ends. This one is handed to `generate` as its
decoding method: prompts, positions and caches are prepared as ever, and when enough rows have ended the others go on in a
smaller batch.

Shapes: B rows, L tokens of the prompts, G generated tokens.
"""

from __future__ import annotations

from typing import Any

SMALLER = 0.8
"""Rows that ended are dropped once no more than this share is left: copying the cache costs, too."""
LOOK = 8
"""Tokens between two looks at a GPU's results: each look waits for it."""


def greedy(
    model: Any,
    input_ids: Any,
    logits_processor: Any,  # noqa: ARG001 - greedy without penalties: nothing to process
    stopping_criteria: Any,  # noqa: ARG001 - ends and lengths are watched here
    generation_config: Any,
    **state: Any,
) -> Any:
    """Return the prompts and what they are continued with [B, L + G]; what follows an end token means nothing."""
    import torch

    generation_config.return_dict_in_generate = False
    ends = generation_config._eos_token_tensor.to(input_ids.device)  # noqa: SLF001 - made by `generate` for its loop
    longest = generation_config.max_length - input_ids.shape[1]
    said = input_ids.new_full((len(input_ids), longest), int(ends[0]))
    prompts, rows = input_ids, torch.arange(len(input_ids), device=input_ids.device)
    ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    look = LOOK if input_ids.is_cuda else 1
    place = 0
    while place < longest:
        output = _forward(model, input_ids, generation_config, state, first=place == 0)
        state = model._update_model_kwargs_for_generation(output, state, is_encoder_decoder=False)  # noqa: SLF001 - as transformers' loop does
        tokens = output.logits[:, -1].float().argmax(dim=-1)
        said[rows, place] = tokens
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
        ended |= torch.isin(tokens, ends)
        place += 1
        if place % look:
            continue
        left = (~ended).nonzero()[:, 0]
        if not len(left):
            break
        if len(left) <= SMALLER * len(rows) and _can_shrink(state):
            _shrink(model, state, left, len(rows))
            input_ids, rows, ended = input_ids[left], rows[left], ended[left]
    return torch.cat([prompts, said[:, :place]], dim=1)


def _forward(model: Any, input_ids: Any, config: Any, state: dict[str, Any], *, first: bool) -> Any:
    if first:
        return model._prefill(input_ids, config, state, is_first_iteration=True)  # noqa: SLF001 - as transformers' loop does
    inputs = model.prepare_inputs_for_generation(input_ids, next_sequence_length=1, **state)
    return model(**inputs, return_dict=True)


def _can_shrink(state: dict[str, Any]) -> bool:
    """Tell whether the cache can be cut to some rows and the positions of tokens are among what is cut."""
    layers = getattr(state.get("past_key_values"), "layers", ())
    return bool(layers) and all(hasattr(layer, "batch_select_indices") for layer in layers) and "position_ids" in state


def _shrink(model: Any, state: dict[str, Any], left: Any, before: int) -> None:
    """Keep the rows `left` of everything that has one entry a row; pictures were read in the first step and stay."""
    state["past_key_values"].batch_select_indices(left)
    for name in ("attention_mask", "cross_attention_mask", "token_type_ids", "mm_token_type_ids"):
        if state.get(name) is not None:
            state[name] = state[name][left]
    state["position_ids"] = state["position_ids"].index_select(-2, left)  # [B, L], or [3 or 4, B, L]
    inner: Any = getattr(model, "model", None)
    deltas = getattr(inner, "rope_deltas", None)
    if deltas is not None and len(deltas) == before:
        inner.rope_deltas = deltas[left]
