"""Draw photographs as rows, grey first and real last, with a row for each generator between them.

python docs/draw_grid.py general --photos $PHOTOS/val --name-begins intel --out docs/grid.jpg
"""

from itertools import chain
from pathlib import Path

import torch
import tyro

from gan_color import color, images, load_generator
from gan_color.contact_sheet import contact_sheet
from gan_color.data import LabDataset, sources
from gan_color.data.paths import spread
from gan_color.errors import DataError, one_line_errors
from gan_color.validate import generate


def main(
    generators: tyro.conf.Positional[tuple[str, ...]],
    photos: str,
    out: Path,
    name_begins: str = "",
    columns: int = 8,
    size: int = 128,
):
    """Draw a grid.

    Args:
        generators: run folders, generator folders or names, one a row.
        photos: colour photographs: what --data of a training takes.
        out: the picture to write, .png or .jpg.
        name_begins: only photographs whose file name begins so.
        columns: photographs, spread evenly over the sorted names: none is picked by hand.
        size: side of a photograph, pixels.
    """
    parts = sources.find(photos, Path("datasets"))
    found = sorted(path for path in chain(*filter(None, parts)) if path.name.startswith(name_begins))
    if not found:
        raise DataError(f"{photos} has no photograph whose name begins with {name_begins}")
    chosen = spread(found, columns)
    L, ab = (torch.stack(part) for part in zip(*LabDataset(chosen, size), strict=True))
    rows = {"grey": torch.zeros_like(ab)}
    rows |= {name: generate(load_generator(name), L) for name in generators}
    rows |= {"real": ab}
    drawn = [(name, [images.to_image(rgb) for rgb in color.lab_to_rgb(L, row)]) for name, row in rows.items()]
    title = f"{len(chosen)} of {len(found)} photographs, spread evenly over their names"
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(title, drawn, side=size).save(out, optimize=True, quality=92)
    print("\n".join(str(path) for path in chosen))


if __name__ == "__main__":
    with one_line_errors("draw_grid.py"):
        tyro.cli(main)
