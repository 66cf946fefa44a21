"""Whether what makes training fast changes what is learnt: stage one's loss curve after each optimisation.

python benchmarks/same_curves.py --data $PHOTOS

The first run is the plain way: Pillow's decoder and bicubic filter, scikit-image's Lab in double precision, float32,
contiguous tensors, Adam without fusion. Each run after it adds one thing, with the same seed, photographs, crops and
order. Prints the mean loss of the last third of the steps, how far it is from the first run's, and how far a second
seed of the plain way is: what lies within that is chance.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from skimage.color import rgb2lab
from torch import Tensor
from tqdm import tqdm

from gan_color import generators
from gan_color.data import lab, split
from gan_color.data.order import RunOrder
from gan_color.errors import one_line_errors
from gan_color.pretrain import Pretrain


@dataclasses.dataclass
class Options:
    """How long the curves are."""

    # A folder of photographs with train and val in it, a list file or a named set.
    data: str
    steps: int = 240
    size: int = 96
    batch_size: int = 8


@dataclasses.dataclass(frozen=True)
class Way:
    """What a run uses of what makes training fast."""

    data: bool = False
    channels_last: bool = False
    fused: bool = False
    bf16: bool = False
    seed: int = 0


WAYS = {
    "plain": Way(),
    "plain, another seed": Way(seed=1),
    "+ our decoder, resize and Lab": Way(data=True),
    "+ channels last": Way(data=True, channels_last=True),
    "+ fused Adam": Way(data=True, channels_last=True, fused=True),
    "+ bf16": Way(data=True, channels_last=True, fused=True, bf16=True),
}


class Plain(lab.LabDataset):
    """The same squares, cut by Pillow and converted by scikit-image."""

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """L (1, size, size) and ab (2, size, size), as `LabDataset`."""
        epoch, index = item
        photo = Image.open(self.paths[index]).convert("RGB")
        chance = np.random.default_rng((self.seed, 1, epoch, index))
        side = chance.uniform(self.min_crop, 1) * min(photo.size)
        across, down = chance.uniform(size=2)
        left, top = across * (photo.width - side), down * (photo.height - side)
        box = (left, top, left + side, top + side)
        square = np.array(photo.resize((self.size, self.size), Image.Resampling.BICUBIC, box))
        square = square[:, ::-1] if chance.uniform() < 0.5 else square
        converted = torch.from_numpy(rgb2lab(square)).permute(2, 0, 1).float()
        return converted[:1] / 50 - 1, converted[1:] / 110


def curve(way: Way, paths: list[Path], options: Options) -> np.ndarray:
    """L1 of each step."""
    torch.manual_seed(way.seed)
    precision = torch.bfloat16 if way.bf16 else torch.float32
    stage = Pretrain(generators.build("resnet_unet", weights="none"), torch.device("cpu"), precision)
    memory_format = torch.channels_last if way.channels_last else torch.contiguous_format
    stage.generator.to(memory_format=memory_format)
    stage.optimizer = torch.optim.Adam(stage.generator.parameters(), lr=1e-3, fused=way.fused)
    if not way.fused:  # the guard leaves bad updates out through the fused kernel
        stage.guard.update = lambda optimizer, scaler, loss: optimizer.step()
    dataset = (lab.LabDataset if way.data else Plain)(paths, options.size, True, way.seed)
    order = RunOrder(len(dataset), options.batch_size, 0, options.steps, way.seed)
    losses = []
    for items in tqdm(order, disable=None, leave=False):
        parts = zip(*map(dataset.__getitem__, items), strict=True)
        L, ab = (torch.stack(part).to(memory_format=memory_format) for part in parts)
        losses.append(stage.step(L, ab)["loss/G_L1"].item())
    return np.array(losses)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    paths = split.photographs(options.data, Path("datasets")).train
    print("| run | mean L1 of the last third | from the plain way's | largest distance, means of 20 steps |")
    print("| --- | ---: | ---: | ---: |")
    for name, way in WAYS.items():
        losses = curve(way, paths, options)
        if name == "plain":
            plain = losses
        last = options.steps // 3
        distance = losses[-last:].mean() / plain[-last:].mean() - 1
        smooth, smooth_plain = (np.convolve(x, np.ones(20) / 20, "valid") for x in (losses, plain))
        largest = np.abs(smooth / smooth_plain - 1).max()
        print(f"| {name} | {losses[-last:].mean():.5f} | {distance:+.2%} | {largest:.2%} |", flush=True)


if __name__ == "__main__":
    with one_line_errors("same_curves.py"):
        main(tyro.cli(Options, description=__doc__))
