"""Colour grey photographs with a two-stage conditional GAN.

from gan_color import colorize, load_generator

generator = load_generator("general")
colorize(generator, "grandmother.jpg").save("grandmother-coloured.jpg")
"""

from gan_color.version import __version__

__all__ = ["__version__", "colorize", "load_generator"]


def __getattr__(name):
    """Import torch only when a function that needs it is asked for (PEP 562)."""
    if name == "colorize":
        from gan_color.inference import colorize

        return colorize
    if name == "load_generator":
        from gan_color.checkpoint import load_generator

        return load_generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
