"""The U-Net of pix2pix: eight strided convolutions down, eight transposed ones up, skips between, from scratch.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, sec. 6.1.1 and its
errata; dropout as sec. 3.2.
"""

import torch
from torch import Tensor, nn

from gan_color.errors import UsageError
from gan_color.generators.hub import Generator

# Widths of the eight levels, in multiples of the first.
_LEVELS = (1, 2, 4, 8, 8, 8, 8, 8)


class Pix2PixUNet(Generator):
    """Eight levels at any size; 54.4 million parameters at width 64.

    A level halves a side and rounds up, so below 256 pixels the deepest levels work on a single pixel, and at odd
    sides a level sees one more row or column of zeros. At multiples of 256 it is the paper's network.

    Dropout is the paper's noise, in the three blocks above the deepest one. Unlike the paper's it acts in training
    only: a photograph is to be coloured the same way each time.

    Args:
        width: channels of the first level.

    Raises:
        UsageError: the width is no whole number from 1 to 256.
    """

    # The deepest batch norm sees a pixel of this many.
    stride = 128

    def __init__(self, width: int = 64):
        super().__init__()
        if not (isinstance(width, int) and 1 <= width <= 256):
            raise UsageError(f"width is {width}: it must be a whole number from 1 to 256")
        widths = [width * factor for factor in _LEVELS]
        self.down = nn.ModuleList()
        for level, (channels, wider) in enumerate(zip([1, *widths], widths, strict=False)):
            # No norm in the first level, and none in the last, whose single pixel it would set to zero (errata).
            self.down.append(_down(channels, wider, normalised=0 < level < len(widths) - 1))
        self.up = nn.ModuleList()
        for level in reversed(range(1, len(widths))):
            deepest = level == len(widths) - 1
            channels = widths[level] if deepest else 2 * widths[level]
            self.up.append(_up(channels, widths[level - 1], dropout=len(widths) - 4 <= level < len(widths) - 1))
        self.head = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * widths[0], 2, 4, stride=2, padding=1))
        self.apply(_initialise)

    def forward(self, L: Tensor) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float, in [-1, 1]; H, W >= 32.

        Returns:
            ab: (N, 2, H, W), in (-1, 1).
        """
        x, maps = L, []
        for block in self.down:
            maps.append(x)
            x = block(x)
        for block in self.up:
            skip = maps.pop()
            x = torch.cat((_crop(block(x), skip), skip), dim=1)
        return torch.tanh(_crop(self.head(x), maps.pop()))


def _crop(x: Tensor, like: Tensor) -> Tensor:
    """The upper left part that is as large as another map."""
    return x.narrow(-2, 0, like.shape[-2]).narrow(-1, 0, like.shape[-1])


def _down(channels: int, width: int, normalised: bool) -> nn.Sequential:
    """LeakyReLU but for the photograph itself, 4x4 convolution with stride 2, norm."""
    # Two zeros at the far ends: an odd side needs them, an even one never looks at the second.
    layers = [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(channels, width, kernel_size=4, stride=2, bias=False)]
    if channels > 1:
        layers.insert(0, nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, *([nn.BatchNorm2d(width)] if normalised else []))


def _up(channels: int, width: int, dropout: bool) -> nn.Sequential:
    """ReLU, transposed 4x4 convolution with stride 2, norm, perhaps dropout."""
    convolution = nn.ConvTranspose2d(channels, width, kernel_size=4, stride=2, padding=1, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(width), *([nn.Dropout(0.5)] if dropout else []))


def _initialise(module: nn.Module) -> None:
    """Sec. 6.2: weights from N(0, 0.02), norms from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
