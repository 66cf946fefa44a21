"""Serves photographs as (L, ab): square, cropped and mirrored at random in training.

Nothing here keeps state: how an item is cropped and mirrored is a function of (seed, epoch, index), the same with any
number of workers, and after any interruption.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gan_color import color
from gan_color.data import loading
from gan_color.data.paths import Paths
from gan_color.data.photos import read_pixels

# torch warns of what cannot be written to, such as photographs that are mapped from a file; nothing is written.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)

# Tells this stream of random numbers from that of the order, which is drawn from the same seed.
_AUGMENTATION = 1


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

    Attributes:
        decoded: `photo` of each photograph where it was read before (`gan_color.data.decoded`); None = files are read.

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
        self.paths = Paths(paths)
        self.size, self.train, self.seed, self.crops, self.min_crop = size, train, seed, crops, min_crop
        self.resize = resize
        self.decoded: Sequence[np.ndarray] | None = None

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
        L, ab = color.rgb_to_lab(_channels_first(self.rgb(item).unsqueeze(0)))
        return L.squeeze(0), ab.squeeze(0)

    def rgb(self, item: int | tuple[int, int]) -> Tensor:
        """Read one photograph, not yet in Lab.

        Args:
            item: as `__getitem__`.

        Returns:
            (size, size, 3) uint8, sRGB.

        Raises:
            PhotoError: the file cannot be read.
            IndexError: there is no such item.
        """
        epoch, index = item if isinstance(item, tuple) else (0, item)
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        number = index // self.crops
        photo = self.photo(number) if self.decoded is None else self.decoded[number]
        mirrored = False
        if self.train:
            chance = np.random.default_rng((self.seed, _AUGMENTATION, epoch, index))
            share = chance.uniform(self.min_crop, 1)
            across, down = chance.uniform(size=2)
            if self.resize == "crop":
                photo = resized(_crop(photo, share, across, down), self.size, self.size)
            mirrored = chance.uniform() < 0.5
        rgb = torch.from_numpy(photo)
        return rgb.flip(1) if mirrored else rgb

    def photo(self, number: int) -> np.ndarray:
        """What every item of a photograph is cut from: all of its work that chance has no part in.

        Args:
            number: of the photograph, from 0 to below len(paths).

        Returns:
            (H, W, 3) uint8, sRGB: where random squares are cut out, the photograph with a short side of at most
            ceil(size / min_crop); else the square itself.

        Raises:
            PhotoError: the file cannot be read.
        """
        path = self.paths[number]
        if self.train and self.resize == "crop":
            short = math.ceil(self.size / self.min_crop)
            photo = read_pixels(path, min_side=short)
            scale = short / min(photo.shape[:2])
            return photo if scale >= 1 else resized(photo, *(round(scale * side) for side in photo.shape[:2]))
        photo = read_pixels(path, min_side=self.size)
        if self.resize == "pad":
            return _pad(photo, self.size)
        return resized(_crop(photo, 1, 0.5, 0.5) if self.resize == "crop" else photo, self.size, self.size)

    def path_of(self, item: int | tuple[int, int]) -> Path:
        """The photograph that an item is cut from."""
        index = item[1] if isinstance(item, tuple) else item
        return self.paths[index % len(self) // self.crops]


class _Rgb(Dataset):
    """What workers hand over of a LabDataset: uint8, a quarter of the bytes of (L, ab)."""

    def __init__(self, dataset: LabDataset):
        self.dataset = dataset

    def __getitem__(self, item: int | tuple[int, int]) -> Tensor:
        return self.dataset.rgb(item)

    def path_of(self, item: int | tuple[int, int]) -> Path:
        return self.dataset.path_of(item)


def loader(dataset: LabDataset, batches: Iterable, workers: int, pin_memory: bool = False) -> DataLoader:
    """Load batches of photographs in the background; to be read by `read_batches`.

    Args:
        dataset: the photographs.
        batches: yields the items of each batch, such as a `RunOrder`.
        workers: processes that load; 0 = this one.
        pin_memory: lay batches where a GPU copies them from without waiting.
    """
    return loading.loader(_Rgb(dataset), batches, workers, pin_memory)


def read_batches(batches: DataLoader, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate a `loader`, and bring its photographs to Lab on the device.

    Yields:
        L: (N, 1, H, W) float32, in [-1, 1], channels_last on the device.
        ab: (N, 2, H, W) float32, in about [-1, 1], the same.

    Raises:
        PhotoError: a photograph could be read before the run, but no longer.
        GanColorError: workers die again and again, or one has not read its batch in five minutes.
    """
    for rgb in loading.read(batches):
        L, ab = color.rgb_to_lab(_channels_first(rgb.to(device, non_blocking=True)))
        yield L.contiguous(memory_format=torch.channels_last), ab.contiguous(memory_format=torch.channels_last)


def _crop(photo: np.ndarray, share: float, across: float, down: float) -> np.ndarray:
    """A square with this share of the short side as its side, and this share of what is left on its left and above."""
    height, width = photo.shape[:2]
    side = max(1, round(share * min(height, width)))
    left, top = round(across * (width - side)), round(down * (height - side))
    return photo[top : top + side, left : left + side]


def resized(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by torch's antialiased bicubic filter, which on bytes is several times as fast as Pillow's.

    It differs from Pillow's by 0.07 levels in the mean, and by more than one in 1 of 10,000 values.
    """
    pixels = _channels_first(torch.from_numpy(photo).unsqueeze(0))
    pixels = F.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
    return pixels.permute(0, 2, 3, 1).squeeze(0).numpy()


def _channels_first(photos: Tensor) -> Tensor:
    """(N, C, H, W) of (N, H, W, C), of the same memory: torch's channels_last, which it resizes as it lies."""
    return photos.permute(0, 3, 1, 2)


def _pad(photo: np.ndarray, size: int) -> np.ndarray:
    """The whole photograph in the middle of a square; black bars would be learnt as colours, so its edges go on."""
    scale = size / max(photo.shape[:2])
    height, width = (max(1, round(scale * side)) for side in photo.shape[:2])
    above, left = (size - height) // 2, (size - width) // 2
    margins = ((above, size - height - above), (left, size - width - left), (0, 0))
    return np.pad(resized(photo, height, width), margins, mode="edge")
