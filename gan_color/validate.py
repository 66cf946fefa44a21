"""Measures a generator on held-out photographs while it trains."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gan_color import color, distributed, metrics
from gan_color.data import lab

# What a validation measures, each the mean over the validation photographs.
_VAL_TAGS = (
    "val/l1",
    "val/l1_grey",
    "val/psnr",
    "val/ssim",
    "val/delta_e",
    "val/colorfulness",
    "val/colorfulness_real",
)


@torch.no_grad()
def generate(generator: nn.Module, L: Tensor) -> Tensor:
    """Colour a batch as inference does: evaluation mode, float32.

    Args:
        generator: left in the mode it came in.
        L: (N, 1, H, W) float32, in [-1, 1].

    Returns:
        ab: (N, 2, H, W) float32.
    """
    was_training = generator.training
    generator.eval()
    ab = generator(L).float()
    generator.train(was_training)
    return ab


def validate(generator: nn.Module, batches: DataLoader, device: torch.device, count: int) -> dict[str, float]:
    """Measure the generator on every validation photograph, each process on its part.

    Args:
        generator: colours L.
        batches: this process's (L, ab).
        device: where the generator runs.
        count: validation photographs, over all processes.

    Returns:
        Means by their TensorBoard tag. From these come `val/colorfulness_gap`, the distance of the mean colourfulness
        from that of the true photographs as a share of it, and `val/l1_and_gap`, val/l1 as a share of grey's plus
        that gap: 0 for the true colours, 2 for grey.
    """
    sums = dict.fromkeys(_VAL_TAGS, 0.0)
    for L, ab in lab.read_batches(batches, device):
        fake_ab = generate(generator, L)
        if device.type == "mps":
            L, ab, fake_ab = L.cpu(), ab.cpu(), fake_ab.cpu()  # MPS has no float64
        fake_rgb, real_rgb = color.lab_to_rgb(L, fake_ab), color.lab_to_rgb(L, ab)
        fake_lab = color.to_lab_units(*color.rgb_to_lab(fake_rgb))
        values = (
            (fake_ab - ab).abs().flatten(1).mean(dim=1),
            ab.abs().flatten(1).mean(dim=1),
            metrics.psnr(fake_rgb, real_rgb).clamp_max(100),  # infinite for a picture met exactly: no mean, no JSON
            metrics.ssim(fake_rgb, real_rgb),
            metrics.delta_e(fake_lab, color.to_lab_units(L, ab)),
            metrics.colorfulness(fake_rgb),
            metrics.colorfulness(real_rgb),
        )
        for tag, value in zip(_VAL_TAGS, values, strict=True):
            sums[tag] += value.double().sum().item()
    totals = distributed.sum_over_processes(torch.tensor(list(sums.values()), dtype=torch.float64))
    means = dict(zip(_VAL_TAGS, (totals / count).tolist(), strict=True))
    return means | _beside_grey(means)


def _beside_grey(means: dict[str, float]) -> dict[str, float]:
    """What does not take grey for good; a set that is grey itself has nothing to be compared with."""
    true_colour, grey_l1 = max(means["val/colorfulness_real"], 1e-6), max(means["val/l1_grey"], 1e-6)
    gap = abs(means["val/colorfulness"] - means["val/colorfulness_real"]) / true_colour
    return {"val/colorfulness_gap": gap, "val/l1_and_gap": means["val/l1"] / grey_l1 + gap}
