"""Photographs decoded once and kept on disk, so that later epochs and runs read pixels instead of files."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from gan_color.data import loading
from gan_color.data.lab import LabDataset
from gan_color.device import cores
from gan_color.errors import DataError, shown

# Raised when `LabDataset.photo` gives other pixels than before.
_VERSION = 1
# Photographs that a process hands over together, and after how many bytes what was written is sent to the disk.
_AT_A_TIME, _FLUSH_AFTER = 16, 1 << 28
# Photographs by which the size is estimated.
_TRIED = 64


class Decoded(Sequence[np.ndarray]):
    """`LabDataset.photo` of each photograph, memory-mapped: what is read stays in the memory that is free.

    Args:
        folder: holds `pixels`, one photograph behind another, and `shapes.npy`, their (H, W).
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._shapes = np.load(folder / "shapes.npy")
        self._ends = np.concatenate(([0], np.cumsum(3 * self._shapes.prod(axis=1))))
        self._pixels = np.asarray(np.memmap(folder / "pixels", dtype=np.uint8, mode="r"))
        if len(self._pixels) != self._ends[-1]:
            raise ValueError(f"{folder} is not whole")

    def __reduce__(self):
        return Decoded, (self.folder,)  # a process that is handed this maps the file itself

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, number: int) -> np.ndarray:
        """(H, W, 3) uint8, sRGB, not to be written to."""
        return self._pixels[self._ends[number] : self._ends[number + 1]].reshape(*self._shapes[number], 3)


def keep(dataset: LabDataset, cache: Path, photographs: str) -> None:
    """Let a dataset read its photographs from a cache, which is built where it is not there yet.

    What is read is the same to the last bit. Runs that need the same photographs at the same size share one copy; the
    second waits while the first builds it.

    Args:
        dataset: its `decoded` is set.
        cache: a folder for any number of data sets; nothing in it is ever changed, and all of it may be deleted.
        photographs: tells those of this data set, in their order, from any others of as many, such as a digest of
            their contents.

    Raises:
        DataError: the folder cannot be written, or its disk is too small.
        PhotoError: a photograph cannot be read any more.
    """
    matters = [_VERSION, photographs, len(dataset.paths), dataset.size, dataset.train, dataset.resize, PIL.__version__]
    matters += [torch.__version__, dataset.min_crop if dataset.train else None]
    folder = cache / hashlib.sha256(repr(matters).encode()).hexdigest()[:32]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{folder.name}.lock").open("ab") as lock:
            with contextlib.suppress(OSError):  # a file system without locks: then two may build, and one is taken
                fcntl.lockf(lock, fcntl.LOCK_EX)
                for left_over in cache.glob(f".{folder.name}.*.tmp"):  # of a run that was killed while it built
                    shutil.rmtree(left_over, ignore_errors=True)
            try:
                dataset.decoded = Decoded(folder)
            except (FileNotFoundError, ValueError):
                _build(dataset, folder)
                dataset.decoded = Decoded(folder)
    except OSError as error:
        raise DataError(
            f"--cache {shown(cache)}: {error.strerror or error}; give a folder with more room, or leave --cache out"
        ) from error


def _build(dataset: LabDataset, folder: Path) -> None:
    """Decode every photograph into a folder of another name, which is renamed when it is whole."""
    expected, free = _expected_bytes(dataset), shutil.disk_usage(folder.parent).free
    tqdm.write(f"decoding {len(dataset.paths)} photographs into {shown(folder)}: about {expected / 1e6:,.0f} MB")
    if expected > free:
        raise DataError(
            f"--cache {shown(folder.parent)} needs about {expected / 1e6:,.0f} MB, {free / 1e6:,.0f} are free: "
            "give a folder with more room, or leave --cache out"
        )
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        with (temporary / "pixels").open("wb") as file:
            shapes = _write_pixels(dataset, file)
        with (temporary / "shapes.npy").open("wb") as file:
            np.save(file, shapes)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)  # one that is not whole
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_pixels(dataset: LabDataset, file) -> np.ndarray:
    """Write all photographs, and send them to the disk as they come; returns their (H, W)."""
    workers = cores() if len(dataset.paths) > 16 * _AT_A_TIME else 0
    starts = range(0, len(dataset.paths), _AT_A_TIME)
    parts = [range(start, min(start + _AT_A_TIME, len(dataset.paths))) for start in starts]
    shapes, unsent = [], 0
    with tqdm(total=len(dataset.paths), desc="decoding photographs", disable=None) as bar:
        for pixels, its_shapes in loading.read(loading.loader(_Photos(dataset), parts, workers, collate=_joined)):
            file.write(pixels.numpy())
            shapes.append(its_shapes.numpy())
            unsent += len(pixels)
            if unsent > _FLUSH_AFTER:
                os.fsync(file.fileno())
                unsent = 0
            bar.update(len(its_shapes))
    file.flush()
    os.fsync(file.fileno())
    return np.concatenate(shapes)


class _Photos(Dataset):
    def __init__(self, dataset: LabDataset):
        self.dataset = dataset

    def __getitem__(self, number: int) -> np.ndarray:
        return self.dataset.photo(number)

    def path_of(self, number: int) -> Path:
        return self.dataset.paths[number]


def _joined(photos: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Photographs of several shapes as two tensors, which is how processes hand over without a copy."""
    pixels = np.concatenate([photo.ravel() for photo in photos])
    return torch.from_numpy(pixels), torch.tensor([photo.shape[:2] for photo in photos])


def _expected_bytes(dataset: LabDataset) -> int:
    """By the mean of some photographs, spread over all."""
    count = len(dataset.paths)
    tried = range(0, count, max(1, count // _TRIED))
    return sum(dataset.photo(number).nbytes for number in tried) * count // len(tried)
