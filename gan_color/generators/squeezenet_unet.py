"""A U-Net on SqueezeNet 1.0, a small encoder whose ImageNet weights are a file of five megabytes.

References:
    Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016, table 1: the encoder.
    torchvision.models.squeezenet1_0: its layers and weights.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_color.generators.hub import Generator
from gan_color.generators.pretrained import normalise, pooling, squeezenet_features, squeezenet_stages

# Channels of the encoder's stages.
_CHANNELS = (96, 256, 512, 512)
# Channels of the scene's features.
_SCENE = 256


class SqueezeNetUNet(Generator):
    """U-Net on SqueezeNet 1.0; 3.8 million parameters.

    Args:
        weights: what the encoder starts from: "none", "imagenet" (torchvision's, downloaded or cached), the path of a
            state dict of torchvision's `squeezenet1_0`, or "auto".
        widths: channels of the five decoder blocks, deepest first.

    Raises:
        UsageError: the weights cannot be had.
    """

    def __init__(self, weights: str = "none", widths: Sequence[int] = (192, 128, 64, 32, 16)):
        super().__init__()
        self.encoder = squeezenet_stages(squeezenet_features(weights))
        # What the whole photograph shows: one more halving, deeper than SqueezeNet has features of.
        self.scene = nn.Sequential(
            pooling(),
            *_convolution(_CHANNELS[-1], _SCENE),
            *_convolution(_SCENE, _SCENE),
        )
        # The last skip is L itself: at full resolution edges come from the photograph.
        skips = [1, *_CHANNELS]
        self.decoder = nn.ModuleList()
        channels = _SCENE
        for skip, width in zip(reversed(skips), widths, strict=True):
            self.decoder.append(_DecoderBlock(channels, skip, width))
            channels = width
        self.head = nn.Conv2d(channels, 2, kernel_size=3, padding=1)

    def forward(self, L: Tensor) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float, in [-1, 1]; H, W >= 32.

        Returns:
            ab: (N, 2, H, W), in (-1, 1).
        """
        skips, x = [L], normalise(L)
        for layers in self.encoder:
            x = layers(x)
            skips.append(x)
        x = self.scene(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return torch.tanh(self.head(x))


class _DecoderBlock(nn.Module):
    """Both brought to one width, what comes from below up to the skip's size, added; then two 3x3 convolutions.

    Beside each other instead of added they would cost three times as much at this encoder's widths.
    """

    def __init__(self, channels: int, skip_channels: int, width: int):
        super().__init__()
        self.below = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        self.skip = nn.Conv2d(skip_channels, width, kernel_size=1, bias=False)
        self.convolutions = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            *_convolution(width, width),
            *_convolution(width, width),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Always to the skip's own size, without asking: a comparison would be frozen into an exported graph.
        x = F.interpolate(self.below(x), size=skip.shape[-2:], mode="nearest")
        return self.convolutions(x + self.skip(skip))


def _convolution(channels: int, width: int) -> list[nn.Module]:
    """3x3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
