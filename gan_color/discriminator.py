"""The discriminator: pix2pix's PatchGAN, which judges every patch of a photograph on its own."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """PatchGAN over lightness and colour: C64-C128-C256-C512 at depth 3.

    At depth 3 each logit sees 70x70 pixels, 256x256 photographs give 30x30 logits, and the network has
    2.77 million parameters with batch norm.

    Args:
        depth: strided layers; 1 sees 16x16 pixels, 2 sees 34x34, 3 sees 70x70, 4 sees 142x142.
        norm: "batch", "instance", "spectral" (on the weights) or "none".
        width: channels of the first layer; doubled layer by layer up to eight times.
        colours: channels that it sees beside L: 2 for ab, 3 for sRGB.

    Raises:
        ValueError: norm is none of these.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", sec. 3.2.2, 6.1.2.
    """

    def __init__(self, depth: int = 3, norm: str = "batch", width: int = 64, colours: int = 2):
        super().__init__()
        if norm not in ("batch", "instance", "spectral", "none"):
            raise ValueError(f'norm must be "batch", "instance", "spectral" or "none", got "{norm}"')
        widths = [width * min(2**layer, 8) for layer in range(depth + 1)]
        layers = [*_layer(1 + colours, widths[0], 2, norm, normalised=False)]
        for layer in range(1, depth + 1):
            stride = 2 if layer < depth else 1
            layers += _layer(widths[layer - 1], widths[layer], stride, norm)
        self.layers = nn.Sequential(*layers, _convolution(widths[-1], 1, 1, norm))
        self.apply(_initialise)

    def forward(self, L: Tensor, seen: Tensor) -> Tensor:
        """Judge photographs.

        Args:
            L: (N, 1, H, W) float, in [-1, 1].
            seen: (N, 2, H, W) float ab, or (N, 3, H, W) float sRGB, in about [-1, 1].

        Returns:
            Patch logits (N, 1, h, w): above 0 for real.
        """
        return self.layers(torch.cat((L, seen), dim=1))


def _layer(channels: int, width: int, stride: int, norm: str, normalised: bool = True) -> list[nn.Module]:
    """Convolution, norm, LeakyReLU; pix2pix leaves the first layer without norm."""
    bias = norm != "batch" or not normalised
    layers: list[nn.Module] = [_convolution(channels, width, stride, norm, bias)]
    if normalised and norm == "batch":
        # Its buffers hold the last batch's statistics: in evaluation mode a photograph is judged as in that company.
        layers.append(nn.BatchNorm2d(width, momentum=1.0))
    if normalised and norm == "instance":
        layers.append(nn.InstanceNorm2d(width))
    return [*layers, nn.LeakyReLU(0.2, inplace=True)]


def _convolution(channels: int, width: int, stride: int, norm: str, bias: bool = True) -> nn.Module:
    convolution = nn.Conv2d(channels, width, kernel_size=4, stride=stride, padding=1, bias=bias)
    return spectral_norm(convolution) if norm == "spectral" else convolution


def _initialise(module: nn.Module) -> None:
    """pix2pix, sec. 6.2: weights from N(0, 0.02); spectral norm scales its weights itself."""
    if isinstance(module, nn.Conv2d) and not hasattr(module, "parametrizations"):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
