"""A classifier judges coloured photographs: what it takes them for, and how far their features are from the true ones.

Colour that makes sense lets a classifier recover what it loses on grey photographs (Zhang et al. 2016, sec. 3.1).
"""

import hashlib
import os
import re
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torchvision.models import squeezenet1_0

from gan_color import metrics
from gan_color.errors import CheckpointError, shown

# The field's way of feeding ImageNet classifiers: short side to 256, middle square of 227 (SqueezeNet's own size).
_RESIZED, _CROPPED = 256, 227
# The scale that ImageNet's classifiers were trained at: mean and standard deviation of red, green and blue in 0..1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# ImageNet's name of a class, WordNet's: n01440764 is the tench.
_WORDNET_ID = re.compile(r"(?<![0-9a-z])n\d{8}(?!\d)")


def load_squeezenet(path: Path, option: str) -> tuple[nn.Module, str]:
    """Build SqueezeNet 1.0 for ImageNet's 1,000 classes from a file.

    Args:
        path: a state dict of torchvision's `squeezenet1_0`.
        option: that named the file.

    Returns:
        The network, and the SHA-256 of the file, hex.

    Raises:
        CheckpointError: the file is missing, broken, or of another network.
    """
    path, network = Path(os.path.expanduser(path)), squeezenet1_0()
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise CheckpointError(f"{option} {shown(path)} cannot be read: {error.strerror}") from error
    except Exception as error:  # whatever a file that is no state dict, or another one, makes torch raise
        raise CheckpointError(
            f"{option} {shown(path)} is no state dict of torchvision's squeezenet1_0: give its file"
        ) from error
    return network, sha256


class Classifier(nn.Module):
    """SqueezeNet 1.0 for ImageNet's 1,000 classes, from a file.

    Args:
        path: a state dict of torchvision's `squeezenet1_0`.

    Attributes:
        sha256: of the file, hex.

    Raises:
        CheckpointError: the file is missing, broken, or of another network.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.network, self.sha256 = load_squeezenet(path, "--classifier")
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.eval()

    @torch.inference_mode()
    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Look at photographs.

        Args:
            rgb: (N, 3, S, S) uint8, squares.

        Returns:
            features: (N, 512) float32, the last feature map's means.
            top1: (N,) int64, the likeliest class.
        """
        x = rgb.float() / 255
        if x.shape[-1] != _RESIZED:
            x = F.interpolate(x, size=(_RESIZED, _RESIZED), mode="bilinear", antialias=True, align_corners=False)
        edge = (_RESIZED - _CROPPED) // 2
        x = x[..., edge : edge + _CROPPED, edge : edge + _CROPPED].clamp(0, 1)
        maps = self.network.features((x - self.mean) / self.std)
        return maps.mean(dim=(2, 3)), self.network.classifier(maps).flatten(1).argmax(dim=1)


def class_of(path: Path) -> int | None:
    """ImageNet class of a photograph, 0..999, from the WordNet id in its name or its folder's.

    Both ImageNet's own layout (n01440764/ILSVRC2012_val_00000293.JPEG) and single files (inet_n01440764_tench.jpg) say
    it so.

    Args:
        path: the file.

    Returns:
        The class, or None where neither name holds the id of one.
    """
    for name in (path.name, path.parent.name):
        found = _WORDNET_ID.search(name)
        if found and found[0] in _classes():
            return _classes()[found[0]]
    return None


@cache
def _classes() -> dict[str, int]:
    """ImageNet's classes are its 1,000 WordNet ids in order."""
    return {wordnet_id: index for index, wordnet_id in enumerate(ImageNetInfo().label_names())}


class Moments:
    """Mean and covariance of features that come batch by batch, in float64; memory does not grow with their number."""

    def __init__(self):
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, features: Tensor) -> None:
        """Take a batch of features, (N, D) float32."""
        features = features.cpu().double()  # MPS has no float64
        self.count += len(features)
        self.total = self.total + features.sum(dim=0)
        self.squares = self.squares + features.T @ features

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """(D,) and (D, D) float64; the covariance is the sample's (N - 1), so two or more photographs are needed."""
        mean = self.total / self.count
        return mean, (self.squares - self.count * torch.outer(mean, mean)) / (self.count - 1)


def feature_distance(one: Moments, other: Moments) -> float | None:
    """Fréchet distance of two sets of features; None of fewer than two photographs."""
    if min(one.count, other.count) < 2:
        return None
    return metrics.frechet_distance(*one.mean_and_covariance(), *other.mean_and_covariance())
