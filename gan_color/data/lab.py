"""Serves photographs as (L, ab): the dataset, the order of a run, and the loaders.

Nothing here keeps state. Which photograph comes at a step is a function of (seed, epoch), how it is cropped
and flipped one of (seed, epoch, index): the same with any number of workers, and after any interruption.
"""

import atexit
import itertools
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from gan_color import color, images
from gan_color.data.photos import read_rgb
from gan_color.errors import GanColorError, PhotoError, UsageError, shown

# Tells the streams of random numbers apart that are drawn from one seed.
_ORDER, _AUGMENTATION = 0, 1
# Seconds between looks at workers that let a batch wait, and until such a wait is an error.
_LOOK_EVERY, _PATIENCE = 5, 300


class LabDataset(Dataset):
    """Photographs as lightness and colour.

    In training each item is a random square crop (aspect kept) and perhaps mirrored; otherwise the middle
    square at the photograph's short side. With another `resize` it is the whole photograph, in training perhaps
    mirrored. All are resized with an antialiased bicubic filter.

    Args:
        paths: the photographs.
        size: side of the square, pixels.
        train: crop and flip at random.
        seed: of the augmentation.
        crops: items of each photograph, one after another: their number times len(paths) is the length.
        min_crop: smallest random crop, as a share of the short side.
        resize: "crop"; "squash": the whole photograph, its aspect not kept; or "pad": the whole photograph in the
            middle, its edges repeated.

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
        resize: str = "crop",
    ):
        self.paths = [Path(path) for path in paths]
        self.size, self.train, self.seed, self.crops, self.min_crop = size, train, seed, crops, min_crop
        self.resize = resize

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
        path = self.path_of(item)
        if self.train:
            chance = np.random.default_rng((self.seed, _AUGMENTATION, epoch, index))
            share = chance.uniform(self.min_crop, 1)
            across, down = chance.uniform(size=2)
            mirrored = chance.uniform() < 0.5
        else:
            share, across, down, mirrored = 1.0, 0.5, 0.5, False
        if self.resize == "crop":
            photo = read_rgb(path, min_side=int(np.ceil(self.size / share)))
            square = _crop(photo, self.size, share, across, down)
        else:
            photo = read_rgb(path, min_side=self.size)
            square = _squash(photo, self.size) if self.resize == "squash" else _pad(photo, self.size)
        rgb = images.to_tensor(square)
        L, ab = color.rgb_to_lab(rgb.flip(-1) if mirrored else rgb)
        return L.squeeze(0), ab.squeeze(0)

    def path_of(self, item: int | tuple[int, int]) -> Path:
        """The photograph that an item is cut from."""
        index = item[1] if isinstance(item, tuple) else item
        return self.paths[index % len(self) // self.crops]


def _crop(photo: Image.Image, size: int, share: float, across: float, down: float) -> Image.Image:
    """A square with this share of the short side as its side, and this share of what is left on its left and above."""
    side = share * min(photo.size)
    left, top = across * (photo.width - side), down * (photo.height - side)
    return photo.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))


def _squash(photo: Image.Image, size: int) -> Image.Image:
    """The whole photograph, its aspect not kept."""
    return photo.resize((size, size), Image.Resampling.BICUBIC)


def _pad(photo: Image.Image, size: int) -> Image.Image:
    """The whole photograph in the middle of a square; black bars would be learnt as colours, so its edges go on."""
    scale = size / max(photo.size)
    width, height = (max(1, round(scale * side)) for side in photo.size)
    whole = np.array(photo.resize((width, height), Image.Resampling.BICUBIC))
    above, left = (size - height) // 2, (size - width) // 2
    margins = ((above, size - height - above), (left, size - width - left), (0, 0))
    return Image.fromarray(np.pad(whole, margins, mode="edge"))


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


def loader(dataset: LabDataset, batches: Iterable, workers: int, pin_memory: bool = False) -> DataLoader:
    """Load batches of (L, ab) in the background; to be read by `read_batches`.

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
        timeout=_LOOK_EVERY if workers else 0,
        # Its own, so that beginning to load draws nothing from the random numbers of training.
        generator=torch.Generator(),
    )


def _leave_signals_to_the_run(_: int) -> None:
    """A SIGTERM to every process of a run must not take the workers from under the last step."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def _end_workers(workers: list | None = None) -> None:
    """The interpreter would end them with SIGTERM, which they ignore, and wait for ever."""
    for child in multiprocessing.active_children() if workers is None else workers:
        if child.daemon:
            child.kill()


def read_batches(batches: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate a loader. When a worker dies the loading begins anew, once, at the batch that is due.

    Raises:
        PhotoError: a photograph could be read before the run, but no longer.
        GanColorError: workers die again, or one has not read its batch in five minutes.
    """
    done, restarted = 0, False
    while True:
        # Batches are a function of their number, so that what is read again is what was lost.
        rest = itertools.islice(batches.batch_sampler, done, None)
        again = loader(batches.dataset, rest, batches.num_workers, batches.pin_memory)
        before = multiprocessing.active_children()
        iterator = iter(again)
        workers = [child for child in multiprocessing.active_children() if child not in before]
        # torch's own handler would raise at once when a worker dies, in the middle of a step.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        atexit.register(_end_workers)  # only now: before what torch registered for the workers it has just begun
        try:
            while True:
                try:
                    batch = _wait_for(iterator, batches, done)
                except StopIteration:
                    return
                yield batch
                done += 1
        except _WorkerDied as error:
            _end_workers(workers)
            if restarted:
                raise GanColorError(
                    f"processes that load photographs die ({error}): memory or shared memory may be too small; take "
                    "fewer --workers, or --workers 0"
                ) from None
            restarted = True
            tqdm.write(f"a process that loads photographs died ({error}): loading begins anew at the same batch")


class _WorkerDied(Exception):
    """A loading process is no more."""


def _wait_for(iterator: Iterator, batches: DataLoader, done: int) -> tuple[Tensor, Tensor]:
    """The next batch, with torch's words for what can go wrong turned into ours."""
    for waited in itertools.count(_LOOK_EVERY, _LOOK_EVERY):
        try:
            return next(iterator)
        except PhotoError as error:
            # torch wraps a worker's error in its traceback, the message being the last line.
            last = str(error).strip().splitlines()[-1]
            raise PhotoError(last.removeprefix("gan_color.errors.PhotoError: ")) from None
        except RuntimeError as error:
            said = str(error)
            if "exited unexpectedly" in said or "killed by signal" in said:
                raise _WorkerDied(said.splitlines()[0]) from None
            if "/torch_" in said:  # the file in shared memory that a batch travels in
                raise GanColorError(
                    f"shared memory is full ({said.strip().splitlines()[-1]}): take --workers 0, or give the machine "
                    "more of /dev/shm"
                ) from None
            if "timed out" not in said:
                raise
            if waited >= _PATIENCE:
                (items,) = itertools.islice(batches.batch_sampler, done, done + 1)
                paths = dict.fromkeys(shown(batches.dataset.path_of(item)) for item in items)
                raise GanColorError(
                    f"no batch in {waited} seconds; its photographs are {', '.join(paths)}: see whether their drive "
                    "answers, then go on with --resume"
                ) from None
    raise AssertionError
