"""Images of any mode and colour profile as 8-bit sRGB and transparency."""

import io
from functools import cache

import numpy as np
from PIL import Image, ImageCms


def rgb_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None, bool]:
    """Bring an image of any mode to 8-bit sRGB, not yet upright.

    Args:
        image: any Pillow image; it is decoded, and not changed otherwise.

    Returns:
        The picture, mode RGB; its transparency, mode L, or None; and whether its colour profile could be used.
    """
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
    """16-bit, 32-bit or float grey to 8-bit grey; Pillow's own conversion cuts at 255.

    White is the first of 1, 255 (both for floats only) and 65,535 that no value exceeds; else the largest value.
    """
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        largest = finite.max(initial=0)
        values, whites = np.nan_to_num(values, posinf=largest, neginf=0), (1, 255, 65535)
    else:
        largest, whites = values.max(), (65535,)  # Pillow widens 16-bit files to mode I
        if largest <= 65535:
            return Image.fromarray(_eight_bits()[values.clip(0)])
    white = next((white for white in whites if largest <= white), largest)
    return Image.fromarray(np.uint8((values / np.float32(white)).clip(0, 1) * 255 + 0.5))


@cache
def _eight_bits() -> np.ndarray:
    """The 8-bit level of each 16-bit one, uint8 (65536,)."""
    return np.uint8(np.arange(65536) / 65535 * 255 + 0.5)
