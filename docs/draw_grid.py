"""Draw photographs as rows, grey first and real last, with a row for each generator between them.

python docs/draw_grid.py RUN [RUN ...] --photos $PHOTOS/val --name-begins intel --out docs/grid.jpg
"""

from pathlib import Path

import torch
import tyro
from torchvision.utils import make_grid

from gan_color import color, images, load_generator
from gan_color.data import LabDataset
from gan_color.data.photos import find_photos
from gan_color.prepare import spread
from gan_color.validate import generate


def main(
    generators: tyro.conf.Positional[tuple[Path, ...]],
    photos: Path,
    out: Path,
    name_begins: str = "",
    columns: int = 8,
    size: int = 128,
):
    """Draw a grid.

    Args:
        generators: run folders or generator folders, one a row.
        photos: folder of colour photographs.
        out: the picture to write, .png or .jpg.
        name_begins: only photographs whose file name begins so.
        columns: photographs, spread evenly over the folder's sorted names: none is picked by hand.
        size: side of a photograph, pixels.
    """
    chosen = spread([path for path in find_photos(photos) if path.name.startswith(name_begins)], columns)
    L, ab = (torch.stack(part) for part in zip(*LabDataset(chosen, size), strict=True))
    rows = [torch.zeros_like(ab), *(generate(load_generator(folder), L) for folder in generators), ab]
    grid = make_grid(torch.cat([color.lab_to_rgb(L, row) for row in rows]), nrow=columns, padding=2, pad_value=255)
    images.to_image(grid).save(out, optimize=True, quality=92)
    print("\n".join(str(path) for path in chosen))


if __name__ == "__main__":
    tyro.cli(main)
