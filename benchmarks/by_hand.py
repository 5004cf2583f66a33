"""The script to compare with: Unsloth as its notebooks use it, on rows in the order of a file.

    python benchmarks/by_hand.py MODEL ROWS FOLDER 4bit|16bit STEPS

ROWS is a JSON line a row: `image` (a path), `prompt`, `answer`. The settings are those of the recipe it is compared with,
and the clock is beside it; all else is as the notebooks have it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image
from turns import Clock, callback

from unsloth import FastVisionModel  # isort: skip # before trl, transformers and peft
from trl import SFTConfig, SFTTrainer
from unsloth.trainer import UnslothVisionDataCollator

MODEL, ROWS, FOLDER, BITS, STEPS = sys.argv[1:]

model, tokenizer = FastVisionModel.from_pretrained(
    MODEL,
    max_seq_length=4096,
    load_in_4bit=BITS == "4bit",
    load_in_16bit=BITS == "16bit",
    use_gradient_checkpointing="unsloth",
)
model = FastVisionModel.get_peft_model(
    model,
    finetune_vision_layers=True,
    finetune_language_layers=True,
    finetune_attention_modules=True,
    finetune_mlp_modules=True,
    r=16,
    lora_alpha=16,
    lora_dropout=0,
    bias="none",
    random_state=3407,
)


def conversation(row: dict[str, str]) -> dict[str, list[dict[str, object]]]:
    """Return a row as the notebooks write it."""
    picture = {"type": "image", "image": Image.open(row["image"]).convert("RGB")}
    return {
        "messages": [
            {"role": "user", "content": [picture, {"type": "text", "text": row["prompt"]}]},
            {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]},
        ]
    }


dataset = [conversation(json.loads(line)) for line in Path(ROWS).read_text("utf-8").splitlines()]
FastVisionModel.for_training(model)
trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    data_collator=UnslothVisionDataCollator(
        model,
        tokenizer,
        max_seq_length=4096,
        resize="max",
        train_on_responses_only=True,
        instruction_part="<|im_start|>user\n",
        response_part="<|im_start|>assistant\n",
    ),
    train_dataset=dataset,
    callbacks=[callback(Clock(Path(FOLDER), turns=True))],
    args=SFTConfig(
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        warmup_steps=5,
        max_steps=int(STEPS),
        learning_rate=2e-4,
        logging_steps=1,
        optim="adamw_8bit",
        weight_decay=0.01,
        lr_scheduler_type="linear",
        seed=3407,
        bf16=True,
        output_dir=str(Path(FOLDER) / "outputs"),
        save_strategy="no",
        report_to="none",
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataset_text_field="",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=4096,
    ),
)
trainer.train()
