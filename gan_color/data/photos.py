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
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from gan_color import images
from gan_color.data import exif, modes
from gan_color.data.paths import Paths
from gan_color.errors import DataError, PhotoError, shown

# Decoders that may run, whatever a file calls itself. Phones' MPO files open as JPEG; some Oxford pets are GIF.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"])
_SUFFIXES = frozenset(map(os.fsencode, SUFFIXES))
# Photographs by name that are refused with a cure.
SUFFIXES_TO_CONVERT = frozenset([".heic", ".heif", ".avif"])
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
        dpi: dots per inch across and down, to save with another version; None = not said.
        notes: what of the file could not be taken over, each a short phrase.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def on_white(self) -> Image.Image:
        """The picture as it is seen on a white page, mode RGB."""
        return images.on_white(self.rgb, self.alpha)


def find_photos(folder: Path) -> Paths:
    """List the photographs in a folder and its subfolders: the files of `walk` with one of `SUFFIXES`.

    Args:
        folder: where to look.

    Returns:
        Paths sorted by their bytes.

    Raises:
        DataError: the folder or one in it cannot be listed, or it holds no photograph.
    """
    files, unlisted = _walk(folder)
    if unlisted:
        raise next(iter(unlisted.values()))
    found = Paths(file for file in files if file[file.rfind(b".") :].lower() in _SUFFIXES)
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise DataError(f"{shown(folder)} holds no photographs: give a folder with {kinds} files in it")
    return found


def walk(folder: Path) -> tuple[list[Path], dict[Path, DataError]]:
    """List the files in a folder and its subfolders.

    Hidden files and folders are left out, links are followed, and a loop of links is walked once. Links that lead
    nowhere, pipes and devices are listed, to be named by `read_bytes`, which opens none of them.

    Args:
        folder: where to look.

    Returns:
        Paths sorted by their bytes, so that the order does not depend on the file system or the locale; and the
        subfolders that cannot be listed, with the reason.

    Raises:
        DataError: the folder itself cannot be listed.
    """
    files, unlisted = _walk(folder)
    return [Path(os.fsdecode(path)) for path in files], unlisted


def _walk(folder: Path) -> tuple[list[bytes], dict[Path, DataError]]:
    """`walk` by bytes, which for a million files is several times as fast as by `Path`."""
    found, unlisted, waiting, visited = [], {}, [os.fsencode(folder)], set()
    while waiting:
        here = waiting.pop()
        try:
            at = os.stat(here)  # noqa: PTH116 (bytes)
            if (at.st_dev, at.st_ino) in visited:
                continue
            visited.add((at.st_dev, at.st_ino))
            # Sorted, so that a folder reached by two names is always listed under the same one.
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            path = Path(os.fsdecode(here))
            reason = DataError(f"{shown(path)} cannot be listed: {error.strerror}")
            if path == folder:
                raise reason from error
            unlisted[path] = reason
            continue
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False  # a link that leads in a circle
            (waiting if is_folder else found).append(entry.path)
    return sorted(found), unlisted


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


def read_pixels(path: Path, min_side: int | None = None) -> np.ndarray:
    """Read a photograph as upright 8-bit sRGB: the pixels of `read_rgb`, in less time where the file is a plain JPEG.

    Pillow opens every file; a JPEG that it would decode at full size and hand over as it is, is decoded by simplejpeg,
    the same library below and two thirds of the time. What that refuses is Pillow's.

    Args:
        path: the file.
        min_side: as `read_rgb`.

    Returns:
        (H, W, 3) uint8, sRGB.

    Raises:
        PhotoError: as `read_rgb`.
    """
    data = read_bytes(path)
    with _opened(path, data) as image:
        shrinks = min_side is not None and min(image.size) >= 2 * min_side
        if image.format == "JPEG" and not shrinks and modes.is_srgb(image) and exif.is_upright(image):
            with contextlib.suppress(ValueError):  # raised for all that libjpeg only warns of, too
                return simplejpeg.decode_jpeg(data, "RGB")
    return np.array(read_rgb(path, min_side, data))


def stored_as(path: Path, data: bytes) -> tuple[str, int, int]:
    """Tell a photograph's format, width and height as stored, without decoding it.

    Args:
        path: the file.
        data: its bytes.

    Raises:
        PhotoError: as `read_rgb`.
    """
    with _opened(path, data) as image:
        return image.format, *image.size


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
    rgb, alpha, _ = modes.rgb_and_alpha(image)
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
    if image.mode == "F":
        notes.append("its floating-point values are read as 8 bits")
    rgb, alpha, profile_is_usable = modes.rgb_and_alpha(image)
    block, is_whole = exif.for_a_copy(image, keep_gps)
    if not profile_is_usable:
        notes.append("its colour profile cannot be used: taken for sRGB")
    rgb, alpha = exif.upright(rgb, image), alpha and exif.upright(alpha, image)
    if not is_whole:
        notes.append("its EXIF is broken and left out")
    return Photo(rgb, alpha, block, exif.resolution(image), tuple(notes))


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
        name = _name_to_convert(data)
        if name:
            raise PhotoError(f"{shown(path)}: {name} is not read: convert it to JPEG or PNG first") from error
        raise PhotoError(f"{shown(path)}: not a photograph in a format of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise a dozen types for broken files
        raise PhotoError(f"{shown(path)}: broken ({str(error).splitlines()[0] if str(error) else error!r})") from error


def _name_to_convert(data: bytes) -> str | None:
    """The name of a format that phones write and that is not read, by the brands at its start (ISO/IEC 14496-12)."""
    if data[4:8] != b"ftyp":
        return None
    brands = data[8 : min(int.from_bytes(data[:4]), 256)]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIC" if any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")) else None
