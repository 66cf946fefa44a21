"""Images cross to tensors and back as they are, and are laid on white as Pillow lays them."""

import numpy as np
import pytest
import torch
from conftest import draw_photo
from PIL import Image

from gan_color import images


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (80, 64)])
def test_an_image_comes_back_as_it_was(size):
    image = draw_photo(1).resize(size)
    rgb = images.to_tensor(image)
    assert rgb.shape == (1, 3, size[1], size[0]) and rgb.dtype == torch.uint8 and rgb.is_contiguous()
    assert rgb[0, :, -1, 0].tolist() == list(image.getpixel((0, size[1] - 1)))
    for form in (rgb, rgb[0]):
        assert np.array_equal(np.asarray(images.to_image(form)), np.asarray(image))


def test_a_tensor_is_a_copy():
    image = draw_photo(1)
    images.to_tensor(image).zero_()
    assert np.array_equal(np.asarray(image), np.asarray(draw_photo(1)))


def test_on_white_is_the_mean_of_picture_and_white_by_alpha():
    image, alpha = draw_photo(2), Image.linear_gradient("L").resize((80, 64))
    share = np.asarray(alpha)[..., None] / 255
    expected = np.asarray(image) * share + 255 * (1 - share)
    both = image.convert("RGBA")
    both.putalpha(alpha)
    for laid in (images.on_white(image, alpha), images.on_white(both)):
        assert laid.mode == "RGB" and np.abs(np.asarray(laid) - expected).max() <= 1


def test_on_white_leaves_what_is_opaque():
    image = draw_photo(3)
    assert images.on_white(image) is image
    assert images.on_white(image.convert("L")).mode == "RGB"
