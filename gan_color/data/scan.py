"""Looks at every photograph once before a long run: does it decode, has it colour, which content is it."""

import hashlib
import os
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


def scan(paths: list[Path], show_progress: bool = True) -> list[Look]:
    """Look at files, several at a time (Pillow and hashing release the interpreter's lock).

    Args:
        paths: the files.
        show_progress: draw a bar where the output is a terminal.

    Returns:
        One `Look` a path, in the order of paths.
    """
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        looks = pool.map(_look, paths)
        bar = tqdm(looks, "looking at photographs", len(paths), disable=None if show_progress else True)
        return list(bar)


def mean_chroma(photo: Image.Image) -> float:
    """Mean chroma of a photograph (mode RGB), Lab units; 0 is grey."""
    scale = min(1, _LOOK_SIDE / max(photo.size))
    small = photo.resize([max(1, round(side * scale)) for side in photo.size], reducing_gap=2)
    _, ab = color.rgb_to_lab(images.to_tensor(small))
    return color.mean_chroma(ab).item()


def _look(path: Path) -> Look:
    digest = None
    try:
        data = photos.read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        return Look(path, digest, mean_chroma(photos.read_rgb(path, min_side=_LOOK_SIDE, data=data)))
    except PhotoError as error:
        return Look(path, digest, None, str(error))
