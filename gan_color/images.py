"""Pillow images as tensors and back, and laid on a white page."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """Copy an image into a batch of one.

    Args:
        image: mode RGB.

    Returns:
        (1, 3, H, W) uint8.
    """
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_image(rgb: Tensor) -> Image.Image:
    """Make an image of a batch of one, or of one of a batch.

    Args:
        rgb: (1, 3, H, W) or (3, H, W) uint8, on any device.

    Returns:
        Pillow image, mode RGB.
    """
    # Channel by channel: a ninth of the time of laying them beside one another by numpy or torch.
    return Image.merge("RGB", [Image.fromarray(channel) for channel in rgb.squeeze(0).cpu().numpy()])


def on_white(image: Image.Image, alpha: Image.Image | None = None) -> Image.Image:
    """Lay an image on white, as it is seen on a page.

    Args:
        image: of any 8-bit mode.
        alpha: mode L, 255 = opaque; None = the image's own where its mode is RGBA, else opaque.

    Returns:
        Pillow image, mode RGB; the very image where that is what it is already.
    """
    if alpha is None and image.mode == "RGBA":
        alpha = image.getchannel("A")
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb if alpha is None else Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
