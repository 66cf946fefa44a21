"""Loads state dicts once they are found to fit: torch takes wrong shapes into an optimizer without a word."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_color.errors import CheckpointError

# What an optimizer keeps of each parameter: its count of steps, and what has the parameter's shape.
_MOMENTS = {
    torch.optim.Adam: ({"step": torch.zeros(())}, ("exp_avg", "exp_avg_sq")),
    torch.optim.SGD: ({}, ("momentum_buffer",)),
}

Part = nn.Module | Optimizer | torch.amp.GradScaler


def load_parts(parts: dict[str, Part], saved: dict) -> None:
    """Load several state dicts, all or none.

    Args:
        parts: by its name in `saved`, what is to be loaded.
        saved: name to state dict.

    Raises:
        CheckpointError: names the first thing that does not fit.
    """
    for name, part in parts.items():
        differs = _first_difference(saved, {name: _expected(part, saved.get(name))}, "")
        if differs:
            raise CheckpointError(differs)
    for name, part in parts.items():
        part.load_state_dict(saved[name])


def _expected(part: Part, saved: object) -> dict:
    """A state dict as it must be; of an optimizer, with moments where the saved one has some."""
    expected = part.state_dict()
    if isinstance(part, Optimizer) and isinstance(saved, dict):
        parameters = [parameter for group in part.param_groups for parameter in group["params"]]
        step, moments = _MOMENTS[type(part)]
        if saved.get("state"):
            expected["state"] = {i: step | dict.fromkeys(moments, p) for i, p in enumerate(parameters)}
        # What else a group holds differs between versions of torch, which fill it in.
        for group in expected["param_groups"]:
            for name in group.keys() - {"params", "lr", "betas", "eps", "momentum"}:
                del group[name]
    return expected


def _first_difference(saved: object, expected: object, name: str) -> str | None:
    """Where two state dicts differ in keys, shapes or types, in words; None where they do not."""
    if isinstance(expected, dict):
        if not isinstance(saved, dict):
            return f"{name} is no state dict"
        for key, value in expected.items():
            inner = f"{name}.{key}" if name else str(key)
            if key not in saved:
                return f"{inner} is missing"
            differs = _first_difference(saved[key], value, inner)
            if differs:
                return differs
        surplus = saved.keys() - expected.keys() if any(isinstance(v, Tensor) for v in expected.values()) else ()
        return f"{name}.{min(surplus, key=str)} is not in the architecture" if surplus else None
    if isinstance(expected, list | tuple):
        if not isinstance(saved, list | tuple) or len(saved) != len(expected):
            return f"{name} has not {len(expected)} entries"
        pairs = enumerate(zip(saved, expected, strict=True))
        return next(filter(None, (_first_difference(*pair, f"{name}.{i}") for i, pair in pairs)), None)
    if isinstance(expected, Tensor):
        if not isinstance(saved, Tensor) or saved.shape != expected.shape or saved.dtype != expected.dtype:
            of = (tuple(saved.shape), saved.dtype) if isinstance(saved, Tensor) else type(saved).__name__
            return f"{name} is {of}, not {(tuple(expected.shape), expected.dtype)}".replace("torch.", "")
        return None
    if isinstance(expected, int | float) and isinstance(saved, int | float) and math.isfinite(saved):
        return None
    return f"{name} is {str(saved)[:40]!r}, not like {expected!r}"


def tensors_in(state: object) -> Iterator[tuple[str, Tensor]]:
    """Go through a state to the last leaf, each part once, however it is nested.

    Yields:
        Name, such as `stage.generator.head.bias`, and tensor.

    Raises:
        CheckpointError: there is something in it that no state of ours holds, such as a sparse or quantised tensor, or
            one that spreads a few bytes over any size.
    """
    waiting, seen = [("", state)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, str | int | float | None) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}" if name else str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{name}.{i}", inner) for i, inner in enumerate(value)]
        elif not isinstance(value, Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}")
        elif value.layout != torch.strided or value.is_quantized or value.is_nested:
            raise CheckpointError(f"{name} is no dense tensor")
        elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise CheckpointError(f"{name} is larger than what is stored of it")
        else:
            yield name, value


def require_finite(state: object) -> None:
    """Check every tensor of a state.

    Raises:
        CheckpointError: names the first that is not finite.
    """
    for name, tensor in tensors_in(state):
        if not tensor.isfinite().all():
            raise CheckpointError(f"{name} is not finite")
