"""Says what a checkpoint is: `gan-color info`."""

from gan_color import checkpoint
from gan_color.config import InfoConfig
from gan_color.errors import shown
from gan_color.generators import hub


def run(config: InfoConfig) -> None:
    """Print a generator's architecture, size and training.

    Raises:
        CheckpointError: there is no generator, or it is broken.
    """
    folder = hub.generator_folder(config.checkpoint)
    described = hub.read_generator_config(folder)
    generator = checkpoint.load_generator(folder)
    options = ", ".join(f"{name} {value}" for name, value in described["options"].items())
    print(f"generator     {shown(folder)}")
    print(f"architecture  {described['architecture']} ({options})")
    print(f"parameters    {sum(parameter.numel() for parameter in generator.parameters()):,}")
    for name, value in described["training"].items():
        print(f"{name:<13} {value}")
