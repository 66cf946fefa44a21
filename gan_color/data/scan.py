"""Looks at every photograph once before a long run; what has not changed since an earlier look is not looked at."""

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from gan_color.data import kept_looks, loading
from gan_color.data.kept_looks import KeptLooks
from gan_color.data.look import Look, look_at
from gan_color.data.paths import Paths
from gan_color.device import cores

# Files that a process looks at before it hands over, and how many are worth processes of their own.
_AT_A_TIME, _WORTH_PROCESSES = 32, 256


class _Looks(Dataset):
    def __init__(self, paths: Sequence[Path]):
        self.paths = Paths(paths)

    def __getitem__(self, number: int) -> tuple[Look, Image.Image | None]:
        return look_at(self.paths[number])

    def path_of(self, number: int) -> Path:
        return self.paths[number]


def scan(paths: Sequence[Path], show_progress: bool = True) -> list[Look]:
    """Look at files; of what was seen of them in an earlier scan nothing is looked at again.

    Files that are one by hard links are looked at once.

    Args:
        paths: the files.
        show_progress: draw a bar where the output is a terminal.

    Returns:
        One `Look` a path, in the order of paths.
    """
    paths, now = Paths(paths), time.time_ns()
    looks: list[Look | None] = []
    unseen: dict[object, list[int]] = {}
    with closing(KeptLooks()) as kept:
        bar = tqdm(paths.files(), "what was seen before", len(paths), disable=None if show_progress else True)
        for number, file in enumerate(bar):
            mark = kept_looks.mark(file, now)
            looks.append(kept.find(file, mark) if mark else None)
            if looks[number] is None:
                unseen.setdefault(mark or number, []).append(number)
        kept.flush()
        firsts = Paths(paths[numbers[0]] for numbers in unseen.values())
        seen = scan_with_pictures(firsts, show_progress)
        for (mark, numbers), (look, _) in zip(unseen.items(), seen, strict=True):
            if isinstance(mark, tuple):
                kept.keep(look, mark)
            looks[numbers[0]] = look
            for number in numbers[1:]:
                path = paths[number]
                looks[number] = look_at(path)[0] if look.error else dataclasses.replace(look, file=os.fsencode(path))
    return looks


def scan_with_pictures(paths: Sequence[Path], show_progress: bool = True) -> Iterator[tuple[Look, Image.Image | None]]:
    """Look at files, many of them by a process for each core.

    Args:
        paths: the files.
        show_progress: draw a bar where the output is a terminal.

    Yields:
        The `Look` of each path, in their order, and a small version of the photograph, no side longer than 64
        pixels; None where it cannot be read.
    """
    workers = cores() if len(paths) >= _WORTH_PROCESSES else 0
    parts = [range(start, min(start + _AT_A_TIME, len(paths))) for start in range(0, len(paths), _AT_A_TIME)]
    with tqdm(total=len(paths), desc="looking at photographs", disable=None if show_progress else True) as bar:
        for part in loading.read(loading.loader(_Looks(paths), parts, workers, collate=list)):
            yield from part
            bar.update(len(part))
