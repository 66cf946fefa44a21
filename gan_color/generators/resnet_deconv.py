"""The first half of a ResNet on grey, then transposed convolutions up: no skips, no bottleneck to speak of."""

import torch
from torch import Tensor, nn

from gan_color.generators.hub import Generator
from gan_color.generators.pretrained import normalise, resnet_layers


class ResNetDeconv(Generator):
    """First six layers of a ResNet, three transposed convolutions; 0.8 million parameters with resnet18.

    Args:
        backbone: a ResNet of timm; its layers up to `layer2` are kept, stride 8.
        weights: what they start from, as in `ResNetUNet`.

    Raises:
        UsageError: timm has no such ResNet, or the weights cannot be had.
    """

    def __init__(self, backbone: str = "resnet18", weights: str = "none"):
        super().__init__()
        layers, channels = resnet_layers(backbone, weights)
        self.encoder = layers[:6]
        self.decoder = nn.Sequential(_up(channels[2], 64), _up(64, 32), nn.ConvTranspose2d(32, 2, 4, 2, padding=1))

    def forward(self, L: Tensor) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float, in [-1, 1]; H, W >= 32.

        Returns:
            ab: (N, 2, H, W), in (-1, 1).
        """
        ab = self.decoder(self.encoder(normalise(L)))
        # The encoder rounds a side up to a multiple of 8.
        return torch.tanh(ab[..., : L.shape[-2], : L.shape[-1]])


def _up(channels: int, width: int) -> nn.Sequential:
    convolution = nn.ConvTranspose2d(channels, width, kernel_size=4, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
