"""The one reader for anyone's files: finds photographs and turns each into upright 8-bit sRGB.

Training reads with `read_rgb`, inference with `read_photo`: the same picture, and what else its file holds.
"""

import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from gan_color import images
from gan_color.data import exif
from gan_color.errors import DataError, PhotoError, shown

# Decoders that may run, whatever a file calls itself. Phones' MPO files open as JPEG; some Oxford pets are GIF.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"])
# Refused before decoding: twice Pillow's own limit, where Pillow refuses too.
MAX_PIXELS = 2 * 89_478_485

# Pillow warns from half our limit on; the limit itself is checked on every file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Pillow warns of broken metadata; `Photo.notes` says it with the file's name.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True)
class Photo:
    """A photograph, and what its file held besides the picture.

    Attributes:
        rgb: mode RGB, upright, 8-bit sRGB; under transparent parts the colours that the file has there.
        alpha: mode L, of the same size, 255 = opaque; None = the file has no transparency.
        exif: EXIF to save with another version of the picture: orientation 1, no preview; None = none.
        notes: what of the file could not be taken over, each a short phrase.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = ()

    def on_white(self) -> Image.Image:
        """The picture as it is seen on a white page, mode RGB."""
        return images.on_white(self.rgb, self.alpha)


def find_photos(folder: Path) -> list[Path]:
    """List the photographs in a folder and its subfolders: the files of `walk` with one of `SUFFIXES`.

    Args:
        folder: where to look.

    Returns:
        Paths sorted by their bytes.

    Raises:
        DataError: the folder cannot be listed, or holds no photograph.
    """
    found = [path for path in walk(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise DataError(f"{shown(folder)} holds no photographs: give a folder with {kinds} files in it")
    return found


def walk(folder: Path) -> list[Path]:
    """List the files in a folder and its subfolders.

    Hidden files and folders are left out, links are followed, and a loop of links is walked once. Links that lead
    nowhere, pipes and devices are listed, to be named by `read_bytes`, which opens none of them.

    Args:
        folder: where to look.

    Returns:
        Paths sorted by their bytes, so that the order does not depend on the file system or the locale.

    Raises:
        DataError: the folder cannot be listed.
    """
    found, waiting, visited = [], [folder], set()
    while waiting:
        here = waiting.pop()
        try:
            at = here.stat()
            if (at.st_dev, at.st_ino) in visited:
                continue
            visited.add((at.st_dev, at.st_ino))
            # Sorted, so that a folder reached by two names is always listed under the same one.
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise DataError(f"{shown(here)} cannot be listed: {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False  # a link that leads in a circle
            (waiting if is_folder else found).append(Path(entry.path))
    return sorted(found, key=os.fsencode)


def read_bytes(path: Path) -> bytes:
    """Read a regular file whole.

    Raises:
        PhotoError: it is missing, not permitted, or no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PhotoError(f"{shown(path)}: not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"{shown(path)}: {error.strerror}") from error


def read_rgb(path: Path, min_side: int | None = None, data: bytes | None = None) -> Image.Image:
    """Read a photograph as upright 8-bit sRGB.

    The first frame of an animation; EXIF orientation applied; embedded colour profiles converted to sRGB;
    16-bit values at their true scale; transparent parts laid on white.

    Args:
        path: the file.
        min_side: a JPEG may be decoded at a half, quarter or eighth of its size as long as its short side
            stays at least this many pixels; None = full size.
        data: the file's bytes where they are already at hand.

    Returns:
        Pillow image, mode RGB.

    Raises:
        PhotoError: the file cannot be read as a photograph; the message names it and says why.
    """
    with _opened(path, read_bytes(path) if data is None else data) as image:
        width, height = image.size
        if min_side is not None and min(width, height) > min_side:
            shrink = min_side / min(width, height)
            image.draft(None, (round(width * shrink), round(height * shrink)))
        return as_rgb(image)


def read_photo(path: Path, keep_gps: bool = True) -> Photo:
    """Read a photograph with its transparency and its EXIF.

    Args:
        path: the file.
        keep_gps: whether the EXIF may say where the photograph was taken.

    Raises:
        PhotoError: as `read_rgb`.
    """
    with _opened(path, read_bytes(path)) as image:
        return as_photo(image, keep_gps)


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn a decoded image of any mode into upright 8-bit sRGB, as `read_rgb` does.

    Args:
        image: any Pillow image.

    Returns:
        Pillow image, mode RGB.
    """
    rgb, alpha, _ = _decode(image)
    return exif.upright(images.on_white(rgb, alpha), image)


def as_photo(image: Image.Image, keep_gps: bool = True) -> Photo:
    """Turn a decoded image of any mode into a photograph, as `read_photo` does.

    Args:
        image: any Pillow image; it is not changed.
        keep_gps: whether the EXIF may say where the photograph was taken.
    """
    notes = []
    if getattr(image, "is_animated", False):
        notes.append("only its first frame is read")
    if ";16" in str(getattr(image, "tile", "")) or image.mode.startswith("I"):
        notes.append("its 16 bits a channel are read as 8")
    rgb, alpha, profile_is_usable = _decode(image)
    block, is_whole = exif.for_a_copy(image, keep_gps)
    if not profile_is_usable:
        notes.append("its colour profile cannot be used: taken for sRGB")
    rgb, alpha = exif.upright(rgb, image), alpha and exif.upright(alpha, image)
    if not is_whole:
        notes.append("its EXIF is broken and left out")
    return Photo(rgb, alpha, block, tuple(notes))


@contextlib.contextmanager
def _opened(path: Path, data: bytes) -> Iterator[Image.Image]:
    """Open a photograph; whatever goes wrong until it is closed becomes a PhotoError that names it."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PhotoError(f"{shown(path)}: {width}x{height} is over the limit of {MAX_PIXELS:,} pixels")
            yield image
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError(f"{shown(path)}: too large for the memory that is free") from error
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{shown(path)}: not a photograph in a format of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise a dozen types for broken files
        raise PhotoError(f"{shown(path)}: broken ({str(error).splitlines()[0] if str(error) else error!r})") from error


def _decode(image: Image.Image) -> tuple[Image.Image, Image.Image | None, bool]:
    """An image of any mode as RGB and alpha, not yet upright, and whether its colour profile could be used."""
    image.load()
    if image.mode == "La":  # Pillow converts it to this only
        image = image.convert("LA")
    alpha = None
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if "transparency" in image.info:
            alpha = Image.fromarray(np.uint8(values != image.info["transparency"]) * np.uint8(255))
        return _from_deep_grey(values).convert("RGB"), alpha, True
    if image.mode == "LAB":
        return _transformed(image, ImageCms.createProfile("LAB")), None, True
    plain = image
    if image.has_transparency_data:
        plain = image.convert("RGBA")
        alpha = plain.getchannel("A")
    if plain.mode not in ("RGB", "CMYK", "L"):
        plain = plain.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if plain.mode != "RGB" or "srgb" not in ImageCms.getProfileDescription(source).lower():
                return _transformed(plain, source), alpha, True
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return plain.convert("RGB"), alpha, False
    return plain if plain.mode == "RGB" else plain.convert("RGB"), alpha, True


def _transformed(image: Image.Image, profile: object) -> Image.Image:
    """An image under a colour profile as sRGB."""
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")


def _from_deep_grey(values: np.ndarray) -> Image.Image:
    """16-bit, 32-bit or float grey to 8-bit grey; Pillow's own conversion cuts at 255."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        white = 1.0 if values.max() <= 1 else 255.0
        return Image.fromarray(np.uint8(np.clip(values / white, 0, 1) * 255 + 0.5))
    return Image.fromarray(_eight_bits()[np.clip(values, 0, 65535)])  # Pillow widens 16-bit files to mode I


@cache
def _eight_bits() -> np.ndarray:
    """The 8-bit level of each 16-bit one, uint8 (65536,)."""
    return np.uint8(np.arange(65536) / 65535 * 255 + 0.5)
