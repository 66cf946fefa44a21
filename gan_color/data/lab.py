"""Serves photographs as (L, ab): the dataset, the order of a run, and the loaders.

Nothing here keeps state. Which photograph comes at a step is a function of (seed, epoch), how it is cropped
and flipped one of (seed, epoch, index): the same with any number of workers, and after any interruption.
"""

import atexit
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gan_color import color, images
from gan_color.data.photos import read_rgb
from gan_color.errors import PhotoError, UsageError

# Tells the streams of random numbers apart that are drawn from one seed.
_ORDER, _AUGMENTATION = 0, 1


class LabDataset(Dataset):
    """Photographs as lightness and colour.

    In training each item is a random square crop (aspect kept) and perhaps mirrored; otherwise the middle
    square at the photograph's short side. Both are resized with an antialiased bicubic filter.

    Args:
        paths: the photographs.
        size: side of the square, pixels.
        train: crop and flip at random.
        seed: of the augmentation.
        crops: items of each photograph, one after another: their number times len(paths) is the length.
        min_crop: smallest random crop, as a share of the short side.

    Example:
        >>> L, ab = LabDataset(paths, size=256)[0]
        >>> L.shape, ab.shape
        (torch.Size([1, 256, 256]), torch.Size([2, 256, 256]))
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        size: int = 256,
        train: bool = False,
        seed: int = 0,
        crops: int = 1,
        min_crop: float = 0.6,
    ):
        self.paths = [Path(path) for path in paths]
        self.size, self.train, self.seed, self.crops, self.min_crop = size, train, seed, crops, min_crop

    def __len__(self) -> int:
        return len(self.paths) * self.crops

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Read one photograph.

        Args:
            item: its index, or (epoch, index): in training each epoch crops and flips anew.

        Returns:
            L: (1, size, size) float32, in [-1, 1].
            ab: (2, size, size) float32, in about [-1, 1].

        Raises:
            PhotoError: the file cannot be read.
            IndexError: there is no such item.
        """
        epoch, index = item if isinstance(item, tuple) else (0, item)
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        path = self.paths[index // self.crops]
        if self.train:
            chance = np.random.default_rng((self.seed, _AUGMENTATION, epoch, index))
            share = chance.uniform(self.min_crop, 1)
            across, down = chance.uniform(size=2)
            mirrored = chance.uniform() < 0.5
        else:
            share, across, down, mirrored = 1.0, 0.5, 0.5, False
        photo = read_rgb(path, min_side=int(np.ceil(self.size / share)))
        side = share * min(photo.size)
        left, top = across * (photo.width - side), down * (photo.height - side)
        square = photo.resize((self.size, self.size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        rgb = images.to_tensor(square)
        L, ab = color.rgb_to_lab(rgb.flip(-1) if mirrored else rgb)
        return L.squeeze(0), ab.squeeze(0)


class RunOrder(Sampler[list[tuple[int, int]]]):
    """The batches of a whole run, one a step, from any step on.

    Every epoch is a new shuffle; what is left over after its last whole batch waits for another epoch. With
    several processes each takes its own part of every batch, so together they see what one would have seen.

    Args:
        num_items: items in one epoch.
        batch_size: items in one step, over all processes.
        first_step: the step to begin at; earlier ones were taken before an interruption.
        last_step: the step to end before.
        seed: of the shuffles.
        rank: which process this is.
        world: how many there are.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        first_step: int,
        last_step: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ):
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.first_step, self.last_step = first_step, last_step
        self.part = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield this process's part of each step's batch, as (epoch, index) pairs."""
        per_epoch = self.num_items // self.batch_size
        shuffled_for = None
        for step in range(self.first_step, self.last_step):
            epoch, batch = divmod(step, per_epoch)
            if epoch != shuffled_for:
                order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.num_items)
                shuffled_for = epoch
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in chosen[self.part]]


def steps_per_epoch(num_items: int, batch_size: int) -> int:
    """Whole batches in one epoch.

    Raises:
        UsageError: there are fewer items than one batch takes.
    """
    if num_items < batch_size:
        raise UsageError(
            f"--batch-size {batch_size} is more than the {num_items} photographs there are to train on: "
            f"lower it to {num_items}, or raise --crops"
        )
    return num_items // batch_size


def loader(dataset: LabDataset, batches: Sampler | Sequence, workers: int, pin_memory: bool = False) -> DataLoader:
    """Load batches of (L, ab) in the background.

    Args:
        dataset: the photographs.
        batches: yields the items of each batch, such as a `RunOrder`.
        workers: processes that load; 0 = this one.
        pin_memory: lay batches where a GPU copies them from without waiting.

    Returns:
        A loader of L (N, 1, H, W) and ab (N, 2, H, W), float32.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_run,
        prefetch_factor=4 if workers else None,
        # Its own, so that beginning to load draws nothing from the random numbers of training.
        generator=torch.Generator(),
    )


def _leave_signals_to_the_run(_: int) -> None:
    """A SIGTERM to every process of a run must not take the workers from under the last step."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def _end_workers() -> None:
    """The interpreter would end them with SIGTERM, which they ignore, and wait for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own handler would call their end a fault
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def read_batches(batches: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate a loader; a photograph that fails in a worker is an error of one line here too.

    Raises:
        PhotoError: a photograph could be read before the run, but no longer.
    """
    iterator = iter(batches)
    atexit.register(_end_workers)  # only now: before what torch registered for the workers it has just begun
    try:
        yield from iterator
    except PhotoError as error:
        # torch wraps a worker's error in its traceback, the message being the last line.
        last = str(error).strip().splitlines()[-1]
        raise PhotoError(last.removeprefix("gan_color.errors.PhotoError: ")) from None
