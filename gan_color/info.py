"""Says what a checkpoint is: `gan-color info`."""

from gan_color.checkpoint import load_generator
from gan_color.commands import InfoConfig
from gan_color.errors import shown


def run(config: InfoConfig) -> None:
    """Print a generator's architecture, size and training.

    Raises:
        CheckpointError: there is no generator, or it is broken.
    """
    generator = load_generator(config.checkpoint)
    described = generator.description
    options = ", ".join(f"{name} {value}" for name, value in described["options"].items())
    print(f"generator     {shown(config.checkpoint)}")
    print(f"architecture  {described['architecture']}" + (f" ({options})" if options else ""))
    count = sum(parameter.numel() for parameter in generator.parameters())
    print(f"parameters    {count:,}" if count else f"exported by   gan_color {described.get('version', 'unknown')}")
    for name, value in described["training"].items():
        print(f"{name:<13} {value}")
