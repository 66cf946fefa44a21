"""What our users would pick today, to be measured against: the public "U-Net and GAN" tutorial's way.

Written by us from its description: fastai's DynamicUnet on a ResNet-18 (our `dynamic_unet` gives bit for bit what
fastai's gives, and takes the same time), scikit-image's Lab in double precision, float32, one step after the other.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import color
from torch import Tensor, nn

from gan_color import generators
from gan_color.discriminator import PatchDiscriminator


def generator() -> nn.Module:
    """DynamicUnet on a ResNet-18, random weights."""
    return generators.build("dynamic_unet", backbone="resnet18", weights="none")


def item(path: Path, size: int) -> tuple[Tensor, Tensor]:
    """One photograph as L (1, size, size) and ab (2, size, size): squashed, by scikit-image."""
    photo = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    lab = color.rgb2lab(np.array(photo)).astype("float32")
    lab = torch.from_numpy(lab.transpose(2, 0, 1).copy())
    return lab[:1] / 50 - 1, lab[1:] / 110


class StageOne:
    """Adam on L1."""

    def __init__(self):
        self.generator = generator().train()
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=1e-4)

    def step(self, L: Tensor, ab: Tensor) -> float:
        """One batch, (N, 1, H, W) and (N, 2, H, W); the loss."""
        loss = F.l1_loss(self.generator(L), ab)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


class StageTwo:
    """pix2pix's step: fakes, then the discriminator on fakes and on true colours, then the generator."""

    def __init__(self):
        self.generator, self.discriminator = generator().train(), PatchDiscriminator().train()
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def step(self, L: Tensor, ab: Tensor) -> list[float]:
        """One batch, (N, 1, H, W) and (N, 2, H, W); the losses."""
        fake_ab = self.generator(L)
        self.discriminator.requires_grad_(True)
        self.optimizer_d.zero_grad()
        d_fake = _judged(self.discriminator(L, fake_ab.detach()), 0.0)
        d_real = _judged(self.discriminator(L, ab), 1.0)
        ((d_fake + d_real) * 0.5).backward()
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        self.optimizer_g.zero_grad()
        gan, l1 = _judged(self.discriminator(L, fake_ab), 1.0), F.l1_loss(fake_ab, ab) * 100
        (gan + l1).backward()
        self.optimizer_g.step()
        return [loss.item() for loss in (d_fake, d_real, gan, l1)]


def _judged(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


@torch.no_grad()
def colour(network: nn.Module, source: Path, target: Path) -> None:
    """A file coloured at full size: ab of 256x256 enlarged, Lab by scikit-image, JPEG of quality 95."""
    photo = Image.open(source).convert("RGB")
    lab = color.rgb2lab(np.asarray(photo))
    small = color.rgb2lab(np.asarray(photo.resize((256, 256), Image.Resampling.BICUBIC)))
    L = torch.from_numpy(small[None, None, ..., 0] / 50 - 1).float()
    ab = F.interpolate(network(L), size=(photo.height, photo.width), mode="bicubic")
    coloured = np.dstack((lab[..., 0], ab[0].permute(1, 2, 0).double().numpy() * 110))
    rgb = (color.lab2rgb(coloured) * 255).round().astype(np.uint8)
    Image.fromarray(rgb).save(target, quality=95, subsampling="4:4:4")
