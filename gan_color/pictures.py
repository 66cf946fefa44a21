"""Pictures about a coloured photograph: beside its grey self, and the histograms of its colours."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gan_color import color, images

_PAPER, _INK, _FAINT = (255, 255, 255), (60, 60, 60), (225, 225, 225)
_CHANNELS = {"red": (214, 60, 52), "green": (46, 160, 67), "blue": (48, 105, 220)}
# Drawn larger and shrunk: Pillow draws lines without soft edges.
_OVERSAMPLING = 3


def compare(original: Image.Image, coloured: Image.Image, with_original: bool = False, side: int = 1024) -> Image.Image:
    """Lay a photograph's versions side by side: grey | coloured (| original).

    Args:
        original: the photograph, upright, in any 8-bit mode; its lightness is the grey version.
        coloured: what became of it, of the same size.
        with_original: whether the photograph was in colour, which is then shown as well.
        side: longest side of one version, pixels; larger ones are shrunk.

    Returns:
        Pillow image, mode RGB.

    Raises:
        ValueError: the two differ in size.
    """
    if original.size != coloured.size:
        raise ValueError(
            f"the original is {original.size}, the coloured picture {coloured.size}: pass upright versions"
        )
    original, coloured = (_at_most(picture, side) for picture in (original, coloured))
    panels = {"grey": _grey(original), "coloured": coloured}
    if with_original:
        panels["original"] = original
    width, height = original.size
    gap = 12
    caption = round(min(32, max(13, max(width, height) / 32)))
    # A panel is never narrower than its caption.
    column = max(width, 5 * caption)
    page = Image.new("RGB", (gap + len(panels) * (column + gap), gap + height + gap + caption + gap), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(caption)
    for i, (name, picture) in enumerate(panels.items()):
        left = gap + i * (column + gap)
        page.paste(picture, (left + (column - width) // 2, gap))
        draw.text((left + column / 2, gap + height + gap / 2), name, _INK, font, anchor="ma")
    return page


def histogram(picture: Image.Image) -> Image.Image:
    """Draw the histograms of a picture's red, green and blue: the average mood of a photograph.

    The three share one scale; black and white (levels 0 and 255) may reach over it, so that a border or a burnt
    sky does not flatten the rest. Dashed lines are the means, the band below is the colour that they make.

    Args:
        picture: mode RGB or RGBA; transparent parts are left out.

    Returns:
        Pillow image, mode RGB, 960x600.
    """
    return draw_histogram(*_count(picture))


def draw_histogram(counts: np.ndarray, means: Sequence[float]) -> Image.Image:
    """Draw histograms of red, green and blue, as `histogram` does.

    Args:
        counts: pixels at each level, (3, 256).
        means: mean levels of the three.

    Returns:
        Pillow image, mode RGB, 960x600.
    """
    width, height, k = 960, 600, _OVERSAMPLING
    left, right, top, bottom = 48, width - 48, 72, height - 120
    x = left + (right - left) * np.arange(256) / 255
    share = counts / max(counts[:, 1:-1].max(), 1)
    y = bottom - (bottom - top) * share.clip(0, 1)

    page = Image.new("RGB", (width * k, height * k), _PAPER)
    draw = ImageDraw.Draw(page)
    for level in range(0, 256, 32):
        at = x[level] * k
        draw.line([(at, top * k), (at, bottom * k)], _FAINT, k)
    layers = np.asarray(page).astype(np.float32)
    for tint, curve in zip(_CHANNELS.values(), y, strict=True):
        area = Image.new("L", page.size)
        outline = [(left * k, bottom * k), *zip(x * k, curve * k, strict=True), (right * k, bottom * k)]
        ImageDraw.Draw(area).polygon(outline, fill=255)
        cover = np.asarray(area)[..., None] / np.float32(255) * np.float32(0.32)
        layers += cover * (np.array(tint, np.float32) - layers)
    page = Image.fromarray(np.uint8(layers + 0.5))
    draw = ImageDraw.Draw(page)
    for tint, curve, mean in zip(_CHANNELS.values(), y, means, strict=True):
        draw.line(list(zip(x * k, curve * k, strict=True)), tint, 2 * k, joint="curve")
        at = (left + (right - left) * mean / 255) * k
        for start in range(top * k, bottom * k, 14 * k):
            draw.line([(at, start), (at, min(start + 7 * k, bottom * k))], tint, 2 * k)
    draw.line([(left * k, bottom * k), (right * k, bottom * k)], _INK, k)
    page = page.resize((width, height), Image.Resampling.LANCZOS)

    draw, font = ImageDraw.Draw(page), ImageFont.load_default(17)
    for level in (*range(0, 256, 32), 255):
        draw.text((x[level], bottom + 8), str(level), _INK, ImageFont.load_default(14), anchor="ma")
    for (name, tint), mean, at in zip(_CHANNELS.items(), means, (left, left + 190, left + 390), strict=True):
        draw.rounded_rectangle([at, 28, at + 18, 46], 4, tint)
        draw.text((at + 28, 37), f"{name}, mean {mean:.0f}", _INK, font, anchor="lm")
    mood = tuple(round(mean) for mean in means)
    draw.rounded_rectangle([left, height - 72, right, height - 24], 8, mood)
    luma = 0.299 * mood[0] + 0.587 * mood[1] + 0.114 * mood[2]
    said = "mean colour #{:02x}{:02x}{:02x}".format(*mood)
    draw.text((width / 2, height - 48), said, _PAPER if luma < 140 else _INK, font, anchor="mm")
    return page


def _count(picture: Image.Image) -> tuple[np.ndarray, list[float]]:
    """Pixels at each level of red, green and blue, int64 (3, 256), and the mean levels; 0 where nothing is seen."""
    seen = picture.getchannel("A").point(lambda alpha: 255 if alpha else 0) if picture.mode == "RGBA" else None
    counts = np.array(picture.convert("RGB").histogram(seen), dtype=np.int64).reshape(3, 256)
    return counts, (counts @ np.arange(256) / np.maximum(counts.sum(axis=1), 1)).tolist()


def _at_most(picture: Image.Image, side: int) -> Image.Image:
    """A picture on white, mode RGB, no side longer than `side`."""
    if max(picture.size) > side:
        picture = ImageOps.contain(picture, (side, side), Image.Resampling.LANCZOS)
    return images.on_white(picture)


def _grey(picture: Image.Image) -> Image.Image:
    """A picture's lightness alone, which is not the grey that Pillow makes."""
    L = color.lightness(images.to_tensor(picture))
    return images.to_image(color.lab_to_rgb(L, torch.zeros(1, 2, *L.shape[-2:])))
