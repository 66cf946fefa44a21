"""Runs of the command that cost their own work only: children of one Python that has imported everything already.

`multiprocessing`'s fork server makes them. A child has a session of its own, and what a process has that was started
from a shell: signals, exit code, handlers at its end, loader workers that are forked.
"""

import atexit
import contextlib
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import cache, partial
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from conftest import PROJECT, TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_fit import lines, same

from gan_color import checkpoint

# Of the generator's decoder: a fiftieth of the weights that the default has.
_WIDTHS = (16, 8, 8, 8, 8)
_PRELOADED = ["gan_color.gan", "gan_color.pretrain", "gan_color.folder", "torch.utils.tensorboard", "runs", "faults"]
_CONTEXT = multiprocessing.get_context("forkserver")


class Run:
    """Work in a child process.

    Args:
        work: called in the child; pickle must find it by name, or as a `partial` of what it finds.
        log: what it prints goes to this file.
    """

    def __init__(self, work: Callable[[], None], log: Path):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        _start_server()
        self.process: BaseProcess = _CONTEXT.Process(target=_become, args=(work, str(log)))
        self.process.start()
        self.pid = self.process.pid

    def signal(self, signum: int, group: bool = False) -> None:
        """Send a signal to the process, or to it and its loader workers."""
        (os.killpg if group else os.kill)(self.pid, signum)

    def wait(self, timeout: float = 120) -> int:
        """Wait for the end; returns the exit code, negative for a signal.

        Raises:
            TimeoutError: it hangs; it and its workers were killed.
        """
        self.process.join(timeout)
        hangs = self.process.exitcode is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # workers that lost their run
        self.process.join()
        if hangs:
            raise TimeoutError(f"no end after {timeout} s: {self.said()}")
        return self.process.exitcode

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")


def command(argv: list, before: Callable[[], None] | None = None, environment: dict | None = None) -> Callable:
    """The command line as work for a `Run`.

    Args:
        argv: the verb and its options.
        before: called first, such as one of faults.py.
        environment: set in the child.
    """
    return partial(_command, [str(word) for word in argv], before, environment or {})


def options(stage: str, photos: Path, out: Path, *more: object) -> list:
    """The command line of a tiny run of a stage."""
    of_gan = ["--discriminator-depth", 1] if stage == "gan" else []
    return [stage, "--data", photos, "--out", out, *TINY, *of_gan, *more]


def finish(argv: list, log: Path, before: Callable[[], None] | None = None) -> str:
    """Run a command that must succeed; returns what it printed."""
    run = Run(command(argv, before), log)
    code = run.wait()
    assert code == 0, run.said()
    return run.said()


def result_of(work: Callable[[], object], log: Path, timeout: float = 600) -> object:
    """Call a function in a child; returns what it returned, which JSON must be able to hold."""
    run = Run(partial(_print_result, work), log)
    code = run.wait(timeout)
    assert code == 0, f"ended with {code}: {run.said()}"
    return json.loads(run.said().splitlines()[-1])


def saved_step(run: Path) -> int:
    """The step of the newest whole state; 0 for a run that has none."""
    return checkpoint.load_state(run)["step"] if next(checkpoint.whole_states(run), None) else 0


def going_on(out: Path) -> list[str]:
    """How a user goes on with a run that was cut off: `--resume`, or anew where nothing was saved yet."""
    return ["--resume"] if saved_step(out) else []


def difference(one: Path, other: Path) -> str:
    """What differs between two finished runs that should be the same to the last bit; empty = nothing.

    Weights, optimizers, random state and step; the generator for use; every line of metrics.jsonl but the pace; and
    each step stands once in TensorBoard's curves.
    """
    states = [checkpoint.load_state(run) for run in (one, other)]
    for part in ("step", "stage", "rng", "meter"):
        if not same(states[0][part], states[1][part]):
            return f"{part} of the state"
    weights = [(run / "generator" / "model.safetensors").read_bytes() for run in (one, other)]
    if weights[0] != weights[1]:
        return "model.safetensors"
    if lines(one) != lines(other):
        return "metrics.jsonl"
    if scalar_steps(one) != scalar_steps(other):
        return "the steps in TensorBoard"
    return ""


def same_state(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same weights and optimizers, whatever they could log on the way."""
    states = [checkpoint.load_state(run) for run in (one, other)]
    return same(states[0]["stage"], states[1]["stage"]) and states[0]["step"] == states[1]["step"]


def all_lines(run: Path) -> list[dict]:
    """metrics.jsonl, the pace included."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def scalar_steps(run: Path) -> dict[str, list[int]]:
    """Tag to the steps that TensorBoard shows of it."""
    read = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {tag: [event.step for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@cache
def _start_server() -> None:
    """The fork server; it finds the project and these tests as pytest does."""
    before = dict(os.environ)
    places = [PROJECT, PROJECT / "tests", Path(__file__).parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"}
    _CONTEXT.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()
    os.environ.clear()
    os.environ |= before


def _become(work: Callable[[], None], log: str) -> None:
    """Turn this child into a process of its own that does the work."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method("fork", force=True)
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        atexit._run_exitfuncs()  # what the interpreter would do at its end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(argv: list[str], before: Callable[[], None] | None, environment: dict) -> None:
    from gan_color import generators
    from gan_color.__main__ import main

    generators.build = partial(generators.build, widths=_WIDTHS)
    os.environ.update(environment)
    if before:
        before()
    main(argv)


def _print_result(work: Callable[[], object]) -> None:
    print("\n" + json.dumps(work()))
