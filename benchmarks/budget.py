"""Trains for a given processor time, which other work does not shorten, and measures what came of it."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gan_color.data import lab
from gan_color.data.paths import spread
from gan_color.validate import validate


def train_for(
    minutes: float,
    title: str,
    batches: Iterable[tuple[Tensor, Tensor]],
    step: Callable[[Tensor, Tensor, float], object],
) -> tuple[int, float]:
    """Take steps until their own processor time is used up; loading has its own processes and does not count.

    Args:
        minutes: processor time of the steps, all threads together.
        title: of the progress bar.
        batches: L and ab.
        step: takes L, ab and the share of the time that is used up.

    Returns:
        Steps taken, and seconds used.
    """
    budget, used, steps = 60 * minutes, 0.0, 0
    with tqdm(total=round(budget), desc=title, unit="s", disable=None) as bar:
        for L, ab in batches:
            began = time.process_time()
            step(L, ab, used / budget)
            used, steps = used + time.process_time() - began, steps + 1
            bar.update(int(used) - bar.n)
            if used >= budget:
                break
    return steps, used


def measured(generator: nn.Module, paths: list[Path], size: int, count: int, resize: str = "crop") -> dict[str, float]:
    """What a validation measures, on at most so many photographs."""
    held_out = lab.LabDataset(spread(paths, count), size, resize=resize)
    parts = [range(i, min(i + 16, len(held_out))) for i in range(0, len(held_out), 16)]
    return validate(generator, lab.loader(held_out, parts, workers=1), torch.device("cpu"), len(held_out))
