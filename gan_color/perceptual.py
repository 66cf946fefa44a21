"""The perceptual loss: how far generated photographs are from the true ones in a classifier's features."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_color.classifier import MEAN, STD, load_squeezenet
from gan_color.generators.pretrained import squeezenet_stages


class Perceptual(nn.Module):
    """Distance of the features of SqueezeNet 1.0, frozen.

    Args:
        path: a state dict of torchvision's `squeezenet1_0`.

    Attributes:
        sha256: of the file, hex.

    Raises:
        CheckpointError: the file is missing, broken, or of another network.

    Source: Johnson et al., "Perceptual losses for real-time style transfer and super-resolution", 2016, sec. 3.2; the
    features of unit length of Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric",
    2018, sec. 3, without weights of the channels.
    """

    def __init__(self, path: Path):
        super().__init__()
        network, self.sha256 = load_squeezenet(path, "--perceptual-weights")
        self.stages = squeezenet_stages(network.features)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, fake_rgb: Tensor, real_rgb: Tensor) -> Tensor:
        """Compare photographs.

        Args:
            fake_rgb: (N, 3, H, W) float32, sRGB, in 0..1; H, W >= 32.
            real_rgb: the same of the true photographs; no gradient goes there.

        Returns:
            Scalar float32, in 0..2, for no feature is below 0: the squared distance of the features' directions, mean
            over photographs, positions and stages.
        """
        fake, real = ((rgb - self.mean) / self.std for rgb in (fake_rgb, real_rgb.detach()))
        distance = 0.0
        for stage in self.stages:
            fake = stage(fake)
            with torch.no_grad():
                real = stage(real)
                direction = F.normalize(real.float())
            distance = distance + (F.normalize(fake.float()) - direction).square().sum(dim=1).mean()
        return distance / len(self.stages)
