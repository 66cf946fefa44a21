"""The architecture of fastai's DynamicUnet on a ResNet of timm, without forward hooks.

fastai stores the encoder's maps by hooks, which break copies, threads, export and compilation; here they are passed on.
Layers bear fastai's numbers, so that a state dict of one loads into the other.

References:
    fastai, `fastai.vision.models.unet.DynamicUnet` with its defaults.
    Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017: the initialisation of the up-sampling.
"""

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_color.errors import UsageError
from gan_color.generators.hub import Generator
from gan_color.generators.pretrained import resnet_layers

# The layers of a ResNet after which its maps are as large as they will be: their outputs are the skips.
_SKIPS = (2, 4, 5, 6)


class DynamicUNet(Generator):
    """U-Net with pixel shuffle and a block at full resolution; 31.1 million parameters with resnet18.

    Args:
        backbone: a ResNet of timm.
        weights: what the encoder starts from, as in `ResNetUNet`; or a file of the whole network that fastai's
            DynamicUnet was saved to, alone (`res18-unet.pt`) or with a discriminator (`final_model_weights.pt`,
            whose keys begin with `net_G.`).
        bound: "tanh", or "clamp": fastai's own output wherever it is within [-1, 1], for weights trained there.

    Raises:
        UsageError: timm has no such ResNet, the weights cannot be had or do not fit, or bound is neither.
    """

    def __init__(self, backbone: str = "resnet18", weights: str = "none", bound: str = "tanh"):
        super().__init__()
        if bound not in ("tanh", "clamp"):
            raise UsageError(f"bound is {bound}: it must be tanh or clamp")
        self.bound = bound
        whole = _read_whole(weights)
        encoder, channels = resnet_layers(backbone, "none" if whole else weights)
        *skips, deepest = channels
        blocks, width = [], deepest
        for skip in reversed(skips):
            blocks.append(_Block(width, skip, last=len(blocks) == len(skips) - 1))
            width = blocks[-1].width
        middle = nn.Sequential(_convolution(deepest, 2 * deepest), _convolution(2 * deepest, deepest))
        # Identities stand where fastai keeps layers without weights.
        self.layers = nn.ModuleList(
            [
                *(encoder, _norm(deepest), nn.ReLU(), middle),
                *blocks,
                *(_shuffle(width, width), nn.Identity(), nn.Identity()),
                *(_Residual(width + 1), nn.Sequential(nn.Conv2d(width + 1, 2, kernel_size=1))),
            ]
        )
        if whole:
            try:
                self.load_state_dict(whole)
            except RuntimeError as error:
                reason = str(error).splitlines()[1].strip()
                raise UsageError(f"--weights {weights} is not for a DynamicUnet on {backbone}: {reason}") from error

    def forward(self, L: Tensor) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float, in [-1, 1]; H, W >= 32.

        Returns:
            ab: (N, 2, H, W), in (-1, 1), or [-1, 1] when clamped.
        """
        encoder, norm, relu, middle, *blocks, shuffle, _, _, residual, head = self.layers
        x, skips = L, []
        for number, layer in enumerate(encoder):
            x = layer(x)
            if number in _SKIPS:
                skips.append(x)
        x = middle(relu(norm(x)))
        for block in blocks:
            x = block(x, skips.pop())
        x = _resized(shuffle(x), L)
        x = head(residual(torch.cat((x, L.to(x.dtype)), dim=1)))
        return torch.tanh(x) if self.bound == "tanh" else x.clamp(-1, 1)


class _Block(nn.Module):
    """Pixel shuffle up to the skip's size, beside the normalised skip, two 3x3 convolutions (fastai's UnetBlock)."""

    def __init__(self, channels: int, skip_channels: int, last: bool):
        super().__init__()
        both = channels // 2 + skip_channels
        self.width = both // 2 if last else both
        self.shuf = _shuffle(channels, channels // 2)
        self.bn = _norm(skip_channels)
        self.conv1 = _convolution(both, self.width)
        self.conv2 = _convolution(self.width, self.width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = _resized(self.shuf(x), skip)
        return self.conv2(self.conv1(F.relu(torch.cat((x, self.bn(skip).to(x.dtype)), dim=1))))


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity (fastai's ResBlock)."""

    def __init__(self, channels: int):
        super().__init__()
        second = _convolution(channels, channels)[:1]
        self.convpath = nn.Sequential(_convolution(channels, channels), second)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convpath(x) + x)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """To the size of another map; without asking whether it is so already, which an export would freeze."""
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


def _convolution(channels: int, width: int) -> nn.Sequential:
    """3x3 convolution and ReLU, initialised as fastai's."""
    convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1)
    nn.init.kaiming_normal_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.ReLU())


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm, initialised as fastai's."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.bias, 1e-3)
    return norm


def _shuffle(channels: int, width: int) -> nn.Sequential:
    """Twice the size: 1x1 convolution, ReLU, pixel shuffle; the four pixels made of one begin alike (ICNR)."""
    convolution = nn.Conv2d(channels, 4 * width, kernel_size=1)
    one_of_four = nn.init.kaiming_normal_(torch.empty(width, channels, 1, 1))
    with torch.no_grad():
        convolution.weight.copy_(one_of_four.repeat_interleave(4, dim=0))
        convolution.bias.zero_()
    return nn.Sequential(nn.Sequential(convolution, nn.ReLU()), nn.PixelShuffle(2))


def _read_whole(weights: str) -> dict[str, Tensor] | None:
    """The generator's state dict in a file of fastai's network; None where the file, if it is one, is another's."""
    if weights in ("auto", "imagenet", "none") or not os.path.isfile(weights):
        return None
    try:
        given = torch.load(weights, map_location="cpu", weights_only=True)
        whole = {name.removeprefix("net_G."): tensor for name, tensor in given.items()}
    except Exception:  # not of torch: `choose_weights` says what is wrong with it
        return None
    return {name: tensor for name, tensor in whole.items() if name.startswith("layers.")} or None
