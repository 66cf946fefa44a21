"""What cuts a training run short after its state is saved: signals, and photographs that vanish."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from gan_color.errors import PhotoError


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
def saved_before_photo_errors(save: Callable[[], None]) -> Iterator[None]:
    """Save the steps that were taken before a photograph could no longer be read."""
    try:
        yield
    except PhotoError:
        save()
        raise
