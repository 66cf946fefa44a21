"""Colours a photograph at its own size, keeping its own lightness."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from gan_color import color, images
from gan_color.checkpoint import require_numbers
from gan_color.data import photos
from gan_color.data.photos import Photo

# Pixels that lightness and colour are joined at a time: what that needs stays in the processor's cache.
_STRIP_PIXELS = 1 << 18
# A single row of a very wide picture is cut, too.
_LONGEST_ROW = 1 << 18
# A panorama's long side to the network, in working sizes: bounds the memory that it needs.
_LONGEST_SIDE_IN_SIZES = 8
# Every encoder halves five times at most: a multiple of this halves evenly.
_MULTIPLE = 32
# Keys' cubic convolution, as torch.nn.functional.interpolate has it.
_CUBIC = -0.75


def colorize(
    generator: nn.Module, image: Image.Image | str | Path | Photo, size: int | None = None, saturation: float = 1.0
) -> Image.Image:
    """Colour a photograph.

    The network sees it with its short side at the working size, its edges repeated up to a multiple of 32; the
    colours come back to full size by bicubic interpolation (benchmarks/upsampling.py), antialiased where that is
    smaller, and join the photograph's own lightness. Above the photograph itself this needs the picture's own memory
    and about 100 MiB.

    Args:
        generator: from `load_generator`, in evaluation mode.
        image: a Pillow image of any mode, a file, or what `photos.read_photo` made of it.
        size: short side the network sees, pixels; None = the size the generator was trained at.
        saturation: factor on chroma; 1 = as predicted, 0 = grey.

    Returns:
        Pillow image of the photograph's own upright size: mode RGB, or RGBA with the photograph's own
        transparency where it has one. L* is the photograph's within one 8-bit level; colours outside sRGB have
        their chroma lowered at constant L* and hue.

    Raises:
        PhotoError: the file cannot be read.
        CheckpointError: the generator predicts colours that are no numbers.
        ValueError: the generator is in training mode.
    """
    if isinstance(image, Image.Image):
        image = photos.as_photo(image)
    photo = image if isinstance(image, Photo) else photos.read_photo(Path(image))
    (coloured,) = colorize_batch(generator, [photo], size, saturation)
    return coloured


def colorize_batch(
    generator: nn.Module,
    batch: Sequence[Photo],
    size: int | None = None,
    saturation: float = 1.0,
    name: str = "the generator",
) -> list[Image.Image]:
    """Colour photographs that pass the network together, each as `colorize` does.

    Args:
        generator: from `load_generator`, in evaluation mode.
        batch: photographs of one `padded_size`.
        size: as for `colorize`.
        saturation: as for `colorize`.
        name: what the user knows the generator by.

    Returns:
        Pillow images, one a photograph.

    Raises:
        CheckpointError: the generator predicts colours that are no numbers.
        ValueError: the generator is in training mode.
    """
    if generator.training:
        raise ValueError("the generator is in training mode, where it colours otherwise: call generator.eval() first")
    seen = []
    for photo in batch:
        at = working_size(photo.rgb.size, size or generator.trained_size)
        small = photo.on_white().resize(at, Image.Resampling.BICUBIC, reducing_gap=3)
        seen.append(color.lightness(images.to_tensor(small)))
    pictures = []
    for photo, ab in zip(batch, _predict(generator, seen, name), strict=True):
        coloured = _join(photo.rgb, saturation * ab)
        if photo.alpha is not None:
            coloured.putalpha(photo.alpha)
        pictures.append(coloured)
    return pictures


def grey(photo: Photo) -> Image.Image:
    """A photograph's own lightness: what `colorize` adds colours to.

    Args:
        photo: from `photos.read_photo`.

    Returns:
        Pillow image of its size, mode RGB, or RGBA where it has transparency.
    """
    lightness = _join(photo.rgb, torch.zeros(1, 2, 1, 1))
    if photo.alpha is not None:
        lightness.putalpha(photo.alpha)
    return lightness


def padded_size(photo_size: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height of what passes the network of a photograph: `working_size`, up to a multiple of 32.

    Args:
        photo_size: width and height, pixels.
        size: short side, pixels.
    """
    width, height = working_size(photo_size, size)
    return width + -width % _MULTIPLE, height + -height % _MULTIPLE


def device_of(generator: nn.Module) -> torch.device:
    """What a generator runs on; the CPU for an .onnx file, which has no parameters."""
    return next((weights.device for weights in generator.parameters()), torch.device("cpu"))


def working_size(photo_size: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height that the network sees of a photograph: aspect kept, within reason.

    Args:
        photo_size: width and height, pixels.
        size: short side, pixels; less for a photograph more than eight times as long as it is wide.
    """
    scale = min(size / min(photo_size), _LONGEST_SIDE_IN_SIZES * size / max(photo_size))
    width, height = (max(1, round(side * scale)) for side in photo_size)
    return width, height


def _predict(generator: nn.Module, seen: list[Tensor], name: str) -> list[Tensor]:
    """Run the generator on L of one padded size: (1, 1, h, w) each to ab (1, 2, h, w), float32 on the CPU."""
    padded = [F.pad(L, (0, -L.shape[3] % _MULTIPLE, 0, -L.shape[2] % _MULTIPLE), mode="replicate") for L in seen]
    with torch.inference_mode():
        ab = generator(torch.cat(padded).to(device_of(generator))).float().cpu()
    require_numbers(ab, name)
    return [each[None, :, : L.shape[2], : L.shape[3]] for each, L in zip(ab, seen, strict=True)]


def _join(rgb: Image.Image, ab: Tensor) -> Image.Image:
    """A photograph's own lightness with ab of any size (1, 2, h, w), strip by strip."""
    width, height = rgb.size
    if ab.shape[2] > height or ab.shape[3] > width:  # what only enlarges would leave most of it out
        within = min(ab.shape[2], height), min(ab.shape[3], width)
        ab = F.interpolate(ab, size=within, mode="bicubic", align_corners=False, antialias=True)
    # Sideways at once, which is small; downwards strip by strip, from the rows that each strip needs.
    wide = F.interpolate(ab, size=(ab.shape[2], width), mode="bicubic", align_corners=False)
    joined = Image.new("RGB", rgb.size, None)  # not filled: strips cover it
    columns = min(width, _LONGEST_ROW)
    rows = max(1, _STRIP_PIXELS // width)
    for top, left in itertools.product(range(0, height, rows), range(0, width, columns)):
        bottom, right = min(top + rows, height), min(left + columns, width)
        L = color.lightness(images.to_tensor(rgb.crop((left, top, right, bottom))))
        coloured = color.lab_to_rgb(L, _rows(wide[..., left:right], height, top, bottom))
        joined.paste(images.to_image(coloured), (left, top))
    return joined


def _rows(x: Tensor, height: int, top: int, bottom: int) -> Tensor:
    """Rows top to bottom of x (N, C, h, W) brought to a height by bicubic interpolation, each from four rows.

    Equals those rows of `interpolate(x, size=(height, W), mode="bicubic")`, and does not depend on where the
    strips are cut.
    """
    at = (torch.arange(top, bottom, dtype=torch.float64) + 0.5) * x.shape[2] / height - 0.5
    first = at.floor()
    distance = (at - first - torch.arange(-1, 3)[:, None]).abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
    weights = torch.where(distance <= 1, near, far).float().unsqueeze(2)
    # Those of the same four together. Not as a product of matrices, whose rounding depends on how many rows there are.
    groups = []
    values, counts = first.long().unique_consecutive(return_counts=True)
    for value, its_weights in zip(values, weights.split(counts.tolist(), dim=1), strict=True):
        four = x[:, :, (value + torch.arange(-1, 3)).clamp(0, x.shape[2] - 1)].unsqueeze(3)
        group = its_weights[0] * four[:, :, 0]
        for weight, row in zip(its_weights[1:], four.unbind(2)[1:], strict=True):
            group.addcmul_(weight, row)
        groups.append(group)
    return torch.cat(groups, dim=2)
