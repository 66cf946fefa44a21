"""Linear light, between sRGB's levels and CIE's curve f, and what of it sRGB can show: what `color` is made of.

sRGB (IEC 61966-2-1), illuminant D65, 2 degree observer, with the constants of `skimage.color`. XYZ is relative to
white; a* and b* are differences of f. Everything is float32 on the tensor's own device. What is kept is made outside
inference mode, whoever asks for it first: a training may ask next, and autograd takes no inference tensors.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

# skimage.color: xyz_from_rgb and the D65 white point for the 2 degree observer.
_XYZ_FROM_RGB = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
)
_WHITE = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
# X, Y and Z relative to white of linear red, green and blue, as plain numbers.
XYZ_WEIGHTS = (_XYZ_FROM_RGB / _WHITE[:, None]).tolist()

# skimage.color.xyz2lab: up to this light f is a line. And f there, by skimage.color.lab2xyz.
_KNEE, _F_KNEE = 0.008856, 0.2068966
_SLOPE, _OFFSET = 7.787, 16.0 / 116.0
# Linear light up to which sRGB's curve is a line.
_SRGB_KNEE = 0.0031308

# How far linear light may leave [0, 1] before a colour counts as outside sRGB: under half an 8-bit level
# at both ends.
_GAMUT_BELOW, _GAMUT_ABOVE = 1e-4, 1e-3
# Halvings of the chroma interval: leaves 1/4096 of the chroma, under 0.05 Lab units.
_GAMUT_HALVINGS = 12
# What two ways of computing the same linear light may differ by, several times over.
_ROUNDING = 1e-6
# Steps of the table of sRGB levels over the root of linear light: an error of at most 0.003 levels before rounding.
_TABLE_STEPS = 1 << 16


@cache
@torch.inference_mode(False)
def of_srgb8(device: torch.device) -> Tensor:
    """Linear light of each of the 256 sRGB levels, (256,)."""
    return from_srgb(torch.arange(256, dtype=torch.float64) / 255).to(device, torch.float32)


@cache
def of_srgb8_pairs() -> np.ndarray:
    """Linear light of every two sRGB levels that may be neighbours in memory, two float32 as a complex64, (65536,)."""
    pairs = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    return of_srgb8(torch.device("cpu")).numpy()[pairs].view(np.complex64)


def from_srgb(srgb: Tensor) -> Tensor:
    """Linear light of sRGB in 0..1."""
    return torch.where(srgb > 0.04045, ((srgb + 0.055) / 1.055).pow(2.4), srgb / 12.92)


def to_srgb(linear: Tensor) -> Tensor:
    """The sRGB in 0..1 of linear light in 0..1."""
    root = linear.clamp_min(_SRGB_KNEE).pow(1 / 2.4)  # the floor keeps the gradient of the unused branch finite
    return torch.where(linear > _SRGB_KNEE, 1.055 * root - 0.055, 12.92 * linear)


def to_srgb8_(linear: Tensor) -> Tensor:
    """The sRGB levels, uint8, of linear light, which is cut to 0..1 and overwritten; any level of what is no number."""
    at = linear.clamp_(0, 1).sqrt_().mul_(_TABLE_STEPS).int()
    at.clamp_(0, _TABLE_STEPS)  # a processor makes any integer of what is no number
    return _srgb8_of_root(linear.device).index_select(0, at.flatten()).view(at.shape)


@cache
@torch.inference_mode(False)
def _srgb8_of_root(device: torch.device) -> Tensor:
    """The sRGB level in the middle of each step of the root of linear light from 0 to 1, uint8 (65537,), 1 the last."""
    linear = ((torch.arange(_TABLE_STEPS + 1, dtype=torch.float64) + 0.5) / _TABLE_STEPS).clamp_max(1).square()
    return (to_srgb(linear) * 255).round().to(device, torch.uint8)


@cache
@torch.inference_mode(False)
def matrix(name: str, device: torch.device) -> Tensor:
    """(3, 3): linear RGB to XYZ relative to white ("to_xyz"), or its inverse ("to_rgb")."""
    relative = _XYZ_FROM_RGB / _WHITE[:, None]
    return (relative if name == "to_xyz" else torch.linalg.inv(relative)).to(device, torch.float32)


def mix(matrix: Tensor, channels: Tensor) -> Tensor:
    """Apply a 3x3 matrix to the channels of (N, 3, H, W): the one step that autocast would lower to bfloat16."""
    with torch.autocast(channels.device.type, enabled=False):
        return torch.matmul(matrix, channels.flatten(2)).view_as(channels)


def to_f(xyz: Tensor) -> Tensor:
    """CIE's curve of X, Y or Z."""
    root = xyz.clamp_min(1e-6).pow(1 / 3)  # the floor keeps the gradient of the unused branch finite
    return torch.where(xyz > _KNEE, root, _SLOPE * xyz + _OFFSET)


def to_f_(xyz: Tensor, out: Tensor) -> Tensor:
    """`to_f` without a gradient: writes f into `out`, returns it, and overwrites xyz."""
    # Each branch on its own side of the knee, where they meet: cheaper than choosing between them.
    torch.clamp_min(xyz, _KNEE, out=out)
    if out.device.type == "cpu":
        np.cbrt(out.numpy(), out=out.numpy())  # an eighth of the time of torch's power
    else:
        out.pow_(1 / 3)
    return out.add_(xyz.clamp_max_(_KNEE).sub_(_KNEE), alpha=_SLOPE)


def of_f(f: Tensor) -> Tensor:
    """X, Y or Z of f."""
    root = f.clamp_min(_F_KNEE)
    return (f - root).div_(_SLOPE).addcmul_(root, root * root)


def overshoot(linear: Tensor) -> Tensor:
    """How far the worst channel of linear light (3, ...) is outside what sRGB can show; at most 0 where all fit."""
    red, green, blue = linear
    lowest, highest = red.minimum(green).minimum(blue), red.maximum(green).maximum(blue)
    return highest.sub_(1 + _GAMUT_ABOVE).maximum(lowest.neg_().sub_(_GAMUT_BELOW))


def outside(linear: Tensor) -> Tensor:
    """Numbers of the pixels of linear light (3, M) that sRGB cannot show, int64."""
    too_far = overshoot(linear)
    if linear.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(too_far.numpy() > 0))  # as in `to_f_`
    return (too_far > 0).nonzero().squeeze(1)


def share_that_fits(fy: Tensor, toward: Tensor) -> Tensor:
    """The most chroma that sRGB can show, as a share of what was meant.

    X and Z are all that changes with chroma; Y's part in linear light is computed once.

    Args:
        fy: (1, M), f of Y.
        toward: (2, M), what all of the chroma adds to that for X and Z.

    Returns:
        (1, M), in 0..1.
    """
    of_x, of_y, of_z = matrix("to_rgb", fy.device).split(1, dim=1)
    from_y = of_y * of_f(fy)
    share = torch.full_like(fy, 0.5)
    for halving in range(2, _GAMUT_HALVINGS + 2):
        f = torch.addcmul(fy, share, toward)
        f[1].clamp_min_(0)
        x, z = of_f(f)
        too_far = overshoot(torch.addcmul(from_y, of_x, x).addcmul_(of_z, z)).add_(_ROUNDING)
        share.sub_(too_far.sign_(), alpha=0.5**halving)
    # Now in the middle of what is left of the interval; its lower end fits.
    return share.sub_(0.5**halving)
