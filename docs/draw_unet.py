"""Draw what a U-Net makes of a photograph: the feature maps on its way down, those on its way up, and the skips.

python docs/draw_unet.py general --out docs/unet.jpg
"""

from pathlib import Path

import skimage.data
import torch
import tyro
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gan_color import color, images, load_generator
from gan_color.errors import UsageError, one_line_errors

_PAPER, _INK, _ARROW = (255, 255, 255), (50, 50, 50), (150, 150, 150)
# Of a feature map on the page, by its depth, pixels.
_SIDES = (150, 124, 100, 80, 64, 52)
_WIDTH, _MARGIN, _GAP, _INDENT = 860, 14, 52, 34
# Channels drawn of a feature map, one behind the other.
_CHANNELS = 3


def maps_of(generator, L: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What each decoder block takes from its skip, and what it gives, from full resolution down; last the deepest."""
    seen = []
    hooks = [
        block.register_forward_hook(lambda _, given, made: seen.append((given[1], made, given[0])))
        for block in generator.decoder
    ]
    with torch.inference_mode():
        generator(L)
    for hook in hooks:
        hook.remove()
    deepest = seen[0][2]
    return [(skip, made) for skip, made, _ in reversed(seen)] + [(deepest, deepest)]


def stack(page: Image.Image, maps: Tensor, x: int, y: int, side: int) -> None:
    """The channels that vary most, each from black, its least, to white, its largest value, and the shape below.

    Least and largest but for a fiftieth of the values: a single spot would leave all else black.
    """
    channels = maps[0].float()
    if len(channels) > 1:
        spread = torch.quantile(channels.flatten(1), torch.tensor([0.02, 0.98]), dim=1)[..., None, None]
        channels = channels.clamp(*spread)
    most = channels.flatten(1).std(dim=1).argsort(descending=True)[:_CHANNELS]
    for number, channel in reversed(list(enumerate(channels[most]))):
        low, high = channel.min(), channel.max()
        grey = (channel - low) / (high - low).clamp(min=1e-6)
        if len(channels) > 1:
            grey = grey.sqrt()  # most of a feature lies near its least value
        at = x + 7 * number, y + 7 * (min(len(channels), _CHANNELS) - 1 - number)
        page.paste(Image.fromarray((255 * grey).byte().numpy()).resize((side, side), Image.Resampling.NEAREST), at)
        ImageDraw.Draw(page).rectangle((*at, at[0] + side, at[1] + side), outline=_PAPER)
    words(page, " x ".join(str(length) for length in maps.shape[1:]), x, y + side + 16)


def words(page: Image.Image, text: str, x: int, y: int) -> None:
    """A line of text."""
    ImageDraw.Draw(page).text((x, y), text, _INK, ImageFont.load_default(13))


def arrow(page: Image.Image, begin: tuple[int, int], end: tuple[int, int]) -> None:
    """A line with a head, along one axis."""
    draw = ImageDraw.Draw(page)
    draw.line((*begin, *end), _ARROW, 2)
    along = [(b < e) - (b > e) for b, e in zip(begin, end, strict=True)]
    foot = end[0] - 8 * along[0], end[1] - 8 * along[1]
    across = 5 * along[1], 5 * along[0]
    draw.polygon([end, (foot[0] + across[0], foot[1] + across[1]), (foot[0] - across[0], foot[1] - across[1])], _ARROW)


def main(generator: tyro.conf.Positional[str], out: Path, size: int = 128):
    """Draw a U-Net at work on the cat inside scikit-image.

    Args:
        generator: a run folder, a generator folder or a name; of resnet_unet or squeezenet_unet.
        out: the picture to write, .png or .jpg.
        size: side of the square that the network is shown, pixels.
    """
    if generator.endswith(".onnx"):
        raise UsageError(f"{generator} shows no feature maps: give the folder that it was exported from")
    network = load_generator(generator)
    if (architecture := network.description["architecture"]) not in ("resnet_unet", "squeezenet_unet"):
        raise UsageError(f"{generator} is a {architecture}: take a resnet_unet or a squeezenet_unet")
    photo = Image.fromarray(skimage.data.chelsea()[:, 90:390]).resize((size, size), Image.Resampling.BICUBIC)
    L, _ = color.rgb_to_lab(images.to_tensor(photo))
    *levels, (deepest, _) = maps_of(network, L)
    with torch.inference_mode():
        coloured = images.to_image(color.lab_to_rgb(L, network(L))[0])

    tops = [_MARGIN + sum(side + _GAP for side in _SIDES[:depth]) for depth in range(len(_SIDES))]
    page = Image.new("RGB", (_WIDTH, tops[-1] + _SIDES[-1] + _GAP), _PAPER)
    right_edge = _WIDTH - _MARGIN - 2 * _SIDES[0] - 70
    for depth, ((skip, made), side, y) in enumerate(zip(levels, _SIDES, tops, strict=False)):
        left, right = _MARGIN + depth * _INDENT, right_edge - depth * _INDENT
        stack(page, skip, left, y, side)
        stack(page, made, right, y, side)
        arrow(page, (left + side + 24, y + side // 2), (right - 10, y + side // 2))
        arrow(page, (left + side + 8, y + side + 22), (left + side + 8, y + side + _GAP - 4))
        arrow(page, (right + 8, y + side + _GAP - 4), (right + 8, y + side + 36))
    left, middle = _MARGIN + 5 * _INDENT, tops[-1] + _SIDES[-1] // 2
    stack(page, deepest, left, tops[-1], _SIDES[-1])
    up = right_edge - 4 * _INDENT + 8
    ImageDraw.Draw(page).line((left + _SIDES[-1] + 24, middle, up, middle, up, tops[-1] - 6), _ARROW, 2)
    colours = _WIDTH - _MARGIN - _SIDES[0]
    arrow(page, (colours - 38, tops[0] + _SIDES[0] // 2), (colours - 10, tops[0] + _SIDES[0] // 2))
    page.paste(coloured.resize((_SIDES[0], _SIDES[0]), Image.Resampling.BICUBIC), (colours, tops[0]))
    words(page, f"ab: 2 x {size} x {size}, with L", colours, tops[0] + _SIDES[0] + 16)
    out.parent.mkdir(parents=True, exist_ok=True)
    page.save(out, optimize=True, quality=92)


if __name__ == "__main__":
    with one_line_errors("draw_unet.py"):
        tyro.cli(main)
