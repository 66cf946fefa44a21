"""The default generator: a timm ResNet encoder, explicit skips, a lean decoder.

References:
    Ronneberger et al., "U-Net", 2015: encoder, decoder, skips.
    timm `features_only`: the encoder's feature maps at strides 2, 4, 8, 16 and 32.
    Odena et al., "Deconvolution and checkerboard artifacts", 2016: up-sample, then convolve.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_color.errors import UsageError
from gan_color.generators.hub import Generator
from gan_color.generators.pretrained import encoder, normalise


class ResNetUNet(Generator):
    """U-Net on a timm ResNet-family encoder; 12.5 million parameters with resnet18.

    Args:
        backbone: a timm model that offers five feature maps, such as resnet18, resnet34, resnet50, resnext50; some
            that are no ResNets, such as dla34, take multiples of 32 pixels only.
        weights: what the encoder starts from: "none", "imagenet" (timm's, downloaded or cached), the path of a
            state dict for that timm model (RGB first layers are summed to grey), or "auto" (`choose_weights`).
        widths: channels of the five decoder blocks, deepest first.

    Raises:
        UsageError: timm has no such backbone, it offers no five feature maps, or the weights cannot be had.

    Example:
        >>> ResNetUNet("resnet18")(torch.zeros(1, 1, 250, 333)).shape
        torch.Size([1, 2, 250, 333])
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        weights: str = "none",
        widths: Sequence[int] = (128, 64, 32, 16, 16),
    ):
        super().__init__()
        self.encoder = encoder(backbone, weights, features_only=True)
        if len(self.encoder.feature_info.channels()) != 5:
            raise UsageError(f"--backbone {backbone} does not offer five feature maps: take a ResNet-family one")
        *skips, deepest = self.encoder.feature_info.channels()
        # The last skip is L itself: at full resolution edges come from the photograph.
        skips = [1, *skips]
        self.decoder = nn.ModuleList()
        channels = deepest
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
        *skips, x = self.encoder(normalise(L))
        for block, skip in zip(self.decoder, reversed([L, *skips]), strict=True):
            x = block(x, skip)
        return torch.tanh(self.head(x))


class _DecoderBlock(nn.Module):
    """Up to the skip's size, beside the skip, two 3x3 convolutions."""

    def __init__(self, channels: int, skip_channels: int, width: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels + skip_channels, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Always to the skip's own size, without asking: a comparison would be frozen into an exported graph.
        x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
        return self.convolutions(torch.cat((x, skip.to(x.dtype)), dim=1))
