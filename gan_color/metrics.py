"""What is measured on photographs: pure functions, one value an image, on any device.

Inputs come in two forms. `rgb` is what a viewer sees, (N, 3, H, W) uint8 sRGB; `lab` is in Lab units,
(N, 3, H, W) float32 with L* in 0..100.
"""

import math

import torch
from torch import Tensor

# Hues that are exactly opposite stay on the same side whatever float32 makes of pi.
_HALF_TURN = math.pi + 1e-6


def psnr(fake_rgb: Tensor, real_rgb: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over the three channels.

    Args:
        fake_rgb: (N, 3, H, W) uint8.
        real_rgb: (N, 3, H, W) uint8.

    Returns:
        (N,) float32, dB; infinite for identical images.

    Source: `skimage.metrics.peak_signal_noise_ratio`, data_range=255.
    """
    error = (fake_rgb.float() - real_rgb.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(255**2 / error)


def ssim(fake_rgb: Tensor, real_rgb: Tensor) -> Tensor:
    """Structural similarity, mean over channels and over every full 11x11 Gaussian window.

    Args:
        fake_rgb: (N, 3, H, W) uint8; H, W >= 11.
        real_rgb: (N, 3, H, W) uint8.

    Returns:
        (N,) float32, at most 1.

    Source: Wang et al. 2004; `skimage.metrics.structural_similarity` with gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=255.
    """
    fake, real = fake_rgb.double(), real_rgb.double()
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-0.5 * (offsets / 1.5).square())
    window = (window / window.sum()).tolist()

    def blur_along(dim: int, images: Tensor) -> Tensor:
        # Shifted sums: on a CPU a sixth of the time of a convolution in float64.
        length = images.shape[dim] - 10
        blurred = images.narrow(dim, 0, length) * window[0]
        for shift in range(1, 11):
            blurred.add_(images.narrow(dim, shift, length), alpha=window[shift])
        return blurred

    def blur(images: Tensor) -> Tensor:
        return blur_along(3, blur_along(2, images))

    mean_f, mean_r = blur(fake), blur(real)
    var_f = blur(fake * fake) - mean_f * mean_f
    var_r = blur(real * real) - mean_r * mean_r
    covariance = blur(fake * real) - mean_f * mean_r
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = ((2 * mean_f * mean_r + c1) * (2 * covariance + c2)) / (
        (mean_f.square() + mean_r.square() + c1) * (var_f + var_r + c2)
    )
    return index.flatten(1).mean(dim=1).float()


def delta_e(fake_lab: Tensor, real_lab: Tensor) -> Tensor:
    """CIEDE2000 colour difference, mean over pixels.

    Args:
        fake_lab: (N, 3, H, W) float32, Lab units.
        real_lab: (N, 3, H, W) float32, Lab units.

    Returns:
        (N,) float32; about 1 is a just noticeable difference.

    Source: Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", 2005; `skimage.color.deltaE_ciede2000`.
    """
    return delta_e_map(fake_lab, real_lab).flatten(1).mean(dim=1)


def delta_e_map(fake_lab: Tensor, real_lab: Tensor) -> Tensor:
    """CIEDE2000 of every pixel: the (N, H, W) float32 map that `delta_e` takes the mean of."""
    L1, a1, b1 = fake_lab.float().unbind(1)
    L2, a2, b2 = real_lab.float().unbind(1)

    # a' stretches near-neutral colours; then chroma C' and hue h' (sec. 2.1, steps 1 and 2).
    chroma_mean = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    g = 0.5 * (1 - _seventh_power_share(chroma_mean))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    C1, C2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = torch.atan2(b1, a1) % (2 * math.pi), torch.atan2(b2, a2) % (2 * math.pi)

    # Differences; the hue difference goes the short way round and is 0 for a grey pixel.
    coloured = (C1 * C2) > 0
    dh = h2 - h1
    dh = torch.where(dh > _HALF_TURN, dh - 2 * math.pi, torch.where(dh < -_HALF_TURN, dh + 2 * math.pi, dh))
    dh = torch.where(coloured, dh, 0.0)
    dL, dC = L2 - L1, C2 - C1
    dH = 2 * (C1 * C2).sqrt() * torch.sin(dh / 2)

    # Means; the mean hue too lies on the short way.
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    total = h1 + h2
    wraps = (h1 - h2).abs() > _HALF_TURN
    h = torch.where(wraps, torch.where(total < 2 * math.pi, total + 2 * math.pi, total - 2 * math.pi), total) / 2

    # Weights of lightness, chroma, hue, and the rotation of blue.
    t = (
        1
        - 0.17 * torch.cos(h - math.radians(30))
        + 0.24 * torch.cos(2 * h)
        + 0.32 * torch.cos(3 * h + math.radians(6))
        - 0.20 * torch.cos(4 * h - math.radians(63))
    )
    s_L = 1 + 0.015 * (L - 50).square() / (20 + (L - 50).square()).sqrt()
    s_C = 1 + 0.045 * C
    s_H = 1 + 0.015 * C * t
    turn = math.radians(60) * torch.exp(-(((torch.rad2deg(h) - 275) / 25).square()))
    r = -2 * _seventh_power_share(C) * torch.sin(turn)
    terms = (dL / s_L).square() + (dC / s_C).square() + (dH / s_H).square() + r * (dC / s_C) * (dH / s_H)
    return terms.clamp_min(0).sqrt()


def _seventh_power_share(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7)), without the overflow of the powers."""
    return (1 / (1 + (25 / chroma.clamp_min(1e-6)).pow(7))).sqrt()


def colorfulness(rgb: Tensor) -> Tensor:
    """How colourful each photograph is: 0 for grey, about 40 for an ordinary photograph.

    Args:
        rgb: (N, 3, H, W) uint8.

    Returns:
        (N,) float32.

    Source: Hasler & Suesstrunk, "Measuring colourfulness in natural images", 2003, as published: rg and yb keep
    their signs.
    """
    rg, yb = _opponents(rgb)
    return _spread_and_mean(rg, yb)


def colorfulness_abs(rgb: Tensor) -> Tensor:
    """DDColor's variant of `colorfulness`, which CT2, ColorFormer and DDColor report: lower by about 3.

    Args:
        rgb: (N, 3, H, W) uint8.

    Returns:
        (N,) float32.

    Source: `basicsr/metrics/colorfulness.py` of DDColor: rg and yb lose their signs before mean and deviation.
    """
    rg, yb = _opponents(rgb)
    return _spread_and_mean(rg.abs(), yb.abs())


def _opponents(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Red against green and yellow against blue, each (N, H*W) float32."""
    R, G, B = rgb.float().unbind(1)
    return (R - G).flatten(1), ((R + G) / 2 - B).flatten(1)


def _spread_and_mean(rg: Tensor, yb: Tensor) -> Tensor:
    spread = torch.hypot(rg.std(dim=1, correction=0), yb.std(dim=1, correction=0))
    return spread + 0.3 * torch.hypot(rg.mean(dim=1), yb.mean(dim=1))


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Fréchet distance of two normal distributions, squared as is the custom.

    Args:
        mean: (D,) float64.
        covariance: (D, D) float64.
        other_mean: (D,) float64.
        other_covariance: (D, D) float64.

    Returns:
        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2); 0 where both are the same.

    Source: Dowson & Landau 1982; Heusel et al. 2017, eq. 6. The trace of the root is the sum of the square roots of
    the eigenvalues of C1^1/2 C2 C1^1/2, which is symmetric: no complex numbers, and singular covariances are no
    special case.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ other_covariance @ root)
    trace = covariance.trace() + other_covariance.trace() - 2 * product.clamp_min(0).sqrt().sum()
    return max(0.0, ((mean - other_mean).square().sum() + trace).item())
