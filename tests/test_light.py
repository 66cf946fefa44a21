"""Linear light, against scikit-image and against itself."""

import numpy as np
import skimage.color
import torch

from gan_color import color, light

CPU = torch.device("cpu")
LIGHT = torch.linspace(0, 1, 100_003)


def test_of_srgb8_and_xyz_are_scikit_images():
    levels = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    linear = light.of_srgb8(CPU)[torch.from_numpy(levels.astype(np.int64))]
    xyz = linear.double() @ torch.tensor(light.XYZ_WEIGHTS, dtype=torch.float64).T
    white = skimage.color.xyz_tristimulus_values(illuminant="D65", observer="2", dtype=float)
    np.testing.assert_allclose(xyz * torch.from_numpy(white), skimage.color.rgb2xyz(levels), atol=1e-6)


def test_what_is_kept_serves_a_training_whoever_asked_first():
    kept = (light.of_srgb8, light.of_srgb8_pairs, light._srgb8_of_root, light.matrix)
    for each in kept:
        each.cache_clear()
    rgb = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    with torch.inference_mode():
        color._lab_by_torch(rgb)
        color.lab_to_rgb(*color.rgb_to_lab(rgb))
    assert all(each.cache_info().currsize for each in kept)
    assert not any(each(CPU).is_inference() for each in (light.of_srgb8, light._srgb8_of_root))
    L, ab = color.rgb_to_lab(rgb)
    color.lab_to_srgb(L, ab.requires_grad_()).sum().backward()  # autograd keeps the matrix for its way back
    assert ab.grad.isfinite().all()


def test_pairs_of_levels_are_their_levels():
    levels = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)
    by_pairs = light.of_srgb8_pairs()[levels.view(np.uint16)].view(np.float32)
    assert (by_pairs == light.of_srgb8(CPU).numpy()[levels]).all()


def test_srgb_and_back():
    torch.testing.assert_close(light.from_srgb(light.to_srgb(LIGHT)), LIGHT, atol=1e-6, rtol=1e-5)
    exact = light.to_srgb(LIGHT.double()) * 255
    between = (exact - exact.floor() - 0.5).abs() < 0.004
    assert (light.to_srgb8_(LIGHT.clone())[~between] == exact.round()[~between]).all()
    assert light.to_srgb8_(torch.tensor([-0.1, 1.2])).tolist() == [0, 255]


def test_f_and_back():
    f = light.to_f(LIGHT)
    torch.testing.assert_close(light.of_f(f), LIGHT, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(light.to_f_(LIGHT.clone(), out=torch.empty_like(LIGHT)), f, atol=1e-5, rtol=0)


def test_share_that_fits_is_the_most():
    """At it every colour can be shown; a hundredth more cannot, but where the whole chroma fits."""
    torch.manual_seed(0)
    fy, toward = torch.rand(1, 2000) * 0.8 + 0.15, torch.randn(2, 2000)
    share = light.share_that_fits(fy, toward)
    assert (share >= 0).all()
    assert (share < 1).all()

    def linear(share):
        f = fy + share * torch.stack((toward[0], torch.zeros(2000), toward[1]))
        return light.mix(light.matrix("to_rgb", CPU), light.of_f(torch.cat((f[:2], f[2:].clamp_min(0))))[None])[0]

    assert not len(light.outside(linear(share)))
    part = (share < 0.98).squeeze(0)
    assert part.sum() > 1900
    assert len(light.outside(linear(share + 0.01)[:, part])) == part.sum()
