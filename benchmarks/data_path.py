"""How many photographs a core brings from JPEG to a batch: the tutorial's way beside ours, in one run.

python benchmarks/data_path.py --data $PHOTOS --size 128

The reference is what most tutorials on colouring do: Pillow opens, converts and resizes with its bicubic filter,
scikit-image converts to Lab in float64, ToTensor and the DataLoader's collation make the batch. Everything runs in this
process on one thread; files are in the system's cache. Prints seconds of CPU time and the median of paired ratios.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import tyro
from paired import machine, paired
from PIL import Image
from reference import item
from skimage.color import rgb2lab
from torch.utils.data import default_collate

from gan_color import color
from gan_color.data import decoded, modes
from gan_color.data.lab import LabDataset, resized
from gan_color.data.photos import find_photos, read_pixels
from gan_color.errors import one_line_errors


def alone(paths: list[Path], size: int) -> list[dict]:
    """Decoding, resizing and Lab alone, the tutorial's and ours."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    arrays = [np.array(picture) for picture in pictures]
    squares = [np.array(picture.resize((size, size))) for picture in pictures]
    tensors = [torch.from_numpy(square.transpose(2, 0, 1)[None].copy()) for square in squares]
    bicubic = Image.Resampling.BICUBIC
    return [
        {
            "decode: Pillow": lambda: [np.array(Image.open(path).convert("RGB")) for path in paths],
            "decode: ours": lambda: [read_pixels(path) for path in paths],
        },
        {
            "resize: Pillow": lambda: [picture.resize((size, size), bicubic) for picture in pictures],
            "resize: ours": lambda: [resized(array, size, size) for array in arrays],
        },
        {
            "Lab: scikit-image": lambda: [rgb2lab(square).astype("float32") for square in squares],
            "Lab: ours": lambda: [color.rgb_to_lab(tensor) for tensor in tensors],
        },
    ]


def show(table: dict, count: int) -> None:
    """Print what was timed, and how many times as fast as the first."""
    print("\n| way | ms a photograph | photographs a second and core | times as fast |\n| --- | ---: | ---: | ---: |")
    for name, (seconds, ratio) in table.items():
        print(f"| {name} | {1e3 * seconds / count:.2f} | {count / seconds:.0f} | {ratio:.2f} |")


def main(
    data: Path, size: int = 256, count: int = 256, batch_size: int = 16, rounds: int = 9, without_profiles: bool = False
):
    """Time the ways.

    Args:
        data: a folder of photographs.
        size: side of the square, pixels.
        count: photographs, spread evenly over the folder.
        batch_size: photographs in a batch.
        rounds: how often each way is timed.
        without_profiles: leave out photographs in another colour space than sRGB, which only ours converts.
    """
    torch.set_num_threads(1)
    found = [path for path in find_photos(data) if not without_profiles or modes.is_srgb(Image.open(path))]
    paths = [found[i * len(found) // count] for i in range(min(count, len(found)))]
    parts = [range(start, min(start + batch_size, len(paths))) for start in range(0, len(paths), batch_size)]

    def each_part(batch: Callable[[range], object]) -> Callable[[], None]:
        """Makes one batch after the other; as in training, each is let go when the next is there."""

        def make() -> None:
            for part in parts:
                _ = batch(part)

        return make

    def rgb(dataset: LabDataset):
        return each_part(lambda part: default_collate([dataset.rgb(i) for i in part]))

    def lab(dataset: LabDataset):
        return each_part(
            lambda part: color.rgb_to_lab(default_collate([dataset.rgb(i) for i in part]).permute(0, 3, 1, 2))
        )

    ways = {"tutorial": each_part(lambda part: default_collate([item(paths[i], size) for i in part]))}
    with tempfile.TemporaryDirectory() as cache:
        for name, resize in (("random crops", "crop"), ("squashed, as the tutorial", "squash")):
            plain, kept = (LabDataset(paths, size, train=True, resize=resize) for _ in range(2))
            decoded.keep(kept, Path(cache), "benchmark")
            ways |= {
                f"{name}: JPEG to Lab": lab(plain),
                f"{name}: JPEG to uint8, Lab on the device": rgb(plain),
                f"{name}: cache to Lab": lab(kept),
                f"{name}: cache to uint8, Lab on the device": rgb(kept),
            }
        table = paired(ways, rounds)
    sides = [Image.open(path).size for path in paths]
    print(f"{machine()}\n{len(paths)} photographs, median {np.median([max(side) for side in sides]):.0f}x", end="")
    print(f"{np.median([min(side) for side in sides]):.0f}, to {size}x{size}; CPU time, {rounds} rounds")
    show(table, len(paths))
    for pair in alone(paths, size):
        show(paired(pair, rounds), len(paths))


if __name__ == "__main__":
    with one_line_errors("data_path.py"):
        tyro.cli(main)
