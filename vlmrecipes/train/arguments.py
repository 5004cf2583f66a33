"""Arguments that every trainer is given: steps, optimizer, precision, loader, logs and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmrecipes.models.load import device
from vlmrecipes.recipe import Train
from vlmrecipes.train.collate import share_by_name

PREFETCH = 2
"""Batches that every loader process prepares ahead: they lie in shared memory, for all processes of all devices."""
AMPERE = 8
"""First major version of CUDA's compute capability that has bfloat16 and TF32."""


def shared(model: Any, settings: Train, steps: int, checkpoints: Path) -> dict[str, Any]:
    """Return what goes into any of TRL's configurations, on the device where the model is."""
    on_gpu = _on_gpu(model, settings)
    return {
        "output_dir": str(checkpoints),
        "max_steps": steps,
        "remove_unused_columns": False,
        "per_device_train_batch_size": rows_at_once(settings),
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "logging_steps": settings.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": None,
        "report_to": "none",
        "disable_tqdm": True,
        **_together(settings.devices, on_gpu),
        **_optimizer(settings, on_gpu),
        **_precision(on_gpu=on_gpu),
        **_loader(settings.workers, on_gpu=on_gpu),
    }


def rows_at_once(settings: Train) -> int:
    """Return how many rows a batch of a device's loader holds."""
    return settings.rows_a_step // settings.gradient_accumulation // settings.devices


def one_device(args: Any) -> Any:
    """Return TRL's configuration held to the device of this process.

    transformers would spread a batch over all GPUs that it sees. Several processes on a CPU it tells "cpu:0", to which torch
    loads no checkpoint.
    """
    import torch

    if args.device.type == "cpu":
        args.__dict__["_setup_devices"] = torch.device("cpu")
    args._n_gpu = min(args.n_gpu, 1)  # noqa: SLF001 - there is no other way
    return args


def _together(devices: int, on_gpu: bool) -> dict[str, Any]:
    """Return by what several processes share gradients."""
    if devices == 1:
        return {}
    return {"ddp_backend": "nccl" if on_gpu else "gloo"}


def _optimizer(settings: Train, on_gpu: bool) -> dict[str, Any]:
    fused = on_gpu and settings.optimizer == "adamw_torch"
    least = {"min_lr_rate": 0.1} if settings.scheduler == "cosine_with_min_lr" else {}
    return {
        "optim": "adamw_torch_fused" if fused else settings.optimizer,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": settings.scheduler,
        "lr_scheduler_kwargs": least,
        "warmup_steps": settings.warmup_steps,
    }


def _precision(*, on_gpu: bool) -> dict[str, Any]:
    """Return how numbers are computed: mixed with 16 bits on a GPU, 32 bits elsewhere."""
    import torch

    if not on_gpu:
        return {"use_cpu": True, "bf16": False, "fp16": False}
    modern = torch.cuda.get_device_capability()[0] >= AMPERE
    return {"bf16": modern, "fp16": not modern, "tf32": modern}


def _loader(workers: int, *, on_gpu: bool) -> dict[str, Any]:
    """Return the settings of the data loader. Processes are spawned: the store must not be used across a fork."""
    pinned = {"dataloader_pin_memory": on_gpu, "accelerator_config": {"non_blocking": on_gpu}}
    if workers == 0:
        return {"dataloader_num_workers": 0, **pinned}
    share_by_name()
    return {
        "dataloader_num_workers": workers,
        "dataloader_multiprocessing_context": "spawn",
        "dataloader_persistent_workers": True,
        "dataloader_prefetch_factor": PREFETCH,
        **pinned,
    }


def _on_gpu(model: Any, settings: Train) -> bool:
    """Tell whether the model computes on a GPU; one that is to be sharded is not there yet."""
    return bool(model.device.type == "cuda" or (settings.sharded and device() == "cuda"))


def pixel_dtype(model: Any, settings: Train) -> str:
    """Return the type that pixels travel in: half the bytes where the model computes in 16 bits anyway."""
    return "bfloat16" if _precision(on_gpu=_on_gpu(model, settings))["bf16"] else ""
