"""Which way of bringing ab back to full size loses least colour, measured on photographs whose ab is known.

python benchmarks/upsampling.py $SCENES --size 128

The true ab are shrunk as a network at its working size would give them at best, brought back by each method, and
compared with the true ab. Prints the mean over the photographs of PSNR (peak 2, the range of ab), the root mean
square in Lab units, and how many photographs each method is best for.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from tqdm import tqdm

from gan_color import color, images
from gan_color.data import photos
from gan_color.errors import one_line_errors
from gan_color.inference import working_size


def resized(mode: str):
    def upsample(ab: Tensor, small_L: Tensor, L: Tensor) -> Tensor:
        options = {} if mode == "nearest-exact" else {"align_corners": False}
        return F.interpolate(ab, size=L.shape[-2:], mode=mode, **options)

    return upsample


def guided(radius: int, epsilon: float, mode: str = "bilinear"):
    """He and Sun, "Fast guided filter", 2015: ab as a local line of L, fitted at the small size."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    def upsample(ab: Tensor, small_L: Tensor, L: Tensor) -> Tensor:
        mean_L, mean_ab = mean(small_L), mean(ab)
        slope = (mean(small_L * ab) - mean_L * mean_ab) / (mean(small_L**2) - mean_L**2 + epsilon)
        offset = mean(mean_ab - slope * mean_L)
        slope, offset = (resized(mode)(part, small_L, L) for part in (mean(slope), offset))
        return slope * L + offset

    return upsample


def guided_at_full_size(epsilon: float):
    """He et al., "Guided image filtering", 2010: bicubic ab, then the filter with L as guide."""

    def upsample(ab: Tensor, small_L: Tensor, L: Tensor) -> Tensor:
        radius = max(1, round(L.shape[-1] / small_L.shape[-1]))
        return guided(radius, epsilon)(resized("bicubic")(ab, small_L, L), L, L)

    return upsample


METHODS = {
    "nearest": resized("nearest-exact"),
    "bilinear": resized("bilinear"),
    "bicubic": resized("bicubic"),
    **{f"fast guided, radius {r}, epsilon {e}": guided(r, e) for r in (1, 2) for e in (1e-4, 1e-3, 1e-2)},
    **{f"bicubic, then guided, epsilon {e}": guided_at_full_size(e) for e in (1e-4, 1e-3, 1e-2)},
}


def main(folder: tyro.conf.Positional[Path], size: int = 128, count: int = 120):
    """Measure the methods.

    Args:
        folder: colour photographs.
        size: short side the network sees, pixels.
        count: how many photographs, spread evenly over the folder's sorted names.
    """
    found = photos.find_photos(folder)
    chosen = [found[i * len(found) // count] for i in range(min(count, len(found)))]
    errors = {name: [] for name in METHODS}
    for path in tqdm(chosen, disable=None):
        photo = photos.read_rgb(path)
        L, ab = color.rgb_to_lab(images.to_tensor(photo))
        width, height = working_size(photo.size, size)
        small_L, small_ab = (
            F.interpolate(part, size=(height, width), mode="bicubic", antialias=True) for part in (L, ab)
        )
        for name, upsample in METHODS.items():
            errors[name].append((upsample(small_ab, small_L, L) - ab).square().mean().item())
    table = torch.tensor(list(errors.values()), dtype=torch.float64)
    best = table.argmin(dim=0)
    print(f"{len(chosen)} photographs, working size {size}\n")
    print("| method | PSNR of ab, dB | RMS, Lab units | best for |\n| --- | ---: | ---: | ---: |")
    for i, name in enumerate(METHODS):
        psnr = 10 * torch.log10(4 / table[i]).mean()
        print(f"| {name} | {psnr:.2f} | {110 * table[i].mean().sqrt():.2f} | {(best == i).sum()} |")


if __name__ == "__main__":
    with one_line_errors("upsampling.py"):
        tyro.cli(main)
