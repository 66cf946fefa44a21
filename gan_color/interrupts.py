"""What may cut a training run short: signals and faults, and what becomes of them."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import torch

from gan_color.errors import GanColorError, PhotoError


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying of them; a second Ctrl-C takes effect at once.

    What the process was started to ignore, as nohup does with SIGHUP, it goes on ignoring.
    """
    caught: list[int] = []
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.getsignal(each) for each in watched}
    before = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}

    def catch(signum, _):
        caught.append(signum)
        if signum == signal.SIGINT:
            signal.signal(signum, before[signum])

    for each in before:
        signal.signal(each, catch)
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def one_line_faults(save: Callable[[], None]) -> Iterator[None]:
    """Turn what may go wrong in the middle of a run into one line, after saving what can be saved."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise GanColorError(
            "the device's memory is too small: give --accumulate 2 (or 4, ...) for the same step in parts, or a "
            "smaller --batch-size or --size"
        ) from error
    except PhotoError:
        save()
        raise
