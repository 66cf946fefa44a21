"""What is done to a run from inside its own process: called in the child before the command."""

import atexit
import contextlib
import functools
import itertools
import math
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gan_color import checkpoint, fit, gan, losses, prepare, pretrain


def _before_call(owner: object, name: str, act: Callable[[int], None]) -> None:
    """Call `act` with 1, 2, 3, ... before each call of a function."""
    function, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(function)
    def acting(*args, **kwargs):
        act(next(calls))
        return function(*args, **kwargs)

    setattr(owner, name, acting)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def announce(file: str) -> None:
    """Make a file when the first step begins."""
    _before_call(fit, "lr_scale", lambda call: call > 1 or Path(file).touch())


def die_before(step: int) -> None:
    """Die by SIGKILL as the step begins that would be this process's step-th."""
    _before_call(fit, "lr_scale", lambda call: call != step or _kill())


def keep_states() -> None:
    """Keep a copy of each state, which a run drops when newer ones are there."""
    save_state = checkpoint.save_state

    def saving(run: Path, step: int, state: dict, **how) -> None:
        save_state(run, step, state, **how)
        (run / "states").mkdir(exist_ok=True)
        shutil.copy(run / "state" / f"step-{step:08d}.pt", run / "states")

    checkpoint.save_state = saving


# Moment of a run: what is called then, and at which call it is no longer the look before the first step.
MOMENTS = {
    "start-up": (prepare, "choose_precision", 1),
    "step": (fit, "lr_scale", 3),
    "eval": (fit, "validate", 2),
    "grid": (fit, "generate", 3),
    "save": (checkpoint, "save_state", 2),
}


def linger(moment: str, file: str) -> None:
    """Make a file when a moment is reached, and stay there until it is gone."""
    owner, name, at = MOMENTS[moment]

    def act(call: int) -> None:
        if call == at:
            Path(file).touch()
            while Path(file).exists():
                time.sleep(0.005)

    _before_call(owner, name, act)


def crash_at(point: int, count_to: str | None = None) -> None:
    """Die by SIGKILL at one of the points where a file is half way between old and new.

    Points: before and after making a temporary file, renaming, deleting and each fsync of a file or folder; before,
    in the middle of and after each write of a whole file, and of each line that is appended.

    Args:
        point: which, from 0; a number never reached lets the process live.
        count_to: at the end of a process that lives, write to this file how many points there were.
    """
    points = itertools.count()

    def reach() -> None:
        if next(points) == point:
            _kill()

    def around(owner: object, name: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def reaching(*args, **kwargs):
            reach()
            result = function(*args, **kwargs)
            reach()
            return result

        setattr(owner, name, reaching)

    class Torn:
        """A file whose writes reach the disk in two halves."""

        def __init__(self, file):
            self.file = file

        def write(self, data) -> int:
            reach()
            middle = len(data) // 2
            self.file.write(data[:middle])
            self.file.flush()
            reach()
            self.file.write(data[middle:])
            self.file.flush()
            reach()
            return len(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *fault):
            self.file.close()

    for owner, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (tempfile, "mkstemp")):
        around(owner, name)
    fdopen, os_write = os.fdopen, os.write
    os.fdopen = lambda *args, **kwargs: Torn(fdopen(*args, **kwargs))

    halved = set()

    def write_torn(descriptor: int, data) -> int:
        """Of what is appended one half, so that the caller has to come again with the other."""
        reach()
        whole = descriptor in halved
        written = os_write(descriptor, data if whole else data[: (len(data) + 1) // 2])
        (halved.discard if whole or written == len(data) else halved.add)(descriptor)
        reach()
        return written

    os.write = write_torn
    if count_to:
        atexit.register(lambda: Path(count_to).write_bytes(str(next(points)).encode()))


def full_disk(size: int, until_step: int | None = None) -> None:
    """No file may grow beyond a size, as where the disk is full: a real refusal by the kernel.

    Args:
        size: bytes.
        until_step: this process's step with which the space returns; None = never.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before_first_step = iter([True])

    def act(call: int) -> None:
        if next(before_first_step, False):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        if call == until_step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    _before_call(fit, "lr_scale", act)


def weights_apart_at(step: int) -> None:
    """Change a weight of this process a little before its step-th step."""
    take_step, calls = pretrain.Pretrain.step, itertools.count(1)

    def taking(self, L, ab):
        if next(calls) == step:
            with torch.no_grad():
                next(self.generator.parameters()).add_(1e-6)
        return take_step(self, L, ab)

    pretrain.Pretrain.step = taking


def too_large_at(step: int) -> None:
    """Ask for more memory than there is before the step-th step."""
    _before_call(pretrain.Pretrain, "step", lambda call: call == step and torch.empty(2**60))


def nan_at(step: int, where: str, value: float = math.nan) -> None:
    """Put a value that is no number into this process's step-th step.

    Args:
        step: which, from 1.
        where: "input", "loss", "gradient" or "weight".
        value: nan or inf.
    """
    for stage in (pretrain.Pretrain, gan.Gan):
        _poison(stage, step, where, value)


def _poison(stage: type, step: int, where: str, value: float) -> None:
    take_step, calls = stage.step, itertools.count(1)

    def poisoned(self, L, ab):
        if next(calls) != step:
            return take_step(self, L, ab)
        weight = next(p for p in self.generator.parameters() if p.dim() > 1)
        with contextlib.ExitStack() as undo:
            if where == "input":
                L = L.clone()
                L[0, 0, 0, 0] = value
            elif where == "weight":
                with torch.no_grad():
                    weight.view(-1)[0] = value
            elif where == "gradient":
                undo.callback(weight.register_hook(lambda gradient: gradient * value).remove)
            else:
                reconstruction = losses.reconstruction
                undo.callback(setattr, losses, "reconstruction", reconstruction)
                losses.reconstruction = lambda *args: reconstruction(*args) * value
            return take_step(self, L, ab)

    stage.step = poisoned


def jumping_clock() -> None:
    """The wall clock stands a year back, and jumps by a day, to and fro, whenever it is asked."""
    now, calls = time.time, itertools.count()
    time.time = lambda: now() - 365 * 86400 + (-1) ** next(calls) * 86400
