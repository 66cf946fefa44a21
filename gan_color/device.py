"""What the networks run on and in which arithmetic, chosen from the options."""

import os
import re

import torch

from gan_color.errors import UsageError


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Turn `--device` into a device that is there.

    Args:
        name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        local_rank: this process's number on its machine, which GPU it takes.

    Returns:
        The device; for CUDA with its index.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"  # mps only when asked for: we have not tried it
    asked = re.fullmatch(r"(cpu|mps|cuda(?::(\d+))?)", name)
    if not asked:
        raise UsageError(f"--device {name}: take auto, cpu, cuda, cuda:N or mps")
    if name.startswith("cuda"):
        index = local_rank if asked[2] is None else int(asked[2])
        if index >= torch.cuda.device_count():
            raise UsageError(
                f"--device {name}: torch sees {torch.cuda.device_count()} CUDA GPUs, this process wants number "
                f"{index}; take --device cpu, or start fewer processes"
            )
        return torch.device("cuda", index)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: there is none here; take --device cpu")
    return torch.device(name)


def cores() -> int:
    """Count the processor cores that this process may use: all there are where the system does not say, as macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn `--precision` into the type that convolutions run in.

    Args:
        name: "auto", "fp32", "bf16" or "fp16".
        device: what the networks run on.

    Returns:
        torch.float32 (no autocast), torch.bfloat16 or torch.float16; for "auto" bfloat16 where the hardware
        multiplies it natively.
    """
    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name in named:
        return named[name]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Older torch cannot be asked; fp32 is right everywhere.
        capabilities = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
        native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def precision_name(precision: torch.dtype) -> str:
    """Such as "bfloat16", for messages and saved states."""
    return str(precision).removeprefix("torch.")


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Run convolutions in the chosen precision; losses and colour cast back to float32 themselves."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)
