"""sRGB to the network's (L, ab) and back: the only place that knows the scales 50 and 110.

L* in 0..100 becomes L = L*/50 - 1 in [-1, 1]; a*, b* become ab = (a*, b*)/110, where the whole sRGB
gamut lies in [-0.98, 0.89]. sRGB (IEC 61966-2-1), illuminant D65, 2 degree observer, with the constants
of `skimage.color.rgb2lab`. Everything is float32 on the tensor's own device and never under autocast:
in bfloat16 the conversion is off by up to 3 Lab units.
"""

import itertools
from functools import cache

import numpy as np
import torch
from torch import Tensor

# skimage.color: xyz_from_rgb, its inverse, and the D65 white point for the 2 degree observer.
_XYZ_FROM_RGB = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
)
_WHITE = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64)
# The same relative to white, as plain numbers.
_XYZ_WEIGHTS = (_XYZ_FROM_RGB / _WHITE[:, None]).tolist()
_LAB_FROM_XYZ_LINEAR_BELOW = 0.008856
_LINEAR_SLOPE, _LINEAR_OFFSET = 7.787, 16.0 / 116.0
# f at the knee of that curve, by skimage.color.lab2xyz.
_F_KNEE = 0.2068966

# Linear light up to which sRGB's curve is a line.
_SRGB_KNEE = 0.0031308

# ab over (f(X), f(Y), f(Z)).
_AB_FROM_F = np.array([[500, -500, 0], [0, 200, -200]], dtype=np.float32) / 110
# Pixels that are converted at a time on a CPU: bounds the memory of what lies between sRGB and Lab.
_PIXELS_AT_A_TIME = 1 << 16

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
def _linear_from_srgb8(device: torch.device) -> Tensor:
    """Linear light of each of the 256 sRGB levels, float32 (256,)."""
    level = torch.arange(256, dtype=torch.float64) / 255
    linear = torch.where(level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
    return linear.to(device, torch.float32)


@cache
def _linear_of_pairs() -> np.ndarray:
    """Linear light of every two sRGB levels that may be neighbours in memory, two float32 as a complex64, (65536,)."""
    pairs = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    return _linear_from_srgb8(torch.device("cpu")).numpy()[pairs].view(np.complex64)


@cache
def _srgb8_from_root(device: torch.device) -> Tensor:
    """The sRGB level in the middle of each step of the root of linear light from 0 to 1, uint8 (65537,), 1 the last."""
    linear = ((torch.arange(_TABLE_STEPS + 1, dtype=torch.float64) + 0.5) / _TABLE_STEPS).clamp_max(1).square()
    return (_srgb_from_linear(linear) * 255).round().to(device, torch.uint8)


@cache
def _matrix(name: str, device: torch.device) -> Tensor:
    """3x3 float32: linear RGB to XYZ relative to white ("to_xyz"), or its inverse ("to_rgb")."""
    relative = _XYZ_FROM_RGB / _WHITE[:, None]
    matrix = relative if name == "to_xyz" else torch.linalg.inv(relative)
    return matrix.to(device, torch.float32)


def _lab_from_xyz(xyz: Tensor) -> tuple[Tensor, Tensor]:
    """(L, ab) of XYZ relative to white, (N, 3, H, W) float32."""
    f = torch.where(
        xyz > _LAB_FROM_XYZ_LINEAR_BELOW,
        xyz.clamp_min(1e-6).pow(1 / 3),  # the floor keeps the unused branch finite
        _LINEAR_SLOPE * xyz + _LINEAR_OFFSET,
    )
    fx, fy, fz = f.unbind(1)
    L = (116 * fy - 16) / 50 - 1
    ab = torch.stack((500 * (fx - fy), 200 * (fy - fz)), dim=1) / 110
    return L.unsqueeze(1), ab


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    """Apply a 3x3 matrix to the channels of (N, 3, H, W): the one step that autocast would lower to bfloat16."""
    with torch.autocast(channels.device.type, enabled=False):
        return torch.matmul(matrix, channels.flatten(2)).view_as(channels)


def rgb_to_lab(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Split sRGB photographs into lightness and colour.

    Args:
        rgb: (N, 3, H, W) uint8, sRGB.

    Returns:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
        ab: (N, 2, H, W) float32, (a*, b*)/110, in about [-1, 1].

    Raises:
        TypeError: rgb is not uint8.
        ValueError: rgb is not (N, 3, H, W).

    Source: `skimage.color.rgb2lab` (D65, 2 degrees); agrees within 1e-3 Lab units.
    """
    if rgb.dtype != torch.uint8:
        raise TypeError(f"rgb must be uint8, got {rgb.dtype}")
    if rgb.ndim != 4 or rgb.shape[1] != 3:
        raise ValueError(f"rgb must be (N, 3, H, W), got {tuple(rgb.shape)}")
    return _lab_by_numpy(rgb) if rgb.device.type == "cpu" else _lab_by_torch(rgb)


def _lab_by_torch(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """`rgb_to_lab` where the photographs are."""
    table = _linear_from_srgb8(rgb.device)
    linear = table.index_select(0, rgb.flatten().int()).view(rgb.shape)
    return _lab_from_xyz(_mix(_matrix("to_xyz", rgb.device), linear))


def _lab_by_numpy(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """`rgb_to_lab` on a CPU: numpy's cube root is faster than torch's. In pieces, which spare memory."""
    to_xyz = _matrix("to_xyz", rgb.device).numpy()
    N, _, H, W = rgb.shape
    photos = rgb.reshape(N, 3, H * W).numpy()
    L, ab = (np.empty((N, channels, H * W), dtype=np.float32) for channels in (1, 2))
    at_a_time = min(_PIXELS_AT_A_TIME, H * W + H * W % 2)
    levels = np.zeros((3, at_a_time), dtype=np.uint8)
    linear = np.empty((3, at_a_time), dtype=np.float32)
    xyz, f = torch.empty(2, 3, at_a_time)
    for n, start in itertools.product(range(N), range(0, H * W, at_a_time)):
        here = slice(start, start + at_a_time)
        count = min(at_a_time, H * W - start)
        levels[:, :count] = photos[n, :, here]
        # Two levels at a time, since numpy looks eight bytes up as fast as four.
        np.take(_linear_of_pairs(), levels.view(np.uint16), mode="clip", out=linear.view(np.complex64))
        np.matmul(to_xyz, linear, out=xyz.numpy())
        # Each branch on its own side of the knee, where they meet: cheaper than choosing between them.
        torch.clamp_min(xyz, _LAB_FROM_XYZ_LINEAR_BELOW, out=f)
        np.cbrt(f.numpy(), out=f.numpy())
        f.add_(xyz.clamp_max_(_LAB_FROM_XYZ_LINEAR_BELOW).sub_(_LAB_FROM_XYZ_LINEAR_BELOW), alpha=_LINEAR_SLOPE)
        np.subtract(f[1, :count].numpy() * np.float32(116 / 50), np.float32(16 / 50 + 1), out=L[n, 0, here])
        np.matmul(_AB_FROM_F, f[:, :count].numpy(), out=ab[n, :, here])
    return torch.from_numpy(L).view(N, 1, H, W), torch.from_numpy(ab).view(N, 2, H, W)


def srgb_to_lab(srgb: Tensor) -> tuple[Tensor, Tensor]:
    """Split photographs of a network, which have gradients and no levels, into lightness and colour.

    Args:
        srgb: (N, 3, H, W) float32, sRGB, in 0..1.

    Returns:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
        ab: (N, 2, H, W) float32, (a*, b*)/110, in about [-1, 1].

    Source: as `rgb_to_lab`.
    """
    linear = torch.where(srgb > 0.04045, ((srgb + 0.055) / 1.055).pow(2.4), srgb / 12.92)
    # Sums of channels and not `_mix`: this is part of a generator, and a cached matrix would be part of its export.
    channels = linear.unbind(1)
    rows = [sum(weight * channel for weight, channel in zip(row, channels, strict=True)) for row in _XYZ_WEIGHTS]
    return _lab_from_xyz(torch.stack(rows, dim=1))


def lightness(rgb: Tensor) -> Tensor:
    """The L of `rgb_to_lab` alone, in a third of the work.

    Args:
        rgb: (N, 3, H, W) uint8, sRGB.

    Returns:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
    """
    table, weights = _linear_from_srgb8(rgb.device), _matrix("to_xyz", rgb.device)[1]
    y = sum(
        (weight * table).index_select(0, level.flatten().int()).view(level.shape)
        for weight, level in zip(weights, rgb.unbind(1), strict=True)
    )
    # Each branch on its own side of the knee, where they meet: cheaper than choosing between them.
    below = y.clamp_max(_LAB_FROM_XYZ_LINEAR_BELOW).sub_(_LAB_FROM_XYZ_LINEAR_BELOW).mul_(_LINEAR_SLOPE)
    f = _cube_root(y.clamp_min_(_LAB_FROM_XYZ_LINEAR_BELOW)).add_(below)
    return f.mul_(116 / 50).sub_(16 / 50 + 1).unsqueeze(1)


def _cube_root(x: Tensor) -> Tensor:
    """A new tensor; numpy's on a CPU, where it takes an eighth of the time of torch's power."""
    return torch.from_numpy(np.cbrt(x.numpy())) if x.device.type == "cpu" else x.pow(1 / 3)


def lab_to_rgb(L: Tensor, ab: Tensor, gamut: str = "chroma") -> Tensor:
    """Join lightness and colour into sRGB photographs.

    Args:
        L: (N, 1, H, W) float, L*/50 - 1; held to [-1, 1].
        ab: (N, 2, H, W) float, (a*, b*)/110.
        gamut: what is done with colours outside sRGB. "chroma" lowers chroma at constant L* and hue until
            they fit; "clip" cuts the RGB channels, which shifts lightness and hue.

    Returns:
        (N, 3, H, W) uint8, sRGB.

    Raises:
        ValueError: gamut is neither "chroma" nor "clip".

    Source: `skimage.color.lab2rgb`; the same 8-bit values for every colour inside sRGB, but for those within 0.004 of
    the middle between two levels.
    """
    if gamut not in ("chroma", "clip"):
        raise ValueError(f'gamut must be "chroma" or "clip", got "{gamut}"')
    L, ab = L.float().clamp(-1, 1), ab.float()
    linear = _pixels(_linear_rgb(L, ab))
    if gamut == "chroma":
        outside = _outside(linear)
        L_out, ab_out = _pixels(L).index_select(1, outside), _pixels(ab).index_select(1, outside)
        fitted = _linear_rgb(_row(L_out), _row(_fit(L_out, ab_out)))
        linear.index_copy_(1, outside, _pixels(fitted))
    at = linear.clamp_(0, 1).sqrt_().mul_(_TABLE_STEPS).int()
    levels = _srgb8_from_root(L.device).index_select(0, at.flatten())
    return _photographs(levels.view(at.shape), L)


def lab_to_srgb(L: Tensor, ab: Tensor) -> Tensor:
    """Join lightness and colour into photographs without levels; what is outside sRGB is cut.

    Args:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
        ab: (N, 2, H, W) float32, (a*, b*)/110.

    Returns:
        (N, 3, H, W) float32, sRGB, in 0..1; gradients go back to ab, but for channels that were cut.
    """
    return _srgb_from_linear(_linear_rgb(L, ab).clamp(0, 1))


def fit_to_gamut(L: Tensor, ab: Tensor) -> Tensor:
    """Lower chroma at constant L* and hue until every colour can be shown in sRGB.

    Args:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
        ab: (N, 2, H, W) float32, (a*, b*)/110.

    Returns:
        ab, (N, 2, H, W) float32; pixels inside sRGB are returned as they are.
    """
    outside = _outside(_pixels(_linear_rgb(L, ab)))
    fitted = _fit(_pixels(L).index_select(1, outside), _pixels(ab).index_select(1, outside))
    return _photographs(_pixels(ab).index_copy(1, outside, fitted), L)


def _pixels(photos: Tensor) -> Tensor:
    """Photographs (N, C, H, W) as (C, M), M = N*H*W: of the same memory where N is 1."""
    return photos.transpose(0, 1).flatten(1)


def _photographs(pixels: Tensor, like: Tensor) -> Tensor:
    """Pixels (C, M) as photographs (N, C, H, W) of another's N, H and W."""
    return pixels.view(-1, len(like), *like.shape[2:]).transpose(0, 1)


def _row(pixels: Tensor) -> Tensor:
    """Pixels (C, M) as a photograph of one row, (1, C, 1, M)."""
    return pixels[None, :, None]


def _fit(L: Tensor, ab: Tensor) -> Tensor:
    """The ab of pixels outside sRGB, (2, M), with the most chroma that fits; L is (1, M).

    X and Z are all that changes with chroma; Y's part in linear light is computed once.
    """
    of_x, of_y, of_z = _matrix("to_rgb", L.device).split(1, dim=1)
    fy = _f_of_y(L)
    from_y = of_y * _light(fy)
    toward = torch.stack((ab[0] * (110 / 500), ab[1] * (-110 / 200)))
    share = torch.full_like(L, 0.5)
    for halving in range(2, _GAMUT_HALVINGS + 2):
        f = torch.addcmul(fy, share, toward)
        f[1].clamp_min_(0)
        x, z = _light(f)
        too_far = _overshoot(torch.addcmul(from_y, of_x, x).addcmul_(of_z, z)).add_(_ROUNDING)
        share.sub_(too_far.sign_(), alpha=0.5**halving)
    # Now in the middle of what is left of the interval; its lower end fits.
    return (share - 0.5**halving) * ab


def in_gamut(L: Tensor, ab: Tensor) -> Tensor:
    """Tell which colours sRGB can show.

    Args:
        L: (N, 1, H, W) float32, L*/50 - 1.
        ab: (N, 2, H, W) float32, (a*, b*)/110.

    Returns:
        (N, 1, H, W) bool.
    """
    return (_overshoot(_linear_rgb(L, ab).transpose(0, 1)) <= 0).unsqueeze(1)


def _outside(linear: Tensor) -> Tensor:
    """Numbers of the pixels of linear light (3, M) that sRGB cannot show, int64; by numpy on a CPU, as `_cube_root`."""
    too_far = _overshoot(linear)
    if linear.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(too_far.numpy() > 0))
    return (too_far > 0).nonzero().squeeze(1)


def _overshoot(linear: Tensor) -> Tensor:
    """How far the worst channel of linear light (3, ...) is outside what sRGB can show; at most 0 where all fit."""
    red, green, blue = linear
    lowest, highest = red.minimum(green).minimum(blue), red.maximum(green).maximum(blue)
    return highest.sub_(1 + _GAMUT_ABOVE).maximum(lowest.neg_().sub_(_GAMUT_BELOW))


def to_lab_units(L: Tensor, ab: Tensor) -> Tensor:
    """Undo the scaling of L and ab.

    Args:
        L: (N, 1, H, W) float, L*/50 - 1.
        ab: (N, 2, H, W) float, (a*, b*)/110.

    Returns:
        (N, 3, H, W) float32: L* in 0..100, a* and b* in Lab units.
    """
    return torch.cat(((L.float() + 1) * 50, ab.float() * 110), dim=1)


def mean_chroma(ab: Tensor) -> Tensor:
    """Mean chroma of each photograph, the measure by which near-grey ones are found.

    Args:
        ab: (N, 2, H, W) float, (a*, b*)/110.

    Returns:
        (N,) float32, mean of sqrt(a*^2 + b*^2) in Lab units; 0 is grey.
    """
    return 110 * ab.float().norm(dim=1).flatten(1).mean(dim=1)


def _linear_rgb(L: Tensor, ab: Tensor) -> Tensor:
    """Linear light of (L, ab), (N, 3, H, W) float32, outside [0, 1] for colours outside sRGB."""
    fy = _f_of_y(L)
    a, b = ab.float().split(1, dim=1)
    # skimage.color.lab2xyz: a z below 0 cannot come from light.
    f = torch.cat((fy.add(a, alpha=110 / 500), fy, fy.sub(b, alpha=110 / 200).clamp_min_(0)), dim=1)
    return _mix(_matrix("to_rgb", L.device), _light(f))


def _f_of_y(L: Tensor) -> Tensor:
    """The f that L is made of, float32."""
    return L.float().mul(50 / 116).add_((50 + 16) / 116)


def _light(f: Tensor) -> Tensor:
    """X, Y or Z relative to white by its f, float32."""
    root = f.clamp_min(_F_KNEE)
    return (f - root).div_(_LINEAR_SLOPE).addcmul_(root, root * root)


def _srgb_from_linear(linear: Tensor) -> Tensor:
    """The sRGB curve of linear light in 0..1."""
    root = linear.clamp_min(_SRGB_KNEE).pow(1 / 2.4)  # the floor keeps the gradient of the unused branch finite
    return torch.where(linear > _SRGB_KNEE, 1.055 * root - 0.055, 12.92 * linear)
