"""Metrics against scikit-image, against published values, and against formulas written here."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import draw_photo
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gan_color import metrics

# L, a, b of either colour and their difference: Sharma, Wu, Dalal 2005, table 1.
CIEDE2000_PAIRS = [
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


def photos(*seeds: int) -> np.ndarray:
    """Drawn photographs, (N, H, W, 3) uint8."""
    return np.stack([np.asarray(draw_photo(seed)) for seed in seeds])


def noisy(images: np.ndarray, spread: float) -> np.ndarray:
    noise = np.random.default_rng(5).normal(0, spread, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def to_torch(images: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) to (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def lab_of(images: np.ndarray) -> np.ndarray:
    """Lab units, (N, H, W, 3) float32, by scikit-image."""
    return rgb2lab(images.astype(np.float64) / 255).astype(np.float32)


def pair_images() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """The published colours as images of one row, and their differences."""
    table = np.array(CIEDE2000_PAIRS)
    one, other = table[None, None, :, :3], table[None, None, :, 3:6]
    return to_torch(one.astype(np.float32)), to_torch(other.astype(np.float32)), table[:, 6]


def hasler_suesstrunk(photo: np.ndarray) -> float:
    """M(3) of the paper: sigma_rgyb + 0.3 mu_rgyb."""
    red, green, blue = photo.reshape(-1, 3).T.astype(np.float64)
    rg, yb = red - green, 0.5 * (red + green) - blue
    sigma = np.sqrt(np.var(rg) + np.var(yb))
    mu = np.sqrt(np.mean(rg) ** 2 + np.mean(yb) ** 2)
    return sigma + 0.3 * mu


@pytest.mark.parametrize("spread", [2, 25])
def test_psnr_is_that_of_scikit_image(spread):
    real = photos(0, 1, 2)
    fake = noisy(real, spread)
    expected = [peak_signal_noise_ratio(r, f, data_range=255) for r, f in zip(real, fake, strict=True)]
    np.testing.assert_allclose(metrics.psnr(to_torch(fake), to_torch(real)), expected, rtol=0, atol=1e-4)


def test_psnr_of_the_largest_error_is_zero():
    black, white = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert metrics.psnr(black, white).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("spread", [2, 25])
def test_ssim_is_that_of_scikit_image(spread):
    real = photos(0, 1, 2)
    fake = noisy(real, spread)
    expected = [
        structural_similarity(
            r, f, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
        )
        for r, f in zip(real, fake, strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim(to_torch(fake), to_torch(real)), expected, rtol=0, atol=1e-4)


def test_ssim_works_on_the_smallest_photograph_and_on_odd_ones():
    for height, width in ((11, 11), (13, 30)):
        real = photos(3)[:, :height, :width]
        fake = noisy(real, 10)
        expected = structural_similarity(
            real[0],
            fake[0],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=-1,
        )
        assert metrics.ssim(to_torch(fake), to_torch(real)).item() == pytest.approx(expected, abs=1e-4)


def test_delta_e_is_that_of_scikit_image_on_photographs():
    real = photos(0, 1, 2)
    one, other = lab_of(real), lab_of(noisy(real, 12))
    reference = deltaE_ciede2000(one.astype(np.float64), other.astype(np.float64))
    np.testing.assert_allclose(metrics.delta_e_map(to_torch(other), to_torch(one)), reference, rtol=0, atol=1e-3)
    expected = reference.mean(axis=(1, 2))
    np.testing.assert_allclose(metrics.delta_e(to_torch(other), to_torch(one)), expected, rtol=0, atol=1e-4)


def test_delta_e_is_that_of_scikit_image_on_far_apart_colours():
    chance = np.random.default_rng(7)
    one, other = (
        np.concatenate((chance.uniform(0, 100, (1, 80, 80, 1)), chance.uniform(-110, 110, (1, 80, 80, 2))), axis=3)
        for _ in range(2)
    )
    one, other = one.astype(np.float32), other.astype(np.float32)
    reference = deltaE_ciede2000(one.astype(np.float64), other.astype(np.float64))
    np.testing.assert_allclose(metrics.delta_e_map(to_torch(one), to_torch(other)), reference, rtol=0, atol=1e-3)


def test_delta_e_against_grey_is_that_of_scikit_image():
    # Exactly grey: the hue of one side is not defined.
    real = lab_of(photos(4))
    grey = real * np.float32([1, 0, 0])
    reference = deltaE_ciede2000(real.astype(np.float64), grey.astype(np.float64))
    np.testing.assert_allclose(metrics.delta_e_map(to_torch(grey), to_torch(real)), reference, rtol=0, atol=1e-3)


def test_the_published_table_is_copied_rightly():
    table = np.array(CIEDE2000_PAIRS)
    np.testing.assert_allclose(deltaE_ciede2000(table[:, :3], table[:, 3:6]), table[:, 6], rtol=0, atol=5.1e-5)


@pytest.mark.parametrize("number", range(len(CIEDE2000_PAIRS)), ids=lambda number: str(number + 1))
def test_delta_e_of_the_published_pairs(number):
    one, other, expected = pair_images()
    found = metrics.delta_e_map(one, other).flatten()[number].item()
    assert found == pytest.approx(expected[number], abs=1e-4)


def test_delta_e_is_symmetric():
    one, other, _ = pair_images()
    torch.testing.assert_close(metrics.delta_e_map(one, other), metrics.delta_e_map(other, one), rtol=0, atol=1e-4)


def test_colorfulness_is_that_of_the_paper():
    images = photos(0, 1, 2, 3)
    expected = [hasler_suesstrunk(photo) for photo in images]
    assert min(expected) > 10
    np.testing.assert_allclose(metrics.colorfulness(to_torch(images)), expected, rtol=0, atol=1e-4)


def test_colorfulness_of_one_colour_is_its_mean_alone():
    red = torch.zeros(1, 3, 6, 6, dtype=torch.uint8)
    red[:, 0] = 255
    assert metrics.colorfulness(red).item() == pytest.approx(0.3 * np.hypot(255, 127.5), abs=1e-4)


def test_colorfulness_keeps_the_signs_of_opponent_colours():
    # Half red, half green: the means cancel, which they would not if rg and yb lost their signs.
    halves = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    halves[:, 0, 0] = 200
    halves[:, 1, 1] = 200
    assert metrics.colorfulness(halves).item() == pytest.approx(200 + 0.3 * 100, abs=1e-4)


def test_the_abs_variant_is_that_of_ddcolor():
    images = photos(0, 1, 2, 3)
    expected = []
    for photo in images.astype(np.float64):
        rg = np.abs(photo[..., 0] - photo[..., 1])
        yb = np.abs(0.5 * (photo[..., 0] + photo[..., 1]) - photo[..., 2])
        expected.append(np.sqrt(rg.std() ** 2 + yb.std() ** 2) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2))
    found = metrics.colorfulness_abs(to_torch(images))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert (found - metrics.colorfulness(to_torch(images))).abs().max() > 1


@pytest.mark.parametrize("count", [6, 40], ids=["singular", "full rank"])
def test_frechet_distance_is_that_of_the_matrix_square_root(count):
    chance = np.random.default_rng(3)
    one, other = chance.normal(size=(count, 12)), chance.normal(1, 2, size=(count, 12)) @ chance.normal(size=(12, 12))
    means = [features.mean(axis=0) for features in (one, other)]
    covariances = [np.cov(features, rowvar=False) for features in (one, other)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of singular matrices
        root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    given = [torch.from_numpy(value) for pair in zip(means, covariances, strict=True) for value in pair]
    # sqrtm itself is exact to 1e-4 only where the product is singular.
    assert metrics.frechet_distance(*given) == pytest.approx(expected, rel=1e-9 if count > 12 else 1e-4)
    assert metrics.frechet_distance(*given[:2], *given[:2]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_independent_features_is_the_sum_over_each():
    means = torch.tensor([[0.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    spreads = torch.tensor([[1.0, 2.0], [4.0, 0.0]], dtype=torch.float64)
    found = metrics.frechet_distance(means[0], spreads[0].square().diag(), means[1], spreads[1].square().diag())
    assert found == pytest.approx(9 + 9 + 4)


def test_grey_photographs_have_no_colorfulness():
    grey = photos(0, 1)[..., :1].repeat(3, axis=-1)
    assert metrics.colorfulness(to_torch(grey)).tolist() == [0, 0]
    assert metrics.colorfulness_abs(to_torch(grey)).tolist() == [0, 0]


def test_identical_photographs_are_at_the_end_of_every_scale():
    images = photos(0, 1)
    rgb, lab = to_torch(images), to_torch(lab_of(images))
    assert metrics.psnr(rgb, rgb).tolist() == [float("inf")] * 2
    assert metrics.ssim(rgb, rgb).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert metrics.delta_e(lab, lab).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["psnr", "ssim", "delta_e", "colorfulness"])
def test_a_batch_is_measured_photo_by_photo(name):
    real = photos(0, 1, 2)
    fake = noisy(real, 15)
    if name == "delta_e":
        inputs = (to_torch(lab_of(fake)), to_torch(lab_of(real)))
    else:
        inputs = (to_torch(fake), to_torch(real))[: 1 if name == "colorfulness" else 2]
    measure = getattr(metrics, name)
    together = measure(*inputs)
    alone = torch.cat([measure(*(images[i : i + 1] for images in inputs)) for i in range(3)])
    assert together.dtype == torch.float32 and together.shape == (3,)
    assert together.unique().numel() == 3
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["psnr", "ssim", "colorfulness"])
def test_memory_layout_and_autocast_change_nothing(name):
    real = to_torch(photos(0, 1))
    fake = to_torch(noisy(photos(0, 1), 15))
    inputs = (fake, real)[: 1 if name == "colorfulness" else 2]
    measure = getattr(metrics, name)
    expected = measure(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measure(*(images.contiguous(memory_format=torch.channels_last) for images in inputs))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
