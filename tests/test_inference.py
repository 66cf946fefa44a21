"""A photograph is coloured at its own size and keeps its own lightness."""

import numpy as np
import pytest
import skimage.color
import torch
import torch.nn.functional as F
from conftest import draw_photo, levels_of_lightness_off
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from gan_color import color, colorize, images, inference, load_generator
from gan_color.data import photos


@pytest.fixture(scope="module")
def generator(pretrained):
    return load_generator(pretrained)


class Vivid(nn.Module):
    """Strong colours that change over the picture, so that many lie outside sRGB."""

    trained_size = 64

    def __init__(self):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(1.0))
        self.seen = []

    def forward(self, L):
        self.seen.append(L)
        _, _, height, width = L.shape
        y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
        ab = torch.stack((torch.sin(3 * x + y), torch.cos(2 * y - x).expand(height, width)))
        return self.strength * ab[None]


def noise(width: int, height: int, seed: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_size_alpha_and_lightness_are_the_photographs_own(generator, width, height, seed):
    photo = noise(width, height, seed, channels=4)
    for network in (generator, Vivid().eval()):
        coloured = colorize(network, photo)
        assert coloured.mode == "RGBA" and coloured.size == photo.size
        assert np.array_equal(np.asarray(coloured)[..., 3], np.asarray(photo)[..., 3])
        assert levels_of_lightness_off(coloured, photo) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (31, 33), (641, 431), (3001, 9), (1999, 1003), (5, 4001)])
def test_odd_and_large_sizes_are_kept(size):
    photo = draw_photo(0, 80, 64).resize(size)
    coloured = colorize(Vivid().eval(), photo)
    assert coloured.size == size and coloured.mode == "RGB"
    assert levels_of_lightness_off(coloured, photo) <= 1


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_every_mode_is_coloured(mode):
    photo = draw_photo(1)
    if mode == "LAB":
        photo = Image.merge("LAB", photo.split())
    elif mode == "I;16":
        photo = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        photo = photo.convert("P").convert(mode) if mode == "PA" else photo.convert(mode)
    coloured = colorize(Vivid().eval(), photo)
    assert coloured.size == photo.size and coloured.mode == ("RGBA" if mode in ("LA", "PA", "RGBA") else "RGB")
    assert levels_of_lightness_off(coloured, photos.as_photo(photo).rgb) <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.integers(1, 90), st.integers(0, 99))
def test_rows_are_those_of_bicubic_interpolation_wherever_strips_are_cut(small, width, height, strip, seed):
    x = torch.randn(1, 2, small, width, generator=torch.Generator().manual_seed(seed))
    whole = F.interpolate(x, size=(height, width), mode="bicubic", align_corners=False)
    strips = [inference._rows(x, height, top, min(top + strip, height)) for top in range(0, height, strip)]
    assert torch.equal(torch.cat(strips, dim=2), inference._rows(x, height, 0, height))
    torch.testing.assert_close(torch.cat(strips, dim=2), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pixels", [1, 999, 1 << 30])
@pytest.mark.parametrize("size", [(200, 601), (40, 55)])
def test_strips_join_exactly_as_one_piece(monkeypatch, size, pixels):
    photo = draw_photo(3, *size)
    expected = np.asarray(colorize(Vivid().eval(), photo))
    monkeypatch.setattr(inference, "_STRIP_PIXELS", pixels)
    assert np.array_equal(np.asarray(colorize(Vivid().eval(), photo)), expected)


def test_colour_is_what_the_generator_says(generator):
    """The generator's ab, under the photograph's own L: written out again."""
    photo = draw_photo(4, 64, 64)
    L, _ = color.rgb_to_lab(images.to_tensor(photo))
    with torch.no_grad():
        expected = color.lab_to_rgb(L, generator(L))[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(np.asarray(colorize(generator, photo, size=64)) - expected).max() <= 1


class Fine(Vivid):
    """Colours that differ from pixel to pixel, too finely for a photograph of less than its size."""

    def forward(self, L):
        return 0.3 * torch.randn(1, 2, *L.shape[2:], generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


@pytest.mark.parametrize("size", [(50, 40), (37, 61), (9, 70)])
def test_a_photograph_smaller_than_the_working_size_has_its_colours_shrunk_as_pillow_does(size):
    photo, (width, height) = Image.new("RGB", size, (128, 128, 128)), inference.working_size(size, 128)
    assert width > size[0] and height > size[1]
    ab = Fine()(torch.empty(1, 1, height + -height % 32, width + -width % 32))[0, :, :height, :width]
    shrunk = [np.array(Image.fromarray(part.numpy()).resize(size, Image.Resampling.BICUBIC)) for part in ab]
    L = color.lightness(images.to_tensor(photo))
    expected = images.to_image(color.lab_to_rgb(L, torch.from_numpy(np.stack(shrunk))[None]))
    coloured = colorize(Fine().eval(), photo, size=128)
    assert np.abs(np.asarray(coloured).astype(int) - np.asarray(expected)).max() <= 1


def test_the_network_sees_the_photograph_padded_and_not_stretched():
    network = Vivid().eval()
    colorize(network, draw_photo(5, 300, 150), size=100)
    (seen,) = network.seen
    assert seen.shape == (1, 1, 128, 224)
    shrunk = draw_photo(5, 300, 150).resize((200, 100), Image.Resampling.BICUBIC)
    own = skimage.color.rgb2lab(np.asarray(shrunk))[..., 0] / 50 - 1
    np.testing.assert_allclose(seen[0, 0, :100, :200], own, atol=1e-4)
    assert (seen[0, 0, 100:, :200] == seen[0, 0, 99, :200]).all() and (
        seen[0, 0, :, 200:] == seen[0, 0, :, 199:200]
    ).all()


def test_a_panorama_is_seen_whole_within_reason():
    assert inference.working_size((100, 100), 64) == (64, 64)
    assert inference.working_size((4000, 3000), 256) == (341, 256)
    assert inference.working_size((100_000, 10), 64) == (512, 1)


def test_saturation_scales_chroma_and_keeps_lightness():
    photo, network = draw_photo(6), Vivid().eval()
    network.strength.data.fill_(0.1)  # all of it inside sRGB
    chroma = {}
    for factor in (0, 0.5, 1):
        lab = skimage.color.rgb2lab(np.asarray(colorize(network, photo, saturation=factor)))
        own = skimage.color.rgb2lab(np.asarray(photo))[..., 0]
        inside = (own > 40) & (own < 70)
        chroma[factor] = np.hypot(lab[..., 1], lab[..., 2])[inside].mean()
    assert chroma[0] < 0.5
    assert chroma[0.5] == pytest.approx(chroma[1] / 2, rel=0.05)


def test_grey_and_coloured_versions_of_a_photograph_become_the_same(generator):
    photo = draw_photo(5, 90, 60)
    grey = np.zeros((60, 90, 3))
    grey[..., 0] = skimage.color.rgb2lab(np.asarray(photo))[..., 0]
    grey_photo = Image.fromarray(np.uint8(skimage.color.lab2rgb(grey) * 255 + 0.5))
    one, other = (np.asarray(colorize(generator, each)).astype(int) for each in (photo, grey_photo))
    assert np.abs(one - other).mean() < 2


def test_what_lies_under_transparent_parts_does_not_reach_the_network():
    images = [draw_photo(seed).convert("RGBA") for seed in (1, 2)]
    networks = [Vivid().eval(), Vivid().eval()]
    for image, network in zip(images, networks, strict=True):
        image.putalpha(0)
        colorize(network, image)
    assert torch.equal(networks[0].seen[0], networks[1].seen[0])


def test_a_file_its_image_and_its_photo_become_the_same(generator, tmp_path):
    photo = draw_photo(6)
    photo.save(tmp_path / "photo.png")
    expected = np.asarray(colorize(generator, photo))
    for form in (tmp_path / "photo.png", str(tmp_path / "photo.png"), photos.read_photo(tmp_path / "photo.png")):
        assert np.array_equal(np.asarray(colorize(generator, form)), expected)


def test_photographs_that_pass_together_become_what_they_become_alone(generator):
    together = [photos.as_photo(draw_photo(seed, *size)) for seed, size in enumerate([(80, 64), (75, 64), (160, 130)])]
    assert {inference.padded_size(photo.rgb.size, 32) for photo in together} == {(64, 32)}
    for photo, picture in zip(together, inference.colorize_batch(generator, together), strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(colorize(generator, photo)))


def test_a_generator_in_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"generator\.eval\(\)"):
        colorize(Vivid().train(), draw_photo(1))


def test_the_image_that_was_given_is_left_as_it_was(generator):
    photo = draw_photo(7)
    colorize(generator, photo)
    assert np.array_equal(np.asarray(photo), np.asarray(draw_photo(7)))


def test_lightness_alone_is_that_of_the_whole_conversion():
    rgb = images.to_tensor(noise(257, 255, 0))
    torch.testing.assert_close(color.lightness(rgb), color.rgb_to_lab(rgb)[0], rtol=0, atol=1e-6)
