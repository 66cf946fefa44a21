"""A list of paths that costs loading processes nothing."""

import os
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np


class Paths(Sequence[Path]):
    """Paths as one string of bytes: about 70 bytes each, and none of them copied by a process that reads it.

    A list has an object and a count of its uses for every path; each loading process, as it goes through them, would
    come to own a copy of them all.

    Args:
        paths: in the order they keep.
    """

    def __init__(self, paths: Iterable[Path | str]):
        encoded = [os.fsencode(path) for path in paths]
        self._bytes = b"".join(encoded)
        self._ends = np.fromiter(accumulate(map(len, encoded), initial=0), dtype=np.int64, count=len(encoded) + 1)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> Path:
        if not -len(self) <= number < len(self):
            raise IndexError(f"path {number} of {len(self)}")
        number %= len(self)
        return Path(os.fsdecode(self._bytes[self._ends[number] : self._ends[number + 1]]))
