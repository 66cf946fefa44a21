"""What may go wrong in the middle of a run, as one line with the cure."""

import contextlib
from collections.abc import Iterator

import torch

from gan_color import distributed
from gan_color.config import TrainConfig
from gan_color.errors import GanColorError


@contextlib.contextmanager
def one_line_faults(config: TrainConfig) -> Iterator[None]:
    """Turn what torch raises when memory is too small, or another process gone, into an error that says the cure.

    Args:
        config: what the run was told.

    Raises:
        GanColorError: instead of these. Nothing is saved: the step may be half done.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise GanColorError(f"memory is too small: {what_would_fit(config)}") from error
        if distributed.is_parting(error):
            raise GanColorError(
                "another process of this run ended, or kept this one waiting for too long; its own line says why: go "
                "on from the last checkpoint with --resume"
            ) from error
        raise


def what_would_fit(config: TrainConfig) -> str:
    """The options that make a step smaller, those that change nothing in the result first."""
    options = []
    share = config.batch_size // distributed.world()
    if share % (2 * config.accumulate) == 0:
        options.append(f"--accumulate {2 * config.accumulate} (the same step in more parts; also with --resume)")
    if config.precision not in ("bf16", "fp16"):
        options.append("--precision bf16")
    if config.size >= 64:
        options.append(f"--size {config.size // 2}")
    if config.batch_size > 1:
        options.append(f"--batch-size {max(1, config.batch_size // 2)}")
    return f"give {', or '.join(options)}" if options else "take a machine with more"
