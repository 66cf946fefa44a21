"""Looks at every photograph once before a long run: does it decode, has it colour, which content is it."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from gan_color import color, images
from gan_color.data import photos
from gan_color.errors import PhotoError

# Chroma is a mean over the whole picture: a small version tells it.
_LOOK_SIDE = 64


@dataclass(frozen=True)
class Look:
    """What one look at a file showed."""

    path: Path
    # SHA-256 of the file, hex; None when it could not be read.
    digest: str | None
    # Mean chroma, Lab units; None when it could not be decoded.
    chroma: float | None
    # Why it cannot be used, with its path in front; None when it can.
    error: str | None = None
    # Format, width and height as stored, such as ("JPEG", 640, 480); None when it could not be decoded.
    stored: tuple[str, int, int] | None = None


def scan(paths: list[Path], show_progress: bool = True) -> list[Look]:
    """Look at files.

    Args:
        paths: the files.
        show_progress: draw a bar where the output is a terminal.

    Returns:
        One `Look` a path, in the order of paths.
    """
    return [look for look, _ in scan_with_pictures(paths, show_progress)]


def scan_with_pictures(paths: list[Path], show_progress: bool = True) -> Iterator[tuple[Look, Image.Image | None]]:
    """Look at files, several at a time (Pillow and hashing release the interpreter's lock).

    Args:
        paths: the files.
        show_progress: draw a bar where the output is a terminal.

    Yields:
        The `Look` of each path, in their order, and a small version of the photograph, no side longer than 64
        pixels; None where it cannot be read.
    """
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        looks = pool.map(_look, paths)
        yield from tqdm(looks, "looking at photographs", len(paths), disable=None if show_progress else True)


def mean_chroma(photo: Image.Image) -> float:
    """Mean chroma of a photograph (mode RGB), Lab units; 0 is grey."""
    _, ab = color.rgb_to_lab(images.to_tensor(_small(photo)))
    return color.mean_chroma(ab).item()


def _small(photo: Image.Image) -> Image.Image:
    """A version with no side longer than 64 pixels."""
    scale = min(1, _LOOK_SIDE / max(photo.size))
    return photo.resize([max(1, round(side * scale)) for side in photo.size], reducing_gap=2)


def _look(path: Path) -> tuple[Look, Image.Image | None]:
    digest = None
    try:
        data = photos.read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        small = _small(photos.read_rgb(path, min_side=_LOOK_SIDE, data=data))
        return Look(path, digest, mean_chroma(small), stored=photos.stored_as(path, data)), small
    except PhotoError as error:
        return Look(path, digest, None, str(error)), None
