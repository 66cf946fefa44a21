"""EXIF: turns a picture upright, and goes with another version of it."""

from PIL import ExifTags, Image

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# TIFF tags that say how pixels lie in the file they were read from, and would be wrong in another.
_TAGS_OF_THE_FILE = {*range(254, 269), 273, *range(277, 282), 284, *range(288, 294), 301, *range(317, 350)}
_TAGS_OF_THE_FILE |= {*range(512, 533), 700, 33723, 34377, 34675}
# Bytes of an EXIF block with a header and no entry: none, rather than a broken one.
_WITHOUT_ENTRY = 32
# What JPEG can hold.
_MOST_DPI = 65_535


def upright(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Turn a picture by the orientation in its source's EXIF.

    Args:
        picture: what was made of source.
        source: a decoded image; after decoding, because a TIFF is turned by its decoder.

    Returns:
        The picture, itself when it is upright or the EXIF cannot be read.
    """
    turn = _turn(source)
    return picture if turn is None else picture.transpose(turn)


def is_upright(image: Image.Image) -> bool:
    """Whether `upright` would leave an image as it is."""
    return _turn(image) is None


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # broken EXIF raises a dozen types
        return None


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """The dots per inch of an image, across and down when it is upright; None where it does not say, or nonsense.

    Args:
        image: decoded.
    """
    try:
        across, down = (float(value) for value in image.info["dpi"])
        lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except Exception:  # broken EXIF raises a dozen types
        return None
    if not (1 <= across <= _MOST_DPI and 1 <= down <= _MOST_DPI):
        return None
    return (down, across) if lies else (across, down)


def for_a_copy(image: Image.Image, keep_gps: bool) -> tuple[bytes | None, bool]:
    """Make the EXIF that goes with an upright sRGB version of an image: orientation 1, no size, no preview.

    Args:
        image: decoded, because PNG may have its EXIF after the pixels; it keeps its own as it is.
        keep_gps: whether it may say where the photograph was taken.

    Returns:
        The EXIF block, None where there is none, and whether the image's own could be read.
    """
    try:
        own = image.getexif()
        if not own:
            return None, len(image.info.get("exif") or b"") <= _WITHOUT_ENTRY
        exif = Image.Exif()
        exif.load(own.tobytes())
        for tag in _TAGS_OF_THE_FILE.intersection(exif):
            del exif[tag]
        if not keep_gps and ExifTags.IFD.GPSInfo in exif:
            del exif[ExifTags.IFD.GPSInfo]
        if ExifTags.Base.Orientation in exif:
            exif[ExifTags.Base.Orientation] = 1
        if ExifTags.IFD.Exif in exif:
            details = exif.get_ifd(ExifTags.IFD.Exif)
            details.pop(ExifTags.Base.ExifImageWidth, None)
            details.pop(ExifTags.Base.ExifImageHeight, None)
            if ExifTags.Base.ColorSpace in details:
                details[ExifTags.Base.ColorSpace] = 1  # sRGB
        return (exif.tobytes() if exif else None), True
    except Exception:  # entries of the wrong type or length
        return None, False
