"""What may go wrong in the middle of a run, as one line with the cure."""

import contextlib
from collections.abc import Iterator

import torch

from gan_color import distributed, generators
from gan_color.config import TrainConfig
from gan_color.device import choose_device, choose_precision
from gan_color.errors import GanColorError, UsageError


@contextlib.contextmanager
def one_line_faults(config: TrainConfig) -> Iterator[None]:
    """Turn what torch raises when memory is too small, or another process gone, into an error that says the cure.

    Args:
        config: what the run was told.

    Raises:
        GanColorError: instead of these. Nothing is saved: the step may be half done.
        UsageError: batch norm was given a single value.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            f"--batch-size {config.batch_size} leaves batch norm one photograph at a time, of which some layer of this "
            "network sees a single value: raise it, or lower --accumulate"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise GanColorError(f"memory is too small: {what_would_fit(config)}") from error
        if distributed.is_parting(error):
            # NCCL's may as well be about this machine, such as two processes on one GPU.
            reason = f" ({str(error).splitlines()[0]})" if "NCCL" in str(error) else ""
            raise GanColorError(
                "another process of this run ended, or kept this one waiting for too long; its own line says why: go "
                f"on from the last checkpoint with --resume{reason}"
            ) from error
        raise


def what_would_fit(config: TrainConfig) -> str:
    """The options that make a step smaller, those that change nothing in the result first."""
    options = []
    parts = distributed.world() * config.accumulate
    # What batch norm can bear in a part, as `prepare` has it.
    fewest = 1 if config.size >= 2 * generators.ARCHITECTURES[config.architecture].stride else 2
    if config.batch_size % (2 * parts) == 0 and config.batch_size // (2 * parts) >= fewest:
        options.append(f"--accumulate {2 * config.accumulate} (the same step in more parts; also with --resume)")
    if not config.resume:  # which may change none of these
        device = choose_device(config.device, distributed.local_rank())
        if choose_precision(config.precision, device) == torch.float32:
            is_old_gpu = device.type == "cuda" and choose_precision("auto", device) == torch.float32
            options.append(f"--precision {'fp16' if is_old_gpu else 'bf16'}")
        if config.size >= 64:
            options.append(f"--size {config.size // 2}")
        if config.batch_size % (2 * parts) == 0 and config.batch_size // (2 * parts) >= fewest:
            options.append(f"--batch-size {config.batch_size // 2}")
    return f"give {', or '.join(options)}" if options else "take a machine with more"
