"""Writes a generator to be shared, in half precision: `gan-color share`."""

import copy
import os
from pathlib import Path

import torch
from torch import nn

from gan_color import color
from gan_color.checkpoint import load_generator, require_numbers, save_generator
from gan_color.commands import ShareConfig
from gan_color.data import lab, sources
from gan_color.errors import CheckpointError, UsageError, shown
from gan_color.generators.places import CARD, CONFIG, WEIGHTS, generator_folder
from gan_color.writing import require_new, write_atomically

# The largest mean difference from single precision that is let through, in ab of -1..1: a tenth of a Lab unit.
BOUND = 1e-3


def run(config: ShareConfig) -> None:
    """Write a generator's files in half precision, and say how far its colours are from what they were.

    Raises:
        UsageError: a file is there already, or cannot be written, or would be the generator's own.
        CheckpointError: there is no generator, it is broken, or half precision changes its colours; nothing was
            written.
        WriteError: a file cannot be written; what was there before still is, whole.
    """
    require_new(config.out, (CONFIG, WEIGHTS, CARD), None, config.overwrite)
    own = {generator_folder(config.checkpoint).resolve(), Path(os.path.expanduser(config.checkpoint)).resolve()}
    if config.out.resolve() in own:
        raise UsageError(f"--out {shown(config.out)} is the generator's own folder: name another")
    generator = load_generator(config.checkpoint)
    halved = halve(generator)
    mean, largest, in_rgb = difference(generator, halved, shown(config.checkpoint))
    if not mean <= BOUND:  # also when it is not a number
        raise CheckpointError(
            f"{shown(config.checkpoint)} does not bear half precision: its ab would differ by {mean:.1e} on average "
            f"({BOUND} is allowed): share its own folder, which is in single precision"
        )
    described = generator.description
    save_generator(config.out, halved, described["architecture"], described["options"], described["training"])
    if generator.card:
        write_atomically(config.out / CARD, generator.card.encode())
    else:
        (config.out / CARD).unlink(missing_ok=True)  # of the generator that was there
    print(
        f"wrote {shown(config.out)} ({(config.out / WEIGHTS).stat().st_size / 2**20:.1f} MiB); on the embedded "
        f"photographs half precision changes ab of -1..1 by {mean:.1e} on average and {largest:.1e} at most, 8-bit RGB "
        f"by {in_rgb} at most"
    )


def halve(generator: nn.Module) -> nn.Module:
    """A copy in half precision, to be saved.

    Args:
        generator: from `load_generator`, on the CPU.

    Returns:
        The copy: float16 but for what exceeds its range, which stays as it is.
    """
    halved = copy.deepcopy(generator)
    for tensor in [*halved.parameters(), *halved.buffers()]:
        if tensor.is_floating_point() and tensor.data.half().isfinite().all():
            tensor.data = tensor.data.half()
    return halved


@torch.inference_mode()
def difference(generator: nn.Module, halved: nn.Module, name: str) -> tuple[float, float, int]:
    """Colour the embedded photographs with both.

    Args:
        generator: on the CPU, in evaluation mode.
        halved: what `halve` made of it; it runs as it does once it is loaded, in single precision.
        name: what the user knows the generator by.

    Returns:
        Mean and largest absolute difference in ab, which is in -1..1 (nan if a colour of the halved one is no number),
        and the largest in 8-bit RGB.

    Raises:
        CheckpointError: a colour of the generator itself is no number.
    """
    loaded = copy.deepcopy(generator)
    loaded.load_state_dict(halved.state_dict())
    paths = [path for part in sources.samples() for path in part]
    L = torch.stack([L for L, _ in lab.LabDataset(paths, generator.trained_size)])
    one, other = generator(L), loaded(L)
    require_numbers(one, name)
    in_ab = (one - other).abs()
    in_rgb = (color.lab_to_rgb(L, one).int() - color.lab_to_rgb(L, other).int()).abs()
    return float(in_ab.mean()), float(in_ab.max()), int(in_rgb.max())
