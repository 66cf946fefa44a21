"""Colours one photograph or many at their own size, keeping their own lightness."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from gan_color import color
from gan_color.checkpoint import write_atomically
from gan_color.config import ColorizeConfig
from gan_color.data import photos, sources
from gan_color.errors import GanColorError, PhotoError, SomeFailed, UsageError, shown
from gan_color.onnx_generator import open_generator

# Rows that lightness and colour are joined at a time: bounds the memory a large photograph needs.
_STRIP = 256
# A strip of a photograph must not become a picture a thousand times as wide as high to the network.
_LONGEST_SIDE_IN_SIZES = 8
_SMALLEST_SIDE = 32


def colorize(generator: nn.Module, image: Image.Image | str | Path, size: int | None = None) -> Image.Image:
    """Colour a photograph.

    The network sees it with its short side at the working size; the colours come back to full size by bicubic
    interpolation and join the photograph's own lightness.

    Args:
        generator: from `load_generator`, in evaluation mode.
        image: a Pillow image of any mode, or a file.
        size: short side the network sees, pixels; None = the size the generator was trained at.

    Returns:
        Pillow image, mode RGB, of the photograph's own (upright) size.

    Raises:
        PhotoError: the file cannot be read.
    """
    photo = photos.as_rgb(image) if isinstance(image, Image.Image) else photos.read_rgb(Path(image))
    device = next((weights.device for weights in generator.parameters()), "cpu")  # an .onnx has no parameters
    small = photo.resize(_working_size(photo.size, size or generator.trained_size), Image.Resampling.BICUBIC)
    L, _ = color.rgb_to_lab(_as_tensor(small))
    with torch.inference_mode():
        ab = generator(L.to(device)).float().cpu()
        ab = F.interpolate(ab, size=(photo.height, photo.width), mode="bicubic", align_corners=False)
    coloured = np.empty((photo.height, photo.width, 3), dtype=np.uint8)
    for top in range(0, photo.height, _STRIP):
        rows = slice(top, min(top + _STRIP, photo.height))
        own_L, _ = color.rgb_to_lab(_as_tensor(photo.crop((0, rows.start, photo.width, rows.stop))))
        coloured[rows] = color.lab_to_rgb(own_L, ab[:, :, rows])[0].permute(1, 2, 0).numpy()
    return Image.fromarray(coloured)


def _working_size(photo_size: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height the network sees: aspect kept, within reason."""
    scale = min(size / min(photo_size), _LONGEST_SIDE_IN_SIZES * size / max(photo_size))
    width, height = (max(_SMALLEST_SIDE, round(side * scale)) for side in photo_size)
    return width, height


def _as_tensor(photo: Image.Image) -> Tensor:
    """(1, 3, H, W) uint8 of an RGB image."""
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1).unsqueeze(0).contiguous()


def run(config: ColorizeConfig) -> None:
    """Colour files and folders: `gan-color colorize`.

    Raises:
        UsageError: no input, two inputs for one output, an output that exists or cannot be written as an image.
        SomeFailed: the others were coloured.
    """
    jobs = _plan(config)
    generator = open_generator(config.checkpoint, config.device)
    failed = []
    for source, target in tqdm(jobs, "colouring", disable=None):
        try:
            buffer = io.BytesIO()
            colorize(generator, source, config.size).save(buffer, _image_format(target), quality=95)
            write_atomically(target, buffer.getvalue())
        except PhotoError as error:
            failed.append(str(error))
    done = len(jobs) - len(failed)
    print(f"coloured {done} of {len(jobs)} into {shown(config.output)}")
    if failed and done == 0:
        raise GanColorError(f"no photograph could be coloured: {'; '.join(failed)}")
    if failed:
        raise SomeFailed(f"{len(failed)} could not be coloured: {'; '.join(failed)}")


def _plan(config: ColorizeConfig) -> list[tuple[Path, Path]]:
    """Pair each photograph with the file it is written to, before anything is coloured."""
    if not config.inputs:
        raise UsageError("nothing to colour: give photographs, a folder, or `samples`")
    as_file = len(config.inputs) == 1 and Path(config.inputs[0]).is_file() and config.output.suffix
    jobs: list[tuple[Path, Path]] = []
    for given in config.inputs:
        path = Path(given).expanduser()
        if given == "samples" and not path.exists():
            train, val = sources.samples()
            jobs += [(photo, config.output / f"{photo.stem}.png") for photo in train + val]
        elif path.is_dir():
            jobs += [(photo, config.output / photo.relative_to(path)) for photo in photos.find_photos(path)]
        elif as_file:
            jobs.append((path, config.output))
        else:
            jobs.append((path, config.output / path.name))
    targets: dict[Path, Path] = {}
    for source, target in jobs:
        _image_format(target)
        if target in targets:
            raise UsageError(
                f"{shown(source)} and {shown(targets[target])} would both become {shown(target)}: colour them into "
                "two folders"
            )
        targets[target] = source
        if target.exists() and source.exists() and target.samefile(source):
            raise UsageError(f"--output {shown(target)} is the photograph itself: write elsewhere")
        if target.exists() and not config.overwrite:
            raise UsageError(f"{shown(target)} exists: write elsewhere, or give --overwrite")
    return jobs


def _image_format(target: Path) -> str:
    """Pillow's name of the format that a file's suffix asks for."""
    wanted = Image.registered_extensions().get(target.suffix.lower())
    if wanted not in photos.FORMATS:
        raise UsageError(f"--output {shown(target)}: end it in .png, .jpg, .webp, .tif or .bmp")
    return wanted
