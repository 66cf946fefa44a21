"""The one reader for anyone's files: finds photographs and turns each into upright 8-bit sRGB.

Training and inference read through `read_rgb`, so a photograph is the same picture to both.
"""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from gan_color.errors import DataError, PhotoError, shown

# Decoders that may run, whatever a file calls itself. Phones' MPO files open as JPEG; some Oxford pets are GIF.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"])
# Refused before decoding: twice Pillow's own limit, where Pillow refuses too.
MAX_PIXELS = 2 * 89_478_485

# Pillow warns from half our limit on; the limit itself is checked on every file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def find_photos(folder: Path) -> list[Path]:
    """List the photographs in a folder and its subfolders.

    Hidden files and folders are left out, links are followed, a loop of links is walked once, and only
    regular files are listed: a pipe or a device is never opened.

    Args:
        folder: where to look.

    Returns:
        Paths sorted by their bytes, so that the order does not depend on the file system or the locale.

    Raises:
        DataError: the folder cannot be listed, or holds no photograph.
    """
    found, waiting, visited = [], [folder], set()
    while waiting:
        here = waiting.pop()
        try:
            at = here.stat()
            if (at.st_dev, at.st_ino) in visited:
                continue
            visited.add((at.st_dev, at.st_ino))
            entries = list(os.scandir(here))
        except OSError as error:
            raise DataError(f"{shown(here)} cannot be listed: {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                elif entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
                    found.append(Path(entry.path))
            except OSError:
                continue  # a link that leads nowhere or in a circle
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise DataError(f"{shown(folder)} holds no photographs: give a folder with {kinds} files in it")
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
    if data is None:
        data = read_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PhotoError(f"{shown(path)}: {width}x{height} is over the limit of {MAX_PIXELS:,} pixels")
            if min_side is not None and min(width, height) > min_side:
                shrink = min_side / min(width, height)
                image.draft(None, (round(width * shrink), round(height * shrink)))
            return as_rgb(image)
    except PhotoError:
        raise
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{shown(path)}: not a photograph in a format of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise a dozen types for broken files
        raise PhotoError(f"{shown(path)}: broken ({str(error).splitlines()[0] if str(error) else error!r})") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn a decoded image of any mode into upright 8-bit sRGB, as `read_rgb` does.

    Args:
        image: any Pillow image.

    Returns:
        Pillow image, mode RGB.
    """
    return _upright(_to_rgb(image))


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; EXIF that cannot be read has none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image of any mode to RGB, keeping its EXIF for `_upright`."""
    exif = image.info.get("exif")
    if image.mode.startswith("I") or image.mode == "F":
        rgb = _from_deep_grey(image).convert("RGB")
    elif image.mode == "LAB":
        rgb = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", rgba.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = _through_profile(image) or image.convert("RGB")
    if exif:
        rgb.info["exif"] = exif
    return rgb


def _through_profile(image: Image.Image) -> Image.Image | None:
    """Convert by the embedded colour profile; None without a usable one."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey to 8-bit grey; Pillow's own conversion cuts at 255."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values)
        white = 1.0 if values.max() <= 1 else 255.0
    else:
        white = 65535.0  # Pillow widens 16-bit files to mode I
    return Image.fromarray(np.uint8(np.clip(values / white, 0, 1) * 255 + 0.5))
