"""Writes a picture in the format that a file's name asks for, with all that the format can hold."""

import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageCms

from gan_color import images
from gan_color.errors import PhotoError, UsageError, shown

_FORMAT = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
# JPEG alone loses something: 4:4:4 keeps fine colour, which is what was added.
_OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "PNG": {"compress_level": 2},  # a third of the default's time for photographs, which become no larger
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {},  # compressed, it could not hold EXIF
    "BMP": {},
}
_HOLD_ALPHA = ("PNG", "WEBP", "TIFF")
_LARGEST_EXIF_IN_JPEG = 65_533


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file's suffix asks for.

    Raises:
        UsageError: it asks for none that is written.
    """
    try:
        return _FORMAT[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"--output {shown(path)}: end it in .png, .jpg, .webp, .tif or .bmp") from None


def writable_name(name: str) -> str:
    """A file name for a new version of a photograph: its own, with .png behind it where its format is not written."""
    return name if Path(name).suffix.lower() in _FORMAT else f"{name}.png"


def encode(
    picture: Image.Image, path: Path, exif: bytes | None = None, dpi: tuple[float, float] | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """Encode a picture, tagged sRGB.

    Args:
        picture: mode RGB or RGBA.
        path: its suffix says the format: PNG, WebP and TIFF without loss, JPEG at quality 95, BMP.
        exif: EXIF block to go with it.
        dpi: dots per inch across and down; WebP has no place for them but in EXIF.

    Returns:
        The file's content, and notes on what the format could not hold.

    Raises:
        PhotoError: the format cannot hold the picture, such as a JPEG of more than 65,500 pixels a side.
    """
    format_, notes = format_of(path), []
    options = dict(_OPTIONS[format_])
    if format_ != "BMP":
        options["icc_profile"] = _srgb_profile()
    if dpi and format_ != "WEBP":
        options["dpi"] = dpi
    if picture.mode == "RGBA" and format_ not in _HOLD_ALPHA:
        picture = images.on_white(picture)
        notes.append(f"{format_} holds no transparency: laid on white")
    if exif and (format_ == "BMP" or (format_ == "JPEG" and len(exif) > _LARGEST_EXIF_IN_JPEG)):
        notes.append(f"{format_} cannot hold its EXIF: left out")
    elif exif:
        options["exif"] = exif
    buffer = io.BytesIO()
    try:
        picture.save(buffer, format_, **options)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's encoders raise several types for what they cannot hold
        raise PhotoError(f"{shown(path)}: cannot be written as {format_} ({error})") from error
    return buffer.getvalue(), tuple(notes)


@cache
def _srgb_profile() -> bytes:
    """The sRGB profile, 588 bytes, without the date of its making: one picture is one file."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)
    return bytes(profile)
