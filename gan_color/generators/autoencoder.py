"""A convolutional encoder-decoder without skips, which predicts ab or, to compare, RGB."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_color import color
from gan_color.errors import UsageError
from gan_color.generators.hub import Generator

_WIDTHS = (64, 128, 256, 512)


class Autoencoder(Generator):
    """Four strided convolutions down, four up-sampled ones up; 3.1 million parameters.

    Args:
        target: "ab", or "rgb": the whole photograph is predicted and compared with the true one in training, and
            for use its ab are taken, to be joined with the input's own lightness like any other generator's.

    Raises:
        UsageError: target is neither.
    """

    def __init__(self, target: str = "ab"):
        super().__init__()
        if target not in ("ab", "rgb"):
            raise UsageError(f"--target is {target}: it must be ab or rgb")
        self.target = target
        widths = (1, *_WIDTHS)
        self.down = nn.ModuleList(_layer(channels, width, 2) for channels, width in itertools.pairwise(widths))
        widths = (*reversed(_WIDTHS), 32)
        self.up = nn.ModuleList(_layer(channels, width, 1) for channels, width in itertools.pairwise(widths))
        self.head = nn.Conv2d(32, 2 if target == "ab" else 3, kernel_size=3, padding=1)

    def forward(self, L: Tensor, as_rgb: bool = False) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float, in [-1, 1]; H, W >= 32.
            as_rgb: return the photograph that target "rgb" predicts, as its training compares it.

        Returns:
            ab: (N, 2, H, W), in (-1, 1); or sRGB (N, 3, H, W) float32, in (0, 1).
        """
        x, sizes = L, []
        for layer in self.down:
            sizes.append(x.shape[-2:])
            x = layer(x)
        for layer in self.up:
            x = layer(F.interpolate(x, size=sizes.pop()))
        x = self.head(x)
        if self.target == "ab":
            return torch.tanh(x)
        rgb = torch.sigmoid(x.float())  # bfloat16 would have fewer levels than a photograph
        return rgb if as_rgb else color.srgb_to_lab(rgb)[1]


def _layer(channels: int, width: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
