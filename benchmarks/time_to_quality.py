"""How soon stage one is as good as the tutorial's pretraining after its time.

python benchmarks/time_to_quality.py --data $PHOTOS

The tutorial's way trains for --minutes: its generator, Lab by scikit-image, squashed photographs, float32, Adam at
1e-4, batches of 16. Ours trains from scratch for a tenth and for a twentieth of that, each with a whole schedule. All
are measured on the same held-out photographs, squashed as the tutorial has them. Minutes are processor time of the
steps, on one thread. Prints a table.
"""

import dataclasses
from pathlib import Path

import torch
import tyro
from budget import measured, train_for
from paired import machine
from reference import StageOne, item
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gan_color import generators
from gan_color.data import lab, split
from gan_color.data.order import RunOrder
from gan_color.device import choose_precision
from gan_color.errors import one_line_errors
from gan_color.fit import lr_scale
from gan_color.pretrain import Pretrain


class Squashed(Dataset):
    """Photographs as the tutorial reads them, perhaps mirrored."""

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        L, ab = item(self.paths[index], self.size)
        return (L.flip(-1), ab.flip(-1)) if torch.rand(()) < 0.5 else (L, ab)


@dataclasses.dataclass
class Options:
    """What is trained on, and for how long."""

    # A folder of photographs with train and val in it, a list file or a named set.
    data: str
    # Processor time of the tutorial's training.
    minutes: float = 20.0
    size: int = 128
    seed: int = 0
    # Photographs all are measured on.
    val_count: int = 500


def main(options: Options) -> None:
    torch.set_num_threads(1)
    print(machine(), "\n")
    photographs = split.photographs(options.data, Path("datasets"))
    print(
        "| training | minutes | photographs seen | images/s | ab L1 | of grey's |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |"
    )

    def row(name: str, minutes: float, steps: int, used: float, generator: torch.nn.Module) -> None:
        values = measured(generator, photographs.val, options.size, options.val_count, resize="squash")
        seen, l1 = 16 * steps, values["val/l1"]
        print(
            f"| {name} | {minutes:g} | {seen} | {seen / used:.1f} | {l1:.4f} | {l1 / values['val/l1_grey']:.3f} |",
            flush=True,
        )

    device = torch.device("cpu")
    for share in (0.05, 0.1):
        torch.manual_seed(options.seed)
        stage = Pretrain(generators.build("resnet_unet", weights="none"), device, choose_precision("auto", device))
        dataset = lab.LabDataset(photographs.train, options.size, True, options.seed)
        order = RunOrder(len(dataset), 16, 0, 10**6, options.seed)

        def step(L: Tensor, ab: Tensor, used: float, stage: Pretrain = stage) -> None:
            stage.optimizer.param_groups[0]["lr"] = 1e-3 * lr_scale(used, warmup=0.02, decay_from=0.0)
            stage.step(L, ab)

        batches = lab.read_batches(lab.loader(dataset, order, workers=1))
        taken = train_for(share * options.minutes, "ours", batches, step)
        row("ours", share * options.minutes, *taken, stage.generator)

    torch.manual_seed(options.seed)
    theirs = StageOne()
    loader = DataLoader(Squashed(photographs.train, options.size), 16, shuffle=True, drop_last=True, num_workers=1)
    endless = (batch for _ in iter(int, 1) for batch in loader)
    taken = train_for(options.minutes, "tutorial", endless, lambda L, ab, used: theirs.step(L, ab))
    row("tutorial", options.minutes, *taken, theirs.generator)


if __name__ == "__main__":
    with one_line_errors("time_to_quality.py"):
        main(tyro.cli(Options, description=__doc__))
