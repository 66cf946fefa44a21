"""Time of colouring photographs, file to file at full size, beside the tutorial's way, and of starting up.

python benchmarks/colorize_photo.py $SCENES/val

One photograph of 1024x768 pixels and a folder of 16 of them: JPEG to JPEG of quality 95, on one thread, processor time,
networks of random weights at working size 256; the ways take turns in one run. Then how long the command line needs
until it answers, in fresh processes on the wall. 24 megapixels have a benchmark of their own: large_photo.py.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import tyro
from paired import machine, paired
from PIL import Image
from reference import colour, generator

from gan_color import colorize, export, generators
from gan_color.checkpoint import save_generator
from gan_color.commands import ExportConfig
from gan_color.data import encode
from gan_color.data.photos import find_photos
from gan_color.errors import one_line_errors
from gan_color.onnx_generator import OnnxGenerator
from gan_color.writing import write_atomically

SIZE = (1024, 768)


def main(folder: tyro.conf.Positional[Path]) -> None:
    torch.set_num_threads(1)
    print(machine(), "\n")
    torch.manual_seed(0)
    theirs = generator().eval()
    lean = generators.build("resnet_unet", backbone="resnet18", weights="none").eval()
    with tempfile.TemporaryDirectory() as scratch:
        sources = [Path(scratch) / f"{number}.jpg" for number in range(16)]
        found = find_photos(folder)
        for number, source in enumerate(sources):
            with Image.open(found[number % len(found)]) as photo:
                photo.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(source, quality=90)
        target = Path(scratch) / "coloured.jpg"
        save_generator(Path(scratch) / "lean", lean, "resnet_unet", {"backbone": "resnet18"}, info={"size": 256})
        export.run(ExportConfig(checkpoint=f"{scratch}/lean", output=Path(scratch) / "lean.onnx"))
        onnx = OnnxGenerator(Path(scratch) / "lean.onnx")

        def ours(network, source: Path) -> None:
            write_atomically(target, encode.encode(colorize(network, source, size=256), target)[0])

        for title, chosen, rounds in (("one photograph", sources[:1], 7), ("a folder of 16", sources, 1)):
            ways = {
                "tutorial": lambda chosen=chosen: [colour(theirs, source, target) for source in chosen],
                "ours": lambda chosen=chosen: [ours(lean, source) for source in chosen],
                "ours, ONNX Runtime": lambda chosen=chosen: [ours(onnx, source) for source in chosen],
            }
            print(
                f"### {title} of {SIZE[0]}x{SIZE[1]}\n\n| way | ms a photograph | times as fast |\n"
                "| --- | ---: | ---: |"
            )
            for name, (seconds, ratio) in paired(ways, rounds).items():
                print(f"| {name} | {1e3 * seconds / len(chosen):.0f} | {ratio:.1f} |")
            print(flush=True)

    commands = {
        "python -c pass": ["-c", "pass"],
        "gan-color --help": ["-m", "gan_color", "--help"],
        "gan-color --version": ["-m", "gan_color", "--version"],
        "gan-color gan --help": ["-m", "gan_color", "gan", "--help"],
        "gan-color colorise (a mistake)": ["-m", "gan_color", "colorise"],
        "import gan_color": ["-c", "import gan_color"],
        "import torch": ["-c", "import torch"],
        "import fastai.vision.all": ["-c", "import fastai.vision.all"],
    }
    ways = {
        name: lambda words=words: subprocess.run([sys.executable, *words], capture_output=True, check=False)
        for name, words in commands.items()
    }
    print("| until it answers | ms |\n| --- | ---: |")
    for name, (seconds, _) in paired(ways, 5, wall=True).items():
        print(f"| {name} | {1e3 * seconds:.0f} |")


if __name__ == "__main__":
    with one_line_errors("colorize_photo.py"):
        tyro.cli(main, description=__doc__)
