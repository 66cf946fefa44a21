"""sRGB to the network's (L, ab) and back: the only place that knows the scales 50 and 110.

L* in 0..100 becomes L = L*/50 - 1 in [-1, 1]; a*, b* become ab = (a*, b*)/110, where the whole sRGB
gamut lies in [-0.98, 0.89]. sRGB (IEC 61966-2-1), illuminant D65, 2 degree observer, with the constants
of `skimage.color.rgb2lab`. Everything is float32 on the tensor's own device and never under autocast:
in bfloat16 the conversion is off by up to 3 Lab units.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

from gan_color import light

# ab over (f(X), f(Y), f(Z)).
_AB_FROM_F = np.array([[500, -500, 0], [0, 200, -200]], dtype=np.float32) / 110
# Pixels that are converted at a time on a CPU: bounds the memory of what lies between sRGB and Lab.
_PIXELS_AT_A_TIME = 1 << 16


def _lab_from_xyz(xyz: Tensor) -> tuple[Tensor, Tensor]:
    """(L, ab) of XYZ relative to white, (N, 3, H, W) float32."""
    fx, fy, fz = light.to_f(xyz).unbind(1)
    L = (116 * fy - 16) / 50 - 1
    ab = torch.stack((500 * (fx - fy), 200 * (fy - fz)), dim=1) / 110
    return L.unsqueeze(1), ab


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
    linear = light.of_srgb8(rgb.device).index_select(0, rgb.flatten().int()).view(rgb.shape)
    return _lab_from_xyz(light.mix(light.matrix("to_xyz", rgb.device), linear))


def _lab_by_numpy(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """`rgb_to_lab` on a CPU, where numpy is the faster. In pieces, which spare memory, and take it once."""
    to_xyz = light.matrix("to_xyz", rgb.device).numpy()
    N, _, H, W = rgb.shape
    photos = rgb.reshape(N, 3, H * W).numpy()
    L, ab = (np.empty((N, channels, H * W), dtype=np.float32) for channels in (1, 2))
    at_a_time = min(_PIXELS_AT_A_TIME, max(2, H * W + H * W % 2))
    levels = np.zeros((3, at_a_time), dtype=np.uint8)
    linear = np.empty((3, at_a_time), dtype=np.float32)
    xyz, f = torch.empty(2, 3, at_a_time)
    for n, start in itertools.product(range(N), range(0, H * W, at_a_time)):
        here = slice(start, start + at_a_time)
        count = min(at_a_time, H * W - start)
        levels[:, :count] = photos[n, :, here]
        # Two levels at a time, since numpy looks eight bytes up as fast as four.
        np.take(light.of_srgb8_pairs(), levels.view(np.uint16), mode="clip", out=linear.view(np.complex64))
        np.matmul(to_xyz, linear, out=xyz.numpy())
        f_here = light.to_f_(xyz, out=f)[:, :count].numpy()
        np.subtract(f_here[1] * np.float32(116 / 50), np.float32(16 / 50 + 1), out=L[n, 0, here])
        np.matmul(_AB_FROM_F, f_here, out=ab[n, :, here])
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
    # Sums of channels, not `light.mix`: this is part of a generator, and a cached matrix would be part of its export.
    channels = light.from_srgb(srgb).unbind(1)
    rows = [sum(weight * channel for weight, channel in zip(row, channels, strict=True)) for row in light.XYZ_WEIGHTS]
    return _lab_from_xyz(torch.stack(rows, dim=1))


def lightness(rgb: Tensor) -> Tensor:
    """The L of `rgb_to_lab` alone, in a third of the work.

    Args:
        rgb: (N, 3, H, W) uint8, sRGB.

    Returns:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
    """
    table, weights = light.of_srgb8(rgb.device), light.matrix("to_xyz", rgb.device)[1]
    y = sum(
        (weight * table).index_select(0, level.flatten().int()).view(level.shape)
        for weight, level in zip(weights, rgb.unbind(1), strict=True)
    )
    return light.to_f_(y, out=torch.empty_like(y)).mul_(116 / 50).sub_(16 / 50 + 1).unsqueeze(1)


@torch.no_grad()
def lab_to_rgb(L: Tensor, ab: Tensor, gamut: str = "chroma") -> Tensor:
    """Join lightness and colour into sRGB photographs.

    Args:
        L: (N, 1, H, W) float, L*/50 - 1; held to [-1, 1].
        ab: (N, 2, H, W) float, (a*, b*)/110.
        gamut: what is done with colours outside sRGB. "chroma" lowers chroma at constant L* and hue until
            they fit; "clip" cuts the RGB channels, which shifts lightness and hue.

    Returns:
        (N, 3, H, W) uint8, sRGB; any colour where L or ab is no number.

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
        outside = light.outside(linear)
        L_out, ab_out = _pixels(L).index_select(1, outside), _pixels(ab).index_select(1, outside)
        fitted = _linear_rgb(_row(L_out), _row(_fit(L_out, ab_out)))
        linear.index_copy_(1, outside, _pixels(fitted))
    return _photographs(light.to_srgb8_(linear), L)


def lab_to_srgb(L: Tensor, ab: Tensor) -> Tensor:
    """Join lightness and colour into photographs without levels; what is outside sRGB is cut.

    Args:
        L: (N, 1, H, W) float32, L*/50 - 1, in [-1, 1].
        ab: (N, 2, H, W) float32, (a*, b*)/110.

    Returns:
        (N, 3, H, W) float32, sRGB, in 0..1; gradients go back to ab, but for channels that were cut.
    """
    return light.to_srgb(_linear_rgb(L, ab).clamp(0, 1))


def _pixels(photos: Tensor) -> Tensor:
    """Photographs (N, C, H, W) as (C, M), M = N*H*W: of the same memory where N is 1."""
    return photos.transpose(0, 1).flatten(1)


def _photographs(pixels: Tensor, like: Tensor) -> Tensor:
    """Pixels (C, M) as photographs (N, C, H, W) of another's N, H and W."""
    return pixels.view(len(pixels), len(like), *like.shape[2:]).transpose(0, 1)


def _row(pixels: Tensor) -> Tensor:
    """Pixels (C, M) as a photograph of one row, (1, C, 1, M)."""
    return pixels[None, :, None]


def _fit(L: Tensor, ab: Tensor) -> Tensor:
    """The ab of pixels outside sRGB, (2, M), with the most chroma that fits; L is (1, M)."""
    toward = torch.stack((ab[0] * (110 / 500), ab[1] * (-110 / 200)))
    return light.share_that_fits(_f_of_y(L), toward) * ab


def in_gamut(L: Tensor, ab: Tensor) -> Tensor:
    """Tell which colours sRGB can show.

    Args:
        L: (N, 1, H, W) float32, L*/50 - 1.
        ab: (N, 2, H, W) float32, (a*, b*)/110.

    Returns:
        (N, 1, H, W) bool.
    """
    return (light.overshoot(_linear_rgb(L, ab).transpose(0, 1)) <= 0).unsqueeze(1)


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
    return light.mix(light.matrix("to_rgb", L.device), light.of_f(f))


def _f_of_y(L: Tensor) -> Tensor:
    """The f that L is made of, float32."""
    return L.float().mul(50 / 116).add_((50 + 16) / 116)
