"""Pictures about a coloured photograph show what they say."""

import numpy as np
import pytest
import skimage.color
from conftest import draw_photo
from PIL import Image

from gan_color import pictures


def column_of(page: Image.Image, versions: int, i: int) -> np.ndarray:
    """The picture in a column of a comparison whose versions are wider than their captions."""
    width = (page.width - 12) // versions
    return np.asarray(page.crop((12 + i * width, 12, (i + 1) * width, 12 + 300)))


@pytest.mark.parametrize("with_original", [False, True])
def test_compare_shows_grey_then_coloured_then_the_original(with_original):
    original, coloured = draw_photo(1, 400, 300), draw_photo(2, 400, 300)
    page = pictures.compare(original, coloured, with_original)
    versions = 3 if with_original else 2
    grey = column_of(page, versions, 0)
    assert grey.shape == (300, 400, 3)
    lab = skimage.color.rgb2lab(grey)
    assert np.abs(lab[..., 1:]).max() < 1
    assert np.abs(lab[..., 0] - skimage.color.rgb2lab(np.asarray(original))[..., 0]).max() < 0.5
    assert np.array_equal(column_of(page, versions, 1), np.asarray(coloured))
    if with_original:
        assert np.array_equal(column_of(page, versions, 2), np.asarray(original))


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (5000, 30), (30, 5000), (2000, 1500)])
def test_compare_takes_any_size_and_stays_of_a_size_to_look_at(size):
    photo = draw_photo(1).resize(size)
    page = pictures.compare(photo, photo.convert("RGBA"), True)
    assert page.mode == "RGB" and page.width <= 3200 and page.height <= 1200


def test_captions_are_under_the_versions():
    page = np.asarray(pictures.compare(draw_photo(1, 400, 300), draw_photo(1, 400, 300)))
    below = page[320:]
    for i in range(2):
        assert (below[:, 12 + i * 412 : 412 + i * 412] < 120).any()


def test_transparent_parts_are_shown_on_white():
    coloured = Image.new("RGBA", (400, 300), (10, 20, 30, 0))
    page = pictures.compare(draw_photo(1, 400, 300), coloured)
    assert (column_of(page, 2, 1) == 255).all()


def test_counts_and_means_are_those_of_numpy():
    photo = draw_photo(3)
    values = np.asarray(photo).reshape(-1, 3)
    counts, means = pictures._count(photo)
    for channel in range(3):
        assert np.array_equal(counts[channel], np.bincount(values[:, channel], minlength=256))
    np.testing.assert_allclose(means, values.mean(axis=0))


def test_transparent_parts_are_not_counted():
    photo = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    photo.paste((0, 0, 200, 255), (0, 0, 10, 5))
    counts, means = pictures._count(photo)
    assert counts.sum() == 150 and counts[2, 200] == 50
    assert means == [0, 0, 200]
    assert pictures._count(Image.new("RGBA", (4, 4)))[0].sum() == 0


def test_the_band_below_has_the_mean_colour():
    photo = draw_photo(4)
    band = pictures.histogram(photo).getpixel((100, 552))
    assert np.abs(np.array(band) - np.asarray(photo).reshape(-1, 3).mean(axis=0)).max() <= 1


def test_each_curve_peaks_where_its_channel_does():
    """A picture of three levels: red only at 64, green at 128, blue at 192."""
    photo = Image.merge("RGB", [Image.new("L", (9, 9), level) for level in (64, 128, 192)])
    drawn = np.asarray(pictures.histogram(photo)).astype(int)
    row = drawn[120]
    for channel, level in enumerate((64, 128, 192)):
        others = [other for other in range(3) if other != channel]
        strength = row[:, channel] - row[:, others].max(axis=1)
        assert abs(int(strength.argmax()) - (48 + 864 * level / 255)) <= 3


@pytest.mark.parametrize(
    "photo", [Image.new("RGB", (1, 1)), Image.new("RGB", (5, 5), "white"), Image.new("RGBA", (5, 5)), draw_photo(1)]
)
def test_a_histogram_of_any_picture_is_drawn(photo):
    drawn = pictures.histogram(photo)
    assert drawn.mode == "RGB" and drawn.size == (960, 600)
    assert len(drawn.getcolors(1 << 20)) > 50
