"""What a decoder costs and what it learns: variants of resnet_unet's, each trained for the same processor time.

python benchmarks/decoders.py --data $PHOTOS --minutes 5 --seeds 2 --out checkpoints/decoders

Every variant has the same encoder (ResNet-18, from scratch), data, order, step and schedule as stage one by default;
the learning rate falls over the time that all have. Only the training's own processor time counts, on one thread, so
the machine may be busy with other work. A variant that was measured is not trained again: what was cut off goes on.
Prints a table, the mean over the seeds and what they span; --out keeps what was measured.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from budget import measured, train_for
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gan_color.data import lab, split
from gan_color.data.order import RunOrder
from gan_color.device import choose_precision
from gan_color.errors import one_line_errors
from gan_color.fit import lr_scale
from gan_color.generators.pretrained import normalise
from gan_color.generators.resnet_unet import ResNetUNet
from gan_color.pretrain import Pretrain

WIDTHS = (256, 128, 64, 32, 16)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """What distinguishes a variant."""

    widths: tuple[int, ...] = WIDTHS
    # Of each block, 3x3.
    convolutions: int = 2
    # How a block comes to its skip's size: nearest, bilinear, or pixel shuffle after a 1x1 convolution (ICNR).
    up: str = "nearest"
    # The last block and the head work at half the size; ab is enlarged bilinearly.
    half: bool = False


VARIANTS = {
    "nearest, two convolutions": Decoder(),
    "nearest, one convolution": Decoder(convolutions=1),
    "bilinear": Decoder(up="bilinear"),
    "pixel shuffle, ICNR": Decoder(up="shuffle"),
    "wider: 256-128-64-64-32": Decoder(widths=(256, 128, 64, 64, 32)),
    "narrower: 128-64-32-16-16": Decoder(widths=(128, 64, 32, 16, 16)),
    "last block at half size": Decoder(half=True),
}


class Block(nn.Module):
    """Up to the skip's size, beside the skip, 3x3 convolutions."""

    def __init__(self, channels: int, skip_channels: int, width: int, decoder: Decoder):
        super().__init__()
        self.up = decoder.up
        if self.up == "shuffle":
            self.spread = nn.Conv2d(channels, 4 * channels, kernel_size=1)
            with torch.no_grad():  # ICNR (Aitken et al. 2017): begins as nearest
                self.spread.weight.copy_(self.spread.weight[::4].repeat_interleave(4, dim=0))
                self.spread.bias.zero_()
        layers, ends = [], [channels + skip_channels, *[width] * decoder.convolutions]
        for before, after in itertools.pairwise(ends):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, C, h, w) and the skip (N, C', H, W) to (N, width, H, W)."""
        if self.up == "shuffle":
            x = F.pixel_shuffle(self.spread(x), 2)
        mode = "bilinear" if self.up == "bilinear" else "nearest"
        x = F.interpolate(x, size=skip.shape[-2:], mode=mode)
        return self.convolutions(torch.cat((x, skip.to(x.dtype)), dim=1))


class Studied(ResNetUNet):
    """resnet_unet with another decoder."""

    def __init__(self, decoder: Decoder):
        super().__init__("resnet18", "none")
        *skips, channels = self.encoder.feature_info.channels()
        widths = decoder.widths[:-1] if decoder.half else decoder.widths
        skips = skips[::-1] if decoder.half else [*skips[::-1], 1]
        self.decoder = nn.ModuleList()
        for skip, width in zip(skips, widths, strict=True):
            self.decoder.append(Block(channels, skip, width, decoder))
            channels = width
        self.head = nn.Conv2d(channels, 2, kernel_size=3, padding=1)

    def forward(self, L: Tensor) -> Tensor:
        """As `ResNetUNet`."""
        *skips, x = self.encoder(normalise(L))
        for block, skip in zip(self.decoder, [*skips[::-1], L], strict=False):
            x = block(x, skip)
        return torch.tanh(F.interpolate(self.head(x), size=L.shape[-2:], mode="bilinear"))


@dataclasses.dataclass
class Options:
    """What all variants are told alike."""

    # A folder of photographs with train and val in it, a list file or a named set.
    data: str
    # Folder for what was measured.
    out: Path = Path("checkpoints/decoders")
    # Variants by name; none = all.
    variants: tuple[str, ...] = ()
    # Processor time of each training.
    minutes: float = 5.0
    # Trainings of each variant.
    seeds: int = 2
    # Side of the square, pixels.
    size: int = 128
    batch_size: int = 16
    # Photographs they are measured on.
    val_count: int = 500


def train(name: str, seed: int, photographs: split.Photographs, options: Options) -> dict:
    """Train a variant for its time and measure it."""
    device = torch.device("cpu")
    torch.manual_seed(seed)
    generator = Studied(VARIANTS[name])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        generator.eval()(torch.zeros(1, 1, 256, 256))
    stage = Pretrain(generator, device, choose_precision("auto", device))
    dataset = lab.LabDataset(photographs.train, options.size, True, seed)
    order = RunOrder(len(dataset), options.batch_size, 0, 10**6, seed)

    def step(L: Tensor, ab: Tensor, share: float) -> None:
        stage.optimizer.param_groups[0]["lr"] = 1e-3 * lr_scale(share, warmup=0.02, decay_from=0.0)
        stage.step(L, ab)

    batches = lab.read_batches(lab.loader(dataset, order, workers=1))
    steps, used = train_for(options.minutes, f"{name}, seed {seed}", batches, step)
    return {
        "variant": name,
        "seed": seed,
        "parameters": sum(p.numel() for p in generator.parameters()),
        "gmac": counter.get_total_flops() / 2e9,
        "images": steps * options.batch_size,
        "images_per_second": steps * options.batch_size / used,
        **measured(generator, photographs.val, options.size, options.val_count),
    }


def table(results: list[dict]) -> str:
    """A row a variant: means over the seeds, and half of what they span."""
    lines = [
        "| decoder | million parameters | GMAC at 256 px | images/s | ab L1 / grey | CIEDE2000 | colourfulness |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in VARIANTS:
        rows = [row for row in results if row["variant"] == name]
        if not rows:
            continue
        of = {key: [row[key] for row in rows] for key in rows[0] if key != "variant"}
        ratio = [a / b for a, b in zip(of["val/l1"], of["val/l1_grey"], strict=True)]

        def mean(values: list[float], digits: int) -> str:
            spans = f" ± {(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
            return f"{sum(values) / len(values):.{digits}f}{spans}"

        lines.append(
            f"| {name} | {of['parameters'][0] / 1e6:.1f} | {of['gmac'][0]:.2f} | {mean(of['images_per_second'], 1)} | "
            f"{mean(ratio, 3)} | {mean(of['val/delta_e'], 2)} | {mean(of['val/colorfulness'], 1)} |"
        )
    return "\n".join(lines)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    done = options.out / "decoders.jsonl"
    options.out.mkdir(parents=True, exist_ok=True)
    results = [json.loads(line) for line in done.read_text().splitlines()] if done.is_file() else []
    photographs = split.photographs(options.data, Path("datasets"))
    for seed in range(options.seeds):
        for name in options.variants or VARIANTS:
            if not any((row["variant"], row["seed"]) == (name, seed) for row in results):
                results.append(train(name, seed, photographs, options))
                with done.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    print(table(results))


if __name__ == "__main__":
    with one_line_errors("decoders.py"):
        main(tyro.cli(Options, description=__doc__))
