"""Images of any mode and colour profile as 8-bit sRGB and transparency."""

import io
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

# What Pillow raises for a profile that cannot be used.
_UNUSABLE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)


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
        return ImageCms.applyTransform(image, _to_srgb(None, "LAB")), None, True
    plain = image
    if image.has_transparency_data:
        plain = image.convert("RGBA")
        alpha = plain.getchannel("A")
    if plain.mode not in ("RGB", "CMYK", "L"):
        plain = plain.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    profile = image.info.get("icc_profile")
    if profile:
        try:
            if plain.mode != "RGB" or not _means_srgb(profile):
                return ImageCms.applyTransform(plain, _to_srgb(profile, plain.mode)), alpha, True
        except _UNUSABLE:
            return plain.convert("RGB"), alpha, False
    return plain if plain.mode == "RGB" else plain.convert("RGB"), alpha, True


def is_srgb(image: Image.Image) -> bool:
    """Whether `rgb_and_alpha` hands over an image's values as they are, but for grey ones, which it repeats.

    Args:
        image: any Pillow image, not yet decoded.
    """
    profile = image.info.get("icc_profile")
    if image.has_transparency_data or image.mode not in ("RGB", "L"):
        return False
    try:
        return not profile or (image.mode == "RGB" and _means_srgb(profile))
    except _UNUSABLE:
        return False


@lru_cache(32)
def _means_srgb(profile: bytes) -> bool:
    """Whether an embedded profile is one of sRGB, by its description; most photographs have one of a few."""
    description = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return "srgb" in description.lower()


@lru_cache(32)
def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform:
    """What brings images of a mode under a profile to sRGB; None = Lab's own. To build it takes as long as a use."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


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
