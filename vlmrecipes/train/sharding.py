"""A model that several devices hold in parts: its weights, their gradients and the optimizer's moments (FSDP2).

PyTorch's `fully_shard` cuts every weight into as many parts as there are devices; a layer is put together where it computes,
and taken apart again. Zhao et al., PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (2023). It is called here
itself, because accelerate's way to it does not run on a CPU, where it is tested.

All devices must compute the same layers at the same time: what makes a batch skip some, or one device compute more batches
than another, does not go with it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from vlmrecipes.train.fleet import first

SCHEDULER = "scheduler.pt"


def shard(model: Any, device: str) -> None:
    """Cut the weights of `model` into parts, in place, and move this process's own to its `device` (`cuda`, `cpu`).

    All processes must have the same weights. A layer at a time is moved whole, so the model may lie on the CPU.
    """
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    _alike(model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(base._no_split_modules)  # noqa: SLF001 - the layers, as transformers names them for every family
    for module in reversed(list(model.modules())):  # inner ones first
        if type(module).__name__ in names:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _alike(model: Any) -> None:
    """Put trained weights into 32 bits where they are of different precision: their gradients travel together."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if len({weight.dtype for weight in trained}) > 1:
        for weight in trained:
            weight.data = weight.data.float()


def whole(model: Any) -> dict[str, Any]:
    """Put weights together on the CPU of the first process, one after the other: the trained ones of adapters, else all.

    All processes must call it; the others return nothing.
    """
    wanted = {name for name, weight in model.named_parameters(remove_duplicate=False) if weight.requires_grad}
    found: dict[str, Any] = {}
    made: dict[int, Any] = {}
    for name, weight in model.state_dict(keep_vars=True).items():
        if hasattr(model, "peft_config") and name not in wanted:
            continue
        if id(weight) not in made:  # tied weights stay one
            full = weight.detach().full_tensor() if hasattr(weight, "full_tensor") else weight.detach()
            made[id(weight)] = full.cpu() if first() else None
        found[name] = made[id(weight)]
    return found if first() else {}


class Sharded:
    """Stands before a trainer that `Steady` stands before: shards its model when training begins, and saves it whole."""

    args: Any
    model: Any
    accelerator: Any
    optimizer: Any
    lr_scheduler: Any

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        """Leave it on the CPU until it is sharded: whole, it may not fit."""

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        shard(self.model, self.args.device.type)
        self.model._is_accelerate_prepared = True  # noqa: SLF001 - otherwise accelerate would copy it to every device
        return super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc] # known once trl is loaded

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Compute in 16 bits where the settings say so; layers that are taken apart again must leave no copy."""
        import torch

        if not self.args.bf16:
            return nullcontext()
        in_16_bits: AbstractContextManager[Any] = torch.autocast(
            self.args.device.type, torch.bfloat16, cache_enabled=False
        )
        return in_16_bits

    def weights(self) -> dict[str, Any]:
        """Return the weights to save, in the first process; all must call it."""
        return whole(self.model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: D102
        state = self.weights()
        if self.args.should_save:
            self._save(output_dir, state_dict=state)  # type: ignore[attr-defined] # known once trl is loaded

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the scheduler, and each process its part of the moments: gathering them would take memory and time."""
        import torch
        from torch.utils._pytree import tree_map

        parts = tree_map(_part, self.optimizer.state_dict())
        torch.save(parts, Path(output_dir) / self._moments())
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        import torch

        if checkpoint is None:
            return
        state = torch.load(Path(checkpoint) / self._moments(), map_location="cpu", weights_only=True)
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        for place, held in state["state"].items():
            held.update({name: _placed(value, weights[place]) for name, value in held.items()})
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def _moments(self) -> str:
        return "optimizer.pt" if first() else f"optimizer_{self.args.process_index}.pt"


def _part(value: Any) -> Any:
    """Return this process's part of a tensor that is shared out; anything else as it is."""
    return value.to_local() if hasattr(value, "to_local") else value


def _placed(value: Any, weight: Any) -> Any:
    """Return a part of a moment as one that lies as `weight` does; a count of steps as it is."""
    from torch.distributed.tensor import DTensor

    if value.dim() == 0:
        return value
    there = weight.device_mesh, weight.placements
    return DTensor.from_local(value.to(weight.device), *there, shape=weight.shape, stride=weight.stride())
