"""Looks at a photograph once: does it decode, has it colour, which content is it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from gan_color import color, images
from gan_color.data import photos
from gan_color.errors import PhotoError

# Chroma is a mean over the whole picture: a small version tells it.
_LOOK_SIDE = 64


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a file showed."""

    # Its path, as the system knows it.
    file: bytes
    # SHA-256 of the file, hex; None when it could not be read.
    digest: str | None
    # Mean chroma, Lab units; None when it could not be decoded.
    chroma: float | None
    # Why it cannot be used, with its path in front; None when it can.
    error: str | None = None
    # Format, width and height as stored, such as ("JPEG", 640, 480); None when it could not be decoded.
    stored: tuple[str, int, int] | None = None

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(os.fsdecode(self.file))


def look_at(path: Path) -> tuple[Look, Image.Image | None]:
    """Look at a file.

    Returns:
        What was seen, and a small version of the photograph, no side longer than 64 pixels; None where it cannot be
        read.
    """
    digest = None
    try:
        data = photos.read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        small = _small(photos.read_rgb(path, min_side=_LOOK_SIDE, data=data))
        return Look(os.fsencode(path), digest, mean_chroma(small), stored=photos.stored_as(path, data)), small
    except PhotoError as error:
        return Look(os.fsencode(path), digest, None, str(error)), None


def mean_chroma(photo: Image.Image) -> float:
    """Mean chroma of a photograph (mode RGB), Lab units; 0 is grey."""
    _, ab = color.rgb_to_lab(images.to_tensor(_small(photo)))
    return color.mean_chroma(ab).item()


def _small(photo: Image.Image) -> Image.Image:
    """A version with no side longer than 64 pixels."""
    scale = min(1, _LOOK_SIDE / max(photo.size))
    return photo.resize([max(1, round(side * scale)) for side in photo.size], reducing_gap=2)
