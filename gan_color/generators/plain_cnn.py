"""A plain convolutional network: twelve convolutions, three up-samplings, no pooling, no norm, no skips.

Source: the widths of Wallner, "Coloring Black and White photos with Neural Networks", 2017 (its beta version), a Keras
network that many first projects begin with.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_color.generators.hub import Generator

# Width and stride of the first nine convolutions.
_DOWN = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (256, 1), (128, 1))


class PlainCnn(Generator):
    """Twelve 3x3 convolutions with ReLU; 3.9 million parameters."""

    def __init__(self):
        super().__init__()
        widths = [1, *(width for width, _ in _DOWN)]
        self.down = nn.ModuleList(
            _convolution(channels, width, stride) for channels, (width, stride) in zip(widths, _DOWN, strict=False)
        )
        self.up = nn.ModuleList([_convolution(128, 64), _convolution(64, 32)])
        self.head = nn.Conv2d(32, 2, kernel_size=3, padding=1)

    def forward(self, L: Tensor) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float, in [-1, 1]; H, W >= 32.

        Returns:
            ab: (N, 2, H, W), in (-1, 1).
        """
        x, sizes = L, []
        for layer in self.down:
            if layer.stride == (2, 2):
                sizes.append(x.shape[-2:])
            x = F.relu(layer(x))
        # Up to the sizes met on the way down: odd ones do not double.
        x = F.relu(self.up[0](F.interpolate(x, size=sizes[2])))
        x = F.relu(self.up[1](F.interpolate(x, size=sizes[1])))
        return F.interpolate(torch.tanh(self.head(x)), size=sizes[0])


def _convolution(channels: int, width: int, stride: int = 1) -> nn.Conv2d:
    """He's initialisation: without norm, torch's own would let the signal die out over twelve layers."""
    layer = nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
