"""Generators: networks that map L (N, 1, H, W) to ab (N, 2, H, W), one architecture a file."""

import inspect

from gan_color.errors import UsageError
from gan_color.generators.autoencoder import Autoencoder
from gan_color.generators.dynamic_unet import DynamicUNet
from gan_color.generators.hub import FORMAT, Generator
from gan_color.generators.pix2pix_unet import Pix2PixUNet
from gan_color.generators.plain_cnn import PlainCnn
from gan_color.generators.resnet_deconv import ResNetDeconv
from gan_color.generators.resnet_unet import ResNetUNet
from gan_color.generators.squeezenet_unet import SqueezeNetUNet

ARCHITECTURES: dict[str, type[Generator]] = {
    "resnet_unet": ResNetUNet,
    "dynamic_unet": DynamicUNet,
    "pix2pix_unet": Pix2PixUNet,
    "plain_cnn": PlainCnn,
    "autoencoder": Autoencoder,
    "resnet_deconv": ResNetDeconv,
    "squeezenet_unet": SqueezeNetUNet,
}


def build(architecture: str, **options) -> Generator:
    """Build a generator by name.

    Args:
        architecture: a key of ARCHITECTURES.
        **options: of that class, such as `backbone="resnet34"`.

    Returns:
        The generator: float32 L in [-1, 1] to ab in (-1, 1), at any height and width from 32 on.

    Raises:
        UsageError: there is no such architecture, or it does not take the options.
    """
    if architecture not in ARCHITECTURES:
        raise UsageError(f"--architecture {architecture}: there are {', '.join(ARCHITECTURES)}")
    generator_class = ARCHITECTURES[architecture]
    try:
        bound = inspect.signature(generator_class).bind(**options)
    except TypeError as error:
        raise UsageError(f"--architecture {architecture}: {error}") from error
    generator = generator_class(**options)
    # Defaults, too: they may be others when the file is read.
    bound.apply_defaults()
    kept = {name: value for name, value in bound.arguments.items() if name != "weights"}
    kept = {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
    generator.description = {"format": FORMAT, "architecture": architecture, "options": kept, "training": {}}
    return generator


def options_of(architecture: str) -> frozenset[str]:
    """Names of the options that an architecture takes."""
    return frozenset(inspect.signature(ARCHITECTURES[architecture]).parameters)
