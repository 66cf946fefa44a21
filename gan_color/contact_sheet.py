"""Contact sheets: many small photographs on one page, with what is to be said of them."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

_PAPER, _INK, _FAINT = (255, 255, 255), (50, 50, 50), (120, 120, 120)
_GAP, _LINE = 6, 18


def contact_sheet(
    title: str, rows: Sequence[tuple[str, Sequence[Image.Image]]], headings: Sequence[str] = (), side: int = 144
) -> Image.Image:
    """Lay photographs out in rows.

    Args:
        title: stands above them.
        rows: each a caption, which stands under it ("" = none), and its photographs of any size, mode RGB.
        headings: of the columns.
        side: of the square each photograph is fitted into, pixels.

    Returns:
        Pillow image, mode RGB.
    """
    columns = max(len(pictures) for _, pictures in rows)
    width = _GAP + columns * (side + _GAP)
    caption = _LINE * any(said for said, _ in rows)
    top = 2 * _GAP + _LINE * (1 + bool(headings))
    page = Image.new("RGB", (width, top + len(rows) * (side + caption + _GAP)), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    draw.text((_GAP, _GAP), _fitting(title, width - 2 * _GAP, font), _INK, font)
    for i, heading in enumerate(headings):
        draw.text((_GAP + i * (side + _GAP), _GAP + _LINE), heading, _FAINT, font)
    for row, (said, pictures) in enumerate(rows):
        y = top + row * (side + caption + _GAP)
        for i, picture in enumerate(pictures):
            small = ImageOps.contain(picture, (side, side), Image.Resampling.BICUBIC)
            x = _GAP + i * (side + _GAP)
            page.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
        if said:
            draw.text((_GAP, y + side + 1), _fitting(said, width - 2 * _GAP, font), _INK, font)
    return page


def join(pages: Sequence[Image.Image], downwards: bool = False) -> Image.Image:
    """Lay pages beside one another, or one below the other."""
    gap = 3 * _GAP
    along, across = (1, 0) if downwards else (0, 1)
    size = [0, 0]
    size[along] = sum(page.size[along] for page in pages) + gap * (len(pages) - 1)
    size[across] = max(page.size[across] for page in pages)
    whole = Image.new("RGB", size, _PAPER)
    at = [0, 0]
    for page in pages:
        whole.paste(page, tuple(at))
        at[along] += page.size[along] + gap
    return whole


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """A text, its middle left out where it is too long."""
    text = text.encode("latin-1", "replace").decode("latin-1")  # what Pillow's own font can draw
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(f"{text[: keep // 2]}...{text[-(keep // 2) :]}") > width:
        keep -= 2
    return f"{text[: keep // 2]}...{text[-(keep // 2) :]}"
