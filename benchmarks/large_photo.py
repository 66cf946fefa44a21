"""Time and memory of colouring a 24-megapixel photograph, beside the plain way, in one run.

python benchmarks/large_photo.py $SCENES/val

A real photograph is enlarged to 6000x4000 and saved as JPEG. Each way reads it, colours it and writes a JPEG of
quality 95, in a process of its own, one after the other and then again in the other order, on one thread, with the
same network of random weights at working size 256; the better of two runs counts. Memory is the peak of the process
above what it holds with the libraries imported and the network run once (Linux).
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro
from PIL import Image

from gan_color.data.photos import find_photos
from gan_color.errors import one_line_errors

SIZE = (6000, 4000)
WAYS = ("plain", "strips")


def plain(generator, source: Path, target: Path) -> None:
    """Float64 Lab of the whole photograph by scikit-image, ab enlarged as one piece."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from skimage import color

    photo = Image.open(source).convert("RGB")
    lab = color.rgb2lab(np.asarray(photo) / 255.0)
    small = color.rgb2lab(np.asarray(photo.resize((384, 256), Image.Resampling.BICUBIC)) / 255.0)
    L = torch.from_numpy(small[None, None, ..., 0] / 50 - 1).float()
    with torch.no_grad():
        ab = F.interpolate(generator(L), size=(photo.height, photo.width), mode="bicubic", align_corners=False)
    coloured = np.dstack((lab[..., 0], ab[0].permute(1, 2, 0).double().numpy() * 110))
    rgb = (color.lab2rgb(coloured) * 255).round().astype(np.uint8)
    Image.fromarray(rgb).save(target, quality=95, subsampling="4:4:4")


def strips(generator, source: Path, target: Path) -> None:
    """As `gan-color colorize` does it."""
    from gan_color import colorize
    from gan_color.data import encode
    from gan_color.writing import write_atomically

    write_atomically(target, encode.encode(colorize(generator, source, size=256), target)[0])


def measure(way: str, source: Path, target: Path) -> None:
    """In the child process: print seconds, CPU seconds and MiB above the start."""
    import skimage.color  # noqa: F401 (both ways start with all that either imports)
    import torch

    import gan_color.data.encode
    import gan_color.inference  # noqa: F401
    from gan_color import generators

    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = generators.build("resnet_unet", backbone="resnet18").eval()
    with torch.inference_mode():
        generator(torch.zeros(1, 1, 256, 384))
    at_start = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    {"plain": plain, "strips": strips}[way](generator, source, target)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_start) / 1024
    print(wall, cpu, above)


def main(folder: tyro.conf.Positional[Path]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "photo.jpg", Path(scratch) / "coloured.jpg"
        with Image.open(find_photos(folder)[0]) as photo:
            photo.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(source, quality=90)
        results = {way: [] for way in WAYS}
        for way in (*WAYS, *reversed(WAYS)):
            argv = [sys.executable, __file__, way, source, target]
            printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
            results[way].append([float(value) for value in printed.split()])
    print("| way | seconds | CPU seconds | MiB above the start |\n| --- | ---: | ---: | ---: |")
    best = {way: [min(values) for values in zip(*runs, strict=True)] for way, runs in results.items()}
    for way, (wall, cpu, above) in best.items():
        print(f"| {way} | {wall:.1f} | {cpu:.1f} | {above:.0f} |")
    plain_best, ours = best["plain"], best["strips"]
    print(f"\n{plain_best[1] / ours[1]:.1f} times less CPU time, {plain_best[2] / ours[2]:.1f} times less memory")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in WAYS:
        measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        with one_line_errors("large_photo.py"):
            tyro.cli(main, description=__doc__)
