"""Colour conversions against scikit-image, and the gamut mapping against a search of its own."""

import numpy as np
import pytest
import torch
from conftest import draw_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import color as skcolor
from skimage.color.colorconv import rgb_from_xyz

from gan_color import color

HALF_LEVEL_BELOW = 0.5 / 255 / 12.92
HALF_LEVEL_ABOVE = ((255.5 / 255 + 0.055) / 1.055) ** 2.4 - 1


@pytest.fixture(scope="module")
def srgb_grid() -> torch.Tensor:
    """Every third level of each channel, both ends among them: (1, 3, 86, 7396) uint8."""
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    return to_torch(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(86, -1, 3))


@pytest.fixture(scope="module")
def wide_lab() -> np.ndarray:
    """Colours of which five in six lie outside sRGB: (120, 120, 3) float64, Lab units."""
    chance = np.random.default_rng(0)
    lightness = chance.uniform(0, 100, (120, 120))
    return np.stack((lightness, *chance.uniform(-110, 110, (2, 120, 120))), axis=-1)


def to_torch(images: np.ndarray) -> torch.Tensor:
    """(H, W, C) to (1, C, H, W)."""
    return torch.from_numpy(images).permute(2, 0, 1)[None].contiguous()


def to_numpy(images: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C)."""
    return images[0].permute(1, 2, 0).numpy()


def scaled(lab: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Lab units (H, W, 3) as the network's L and ab."""
    lab = to_torch(lab.astype(np.float32))
    return lab[:, :1] / 50 - 1, lab[:, 1:] / 110


def fit_to_gamut(L: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
    """The ab of one photograph as `lab_to_rgb` fits it into sRGB, before it becomes levels."""
    return torch.where(color.in_gamut(L, ab), ab, color._fit(L.view(1, -1), ab.reshape(2, -1)).view_as(ab))


def linear_light(lab: np.ndarray) -> np.ndarray:
    """scikit-image's linear RGB, float64, before it is clipped."""
    return skcolor.lab2xyz(lab) @ rgb_from_xyz.T


def hue_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angle between two hues, times the chroma of the first: Lab units along the hue circle."""
    angle = np.arctan2(one[..., 2], one[..., 1]) - np.arctan2(other[..., 2], other[..., 1])
    return np.abs((angle + np.pi) % (2 * np.pi) - np.pi) * np.hypot(one[..., 1], one[..., 2])


def random_rgb(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("convert", [color.rgb_to_lab, color._lab_by_torch], ids=["CPU", "other devices"])
def test_lab_is_that_of_scikit_image_over_the_whole_gamut(srgb_grid, convert):
    ours = to_numpy(color.to_lab_units(*convert(srgb_grid)))
    reference = skcolor.rgb2lab(to_numpy(srgb_grid).astype(np.float64) / 255)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-3)


def test_scaled_lab_keeps_its_promised_ranges(srgb_grid):
    L, ab = color.rgb_to_lab(srgb_grid)
    assert L.dtype == ab.dtype == torch.float32
    assert (L.shape, ab.shape) == ((1, 1, 86, 7396), (1, 2, 86, 7396))
    assert L.min() == pytest.approx(-1, abs=1e-5) and L.min() >= -1
    assert L.max() == pytest.approx(1, abs=1e-5) and L.max() <= 1 + 1e-6
    # The corners of the gamut: blue's b* and magenta's a*.
    assert ab.min() == pytest.approx(-0.98, abs=5e-3)
    assert ab.max() == pytest.approx(0.89, abs=5e-3)


@pytest.mark.parametrize("gamut", ["chroma", "clip"])
def test_eight_bit_round_trip_is_exact_over_the_whole_gamut(srgb_grid, gamut):
    assert torch.equal(color.lab_to_rgb(*color.rgb_to_lab(srgb_grid), gamut), srgb_grid)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 9), st.integers(1, 9))),
    st.sampled_from(["chroma", "clip"]),
)
def test_round_trip_is_exact_for_any_photograph(rgb, gamut):
    rgb = torch.from_numpy(rgb)
    assert torch.equal(color.lab_to_rgb(*color.rgb_to_lab(rgb), gamut), rgb)


def test_every_photograph_colour_is_inside_the_gamut(srgb_grid):
    L, ab = color.rgb_to_lab(srgb_grid)
    assert color.in_gamut(L, ab).all()
    assert torch.equal(fit_to_gamut(L, ab), ab)


def test_grey_has_no_colour():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    L, ab = color.rgb_to_lab(grey)
    # Not 0: the rows of scikit-image's matrix miss the white point in the fifth digit.
    assert ab.abs().max() * 110 < 0.005
    assert (L.flatten().diff() > 0).all()


def test_lightness_alone_gives_grey():
    L = torch.linspace(-1, 1, 3000).view(1, 1, 50, 60)
    rgb = color.lab_to_rgb(L, torch.zeros(1, 2, 50, 60))[0].flatten(1).int()
    spread = rgb.amax(dim=0) - rgb.amin(dim=0)
    # Not always 0: where lightness lies between two levels, the fifth digit of the white point decides.
    assert spread.max() <= 1 and spread.float().mean() < 0.02
    assert (rgb.diff(dim=1) >= 0).all()
    assert (rgb[:, 0] == 0).all() and (rgb[:, -1] == 255).all()


def test_lightness_is_held_to_its_range():
    L = torch.tensor([-3.0, -1.0, 1.0, 3.0]).view(1, 1, 1, 4)
    black, also_black, white, also_white = color.lab_to_rgb(L, torch.zeros(1, 2, 1, 4))[0].unbind(2)
    assert (black == 0).all() and (also_black == 0).all()
    assert (white == 255).all() and (also_white == 255).all()
    # Before anything else: with colour, lightness out of range would show through the clipping.
    ab = torch.tensor([0.5, 0.2]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    for gamut in ("chroma", "clip"):
        assert torch.equal(color.lab_to_rgb(L, ab, gamut), color.lab_to_rgb(L.clamp(-1, 1), ab, gamut))


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_clip_is_that_of_scikit_image(wide_lab):
    ours = to_numpy(color.lab_to_rgb(*scaled(wide_lab), "clip")).astype(int)
    exact = skcolor.lab2rgb(wide_lab) * 255
    reference = np.rint(exact).astype(int)
    inside = ((linear_light(wide_lab) >= 0) & (linear_light(wide_lab) <= 1)).all(axis=-1)
    assert 1000 < inside.sum() < inside.size
    rounds_either_way = np.abs(exact - np.floor(exact) - 0.5) < 0.004
    assert rounds_either_way.mean() < 0.02
    np.testing.assert_array_equal(
        ours[inside & ~rounds_either_way.any(-1)], reference[inside & ~rounds_either_way.any(-1)]
    )
    assert np.abs(ours - reference).max() <= 1


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_colours_inside_the_gamut_are_not_touched_by_the_mapping(wide_lab):
    L, ab = scaled(wide_lab)
    inside = to_torch(((linear_light(wide_lab) >= 0) & (linear_light(wide_lab) <= 1)).all(axis=-1, keepdims=True))
    both = inside.expand_as(ab)
    assert torch.equal(fit_to_gamut(L, ab)[both], ab[both])
    assert not torch.equal(fit_to_gamut(L, ab), ab)
    clipped, mapped = color.lab_to_rgb(L, ab, "clip"), color.lab_to_rgb(L, ab, "chroma")
    assert torch.equal(clipped[inside.expand_as(clipped)], mapped[inside.expand_as(mapped)])


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_mapped_colours_can_be_shown(wide_lab):
    L, ab = scaled(wide_lab)
    fitted = fit_to_gamut(L, ab)
    assert color.in_gamut(L, fitted).all()
    linear = linear_light(to_numpy(color.to_lab_units(L, fitted)).astype(np.float64))
    # Under half an 8-bit level at both ends, so that clipping it cannot be seen.
    assert linear.min() > -HALF_LEVEL_BELOW
    assert linear.max() < 1 + HALF_LEVEL_ABOVE


def test_mapping_keeps_hue_and_never_raises_chroma(wide_lab):
    L, ab = scaled(wide_lab)
    fitted = to_numpy(color.to_lab_units(L, fit_to_gamut(L, ab))).astype(np.float64)
    assert hue_error(fitted, wide_lab).max() < 1e-3
    assert (np.hypot(fitted[..., 1], fitted[..., 2]) - np.hypot(wide_lab[..., 1], wide_lab[..., 2])).max() < 1e-4


def test_mapped_photographs_keep_lightness_and_hue_in_eight_bits(wide_lab):
    back = skcolor.rgb2lab(to_numpy(color.lab_to_rgb(*scaled(wide_lab))).astype(np.float64) / 255)
    assert np.abs(back[..., 0] - wide_lab[..., 0]).max() <= 0.5
    assert hue_error(back, wide_lab).max() < 1.5


def test_clipping_shifts_lightness_where_the_mapping_does_not(wide_lab):
    back = skcolor.rgb2lab(to_numpy(color.lab_to_rgb(*scaled(wide_lab), "clip")).astype(np.float64) / 255)
    assert np.abs(back[..., 0] - wide_lab[..., 0]).max() > 10


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_mapping_keeps_nearly_all_the_chroma_that_fits(wide_lab):
    lab = wide_lab[::5, ::5].reshape(1, -1, 3)
    L, ab = scaled(lab)
    kept = (fit_to_gamut(L, ab).norm(dim=1) / ab.norm(dim=1)).double().numpy()[0, 0]

    # A search of its own: 2001 shares of the chroma of each colour, in float64.
    shares = np.linspace(0, 1, 2001)
    ladder = np.repeat(lab[0, :, None], len(shares), axis=1)
    ladder[..., 1:] *= shares[None, :, None]
    linear = linear_light(ladder)
    strictly = ((linear >= 0) & (linear <= 1)).all(axis=-1)
    within_half_a_level = ((linear >= -HALF_LEVEL_BELOW) & (linear <= 1 + HALF_LEVEL_ABOVE)).all(axis=-1)
    least = np.where(strictly, shares, 0).max(axis=1)
    most = np.where(within_half_a_level, shares, 0).max(axis=1)

    assert (least < 1).sum() > 400
    assert (kept - least).min() > -1 / 4096 - 1e-5
    assert (kept - most).max() < shares[1]


@pytest.mark.parametrize("lightness", [0.0, 100.0])
def test_black_and_white_stay_so_whatever_their_colour(lightness):
    lab = np.array([[[lightness, 60.0, 60.0], [lightness, -60.0, 20.0], [lightness, 0.0, -100.0]]])
    rgb = color.lab_to_rgb(*scaled(lab)).int()
    assert (rgb - round(lightness * 2.55)).abs().max() <= 1


@pytest.mark.parametrize(
    "convert",
    [
        lambda rgb, L, ab: torch.cat(color.rgb_to_lab(rgb), dim=1),
        lambda rgb, L, ab: color.lab_to_rgb(L, ab),
        lambda rgb, L, ab: color.lab_to_rgb(L, ab, "clip"),
        lambda rgb, L, ab: color.in_gamut(L, ab),
        lambda rgb, L, ab: color.to_lab_units(L, ab),
        lambda rgb, L, ab: color.mean_chroma(ab),
    ],
    ids=["rgb_to_lab", "lab_to_rgb", "clip", "in_gamut", "to_lab_units", "mean_chroma"],
)
def test_autocast_changes_nothing(convert, wide_lab):
    rgb = random_rgb(2, 3, 33, 47)
    L, ab = scaled(wide_lab)
    plain = convert(rgb, L, ab)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # Autocast is at work here: without the guard the conversions would be off.
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.equal(convert(rgb, L, ab), plain)


# The last is converted in several pieces.
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 5, 7), (3, 3, 1, 11), (2, 3, 33, 47), (1, 3, 257, 256)])
def test_odd_shapes_and_batches_equal_scikit_image_one_by_one(shape):
    rgb = random_rgb(*shape)
    L, ab = color.rgb_to_lab(rgb)
    assert (L.shape, ab.shape) == ((shape[0], 1, *shape[2:]), (shape[0], 2, *shape[2:]))
    for photo, lab in zip(rgb, color.to_lab_units(L, ab), strict=True):
        reference = skcolor.rgb2lab(to_numpy(photo[None]).astype(np.float64) / 255)
        np.testing.assert_allclose(to_numpy(lab[None]), reference, rtol=0, atol=1e-3)
    assert torch.equal(color.lab_to_rgb(L, ab), rgb)


@pytest.mark.parametrize(
    "relaid",
    [
        lambda images: images.contiguous(memory_format=torch.channels_last),
        lambda images: images.transpose(2, 3).contiguous().transpose(2, 3),
        lambda images: torch.cat((images, images), dim=3)[..., : images.shape[3]],
    ],
    ids=["channels_last", "transposed", "slice"],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_memory_layout_changes_nothing(relaid, batch):
    rgb = random_rgb(batch, 3, 21, 34)
    assert not relaid(rgb).is_contiguous()
    L, ab = color.rgb_to_lab(rgb)
    torch.testing.assert_close(color.rgb_to_lab(relaid(rgb)), (L, ab), rtol=0, atol=1e-5)
    # Twice the colour, so that the gamut mapping has work.
    assert not color.in_gamut(L, 2 * ab).all()
    for gamut in ("chroma", "clip"):
        expected = color.lab_to_rgb(L, 2 * ab, gamut).int()
        # A colour on the edge of two levels may fall to either.
        assert (color.lab_to_rgb(relaid(L), relaid(2 * ab), gamut).int() - expected).abs().max() <= 1


def test_half_precision_is_converted_as_its_float32_value(wide_lab):
    L, ab = (part.bfloat16() for part in scaled(wide_lab))
    assert torch.equal(color.lab_to_rgb(L, ab), color.lab_to_rgb(L.float(), ab.float()))
    assert color.to_lab_units(L, ab).dtype == torch.float32


def test_inputs_are_left_as_they_were(wide_lab):
    rgb, (L, ab) = random_rgb(1, 3, 8, 8), scaled(wide_lab)
    before = rgb.clone(), L.clone(), ab.clone()
    color.rgb_to_lab(rgb)
    color.lab_to_rgb(L, ab)
    assert all(torch.equal(now, then) for now, then in zip((rgb, L, ab), before, strict=True))


def test_a_networks_colours_are_joined_with_or_without_their_gradients(wide_lab):
    L, ab = scaled(wide_lab)
    for gamut in ("chroma", "clip"):
        assert torch.equal(color.lab_to_rgb(L, ab.clone().requires_grad_(), gamut), color.lab_to_rgb(L, ab, gamut))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_spoils_its_own_pixel_alone(wide_lab, number):
    L, ab = scaled(wide_lab)
    spoilt = ab.clone()
    spoilt[..., 5, 7] = number
    for gamut in ("chroma", "clip"):
        others = color.lab_to_rgb(L, spoilt, gamut) == color.lab_to_rgb(L, ab, gamut)
        others[..., 5, 7] = True
        assert others.all()


@pytest.mark.parametrize("shape", [(0, 3, 4, 6), (2, 3, 0, 6), (2, 3, 4, 0), (0, 3, 0, 0)])
@pytest.mark.parametrize("convert", [color.rgb_to_lab, color._lab_by_torch], ids=["CPU", "other devices"])
def test_nothing_becomes_nothing(shape, convert):
    rgb = torch.zeros(shape, dtype=torch.uint8)
    L, ab = convert(rgb)
    assert (L.shape, ab.shape) == ((shape[0], 1, *shape[2:]), (shape[0], 2, *shape[2:]))
    assert torch.equal(color.lightness(rgb), L)
    for gamut in ("chroma", "clip"):
        assert torch.equal(color.lab_to_rgb(L, ab, gamut), rgb)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.int8])
def test_only_uint8_is_taken_for_srgb(dtype):
    with pytest.raises(TypeError, match="uint8"):
        color.rgb_to_lab(torch.zeros(1, 3, 4, 4, dtype=dtype))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 1, 4, 4), (1, 4, 4, 4), (1, 4, 4, 3), (1, 3, 4, 4, 1)])
def test_only_batches_of_three_channels_are_taken_for_srgb(shape):
    with pytest.raises(ValueError, match="N, 3, H, W"):
        color.rgb_to_lab(torch.zeros(shape, dtype=torch.uint8))


def test_unknown_gamut_mapping_is_refused():
    with pytest.raises(ValueError, match='"clipping"'):
        color.lab_to_rgb(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), "clipping")


def test_lab_units_undo_the_scaling():
    L = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    ab = torch.tensor([[0.0, 1.0, -1.0], [0.5, -0.5, 0.1]]).view(1, 2, 1, 3)
    expected = torch.tensor([[0.0, 50.0, 100.0], [0.0, 110.0, -110.0], [55.0, -55.0, 11.0]]).view(1, 3, 1, 3)
    torch.testing.assert_close(color.to_lab_units(L, ab), expected)


def test_mean_chroma_is_that_of_numpy_photo_by_photo():
    photos = [np.asarray(draw_photo(seed)) for seed in range(3)]
    lab = [skcolor.rgb2lab(photo.astype(np.float64) / 255) for photo in photos]
    expected = [np.hypot(one[..., 1], one[..., 2]).mean() for one in lab]
    _, ab = color.rgb_to_lab(torch.cat([to_torch(photo.copy()) for photo in photos]))
    np.testing.assert_allclose(color.mean_chroma(ab).numpy(), expected, rtol=1e-4)


def test_mean_chroma_of_grey_is_zero():
    grey = np.asarray(draw_photo(0).convert("L").convert("RGB")).copy()
    assert color.mean_chroma(color.rgb_to_lab(to_torch(grey))[1]).item() < 0.01


def test_photographs_without_levels_are_split_and_joined_as_scikit_image_does():
    levels = torch.linspace(0, 1, 12)
    srgb = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(1, 3, 12, 144)
    L, ab = color.srgb_to_lab(srgb)
    expected = skcolor.rgb2lab(srgb[0].permute(1, 2, 0).double().numpy())
    assert abs(color.to_lab_units(L, ab)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-3
    torch.testing.assert_close(color.lab_to_srgb(L, ab), srgb, rtol=0, atol=2e-5)


def test_the_gradient_of_joining_is_that_of_scikit_image():
    chance = np.random.default_rng(0)
    srgb = chance.uniform(0.02, 0.98, (1, 40, 3))  # inside sRGB, on both sides of the curves' knees
    lab = skcolor.rgb2lab(srgb)
    weights, step = chance.normal(size=srgb.shape), 1e-4
    lab_tensor = torch.from_numpy(lab).permute(2, 0, 1).unsqueeze(0).float()
    L, ab = lab_tensor[:, :1] / 50 - 1, (lab_tensor[:, 1:] / 110).requires_grad_()
    (color.lab_to_srgb(L, ab) * torch.from_numpy(weights).permute(2, 0, 1).float()).sum().backward()
    for channel in (1, 2):
        moved = np.zeros(3)
        moved[channel] = step
        slope = (skcolor.lab2rgb(lab + moved) - skcolor.lab2rgb(lab - moved)) / (2 * step)
        expected = 110 * (slope * weights).sum(axis=2)
        np.testing.assert_allclose(ab.grad[0, channel - 1].numpy(), expected, rtol=5e-3, atol=5e-3)


def test_joining_has_finite_gradients_everywhere():
    """At black and white, at the knees and outside sRGB, where channels are cut."""
    L = torch.tensor([-1.0, -0.999, -0.84, 0.0, 0.9, 1.0]).view(1, 1, 1, 6).repeat(4, 1, 1, 1)
    ab = torch.tensor([[0.0, 0.0], [0.9, 0.9], [-0.9, 0.5], [0.3, -1.0]]).view(4, 2, 1, 1).repeat(1, 1, 1, 6)
    ab.requires_grad_()
    color.lab_to_srgb(L, ab).square().sum().backward()
    assert ab.grad.isfinite().all()


def test_photographs_without_levels_have_finite_gradients_everywhere():
    srgb = torch.tensor([0.0, 1e-6, 0.04045, 0.5, 1.0]).view(1, 1, 1, 5).repeat(1, 3, 1, 1).requires_grad_()
    L, ab = color.srgb_to_lab(srgb)
    (L.sum() + ab.square().sum() + ab[:, 0].sum()).backward()
    assert srgb.grad.isfinite().all() and srgb.grad.abs().sum(dim=1).all()
