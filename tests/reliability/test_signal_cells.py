"""Row I: a signal at every moment of a run, to the process or to its whole group, with and without workers."""

import contextlib
import itertools
import signal
import time
from functools import partial

import faults
import pytest
import runs
from runs import Run, command, difference, options, saved_step

SIGNALS = {
    "TERM": [signal.SIGTERM],
    "INT": [signal.SIGINT],
    "INT twice": [signal.SIGINT, signal.SIGINT],
    "HUP": [signal.SIGHUP],
}
CELLS = list(itertools.product(SIGNALS, faults.MOMENTS, (0, 2), (False, True)))
# One of each signal, moment, number of workers and addressee, eight in all.
SMOKE = [
    ("TERM", "start-up", 0, True),
    ("TERM", "step", 2, True),
    ("INT", "eval", 0, False),
    ("INT", "save", 2, True),
    ("INT twice", "save", 0, False),
    ("INT twice", "step", 2, False),
    ("HUP", "grid", 2, False),
    ("TERM", "eval", 2, False),
]


def send(run: Run, signals: list[int], group: bool = False) -> None:
    """Send signals, one after another, to a run that may end at any of them."""
    for signum in signals:
        with contextlib.suppress(ProcessLookupError):
            run.signal(signum, group)
        time.sleep(0.05)


def test_the_cells_that_are_always_tried_are_cells():
    assert set(SMOKE) <= set(CELLS) and len(CELLS) == 80


def test_signals(photo_folder, tmp_path, full, figure):
    """Exit code 128 + signal, no traceback, at most a step lost, and the run goes on to the same end."""
    more = ["--epochs", 100, "--max-steps", 5, "--save-every", 1, "--log-every", 2, "--sample-every", 3]
    runs.finish(options("pretrain", photo_folder, tmp_path / "whole", *more), tmp_path / "log")
    wrong = []
    cells = CELLS if full else SMOKE
    for number, (name, moment, workers, group) in enumerate(cells):
        out, sign = tmp_path / f"run{number}", tmp_path / f"sign{number}"
        argv = options("pretrain", photo_folder, out, *more, "--workers", workers)
        run = Run(command(argv, partial(faults.linger, moment, str(sign))), tmp_path / "log")
        while not sign.exists() and run.process.is_alive():
            time.sleep(0.005)
        step = saved_step(out)
        assert run.process.is_alive(), run.said()
        send(run, SIGNALS[name], group)
        sign.unlink()
        code = run.wait(60)
        # Before the first step nothing is there to save: a signal may end the process as it ends any other.
        ends = {128 + signum for signum in SIGNALS[name]} | ({-SIGNALS[name][0]} if moment == "start-up" else set())
        cell = f"{name}, {moment}, {workers} workers, {'group' if group else 'process'}"
        if code not in ends or "Traceback" in run.said():
            wrong.append(f"{cell}: ended with {code}: {run.said().splitlines()[-1:]}")
        elif saved_step(out) < step or (moment != "start-up" and saved_step(out) < 1):
            wrong.append(f"{cell}: was at step {step}, is at {saved_step(out)}")
        elif full or number % 4 == 1:
            again = ["--resume"] if saved_step(out) else []
            runs.finish([*argv, *again], tmp_path / "log")
            if difference(tmp_path / "whole", out):
                wrong.append(f"{cell}: resumed, differs in {difference(tmp_path / 'whole', out)}")
    figure("I", f"{len(cells) - len(wrong)} of {len(cells)} cells: right exit code, at most a step lost")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["TERM"])
def test_a_signal_while_a_second_one_is_served(name, photo_folder, tmp_path, figure):
    """As some schedulers send it: again and again until the process is gone."""
    more = ["--epochs", 100, "--max-steps", 50, "--save-every", 1]
    out, sign = tmp_path / "run", tmp_path / "sign"
    before = partial(faults.linger, "save", str(sign))
    run = Run(command(options("pretrain", photo_folder, out, *more), before), tmp_path / "log")
    while not sign.exists() and run.process.is_alive():
        time.sleep(0.005)
    send(run, SIGNALS[name] * 10)
    sign.unlink()
    send(run, SIGNALS[name] * 10)
    # Once the state is saved a signal ends the process as it ends any other: 143 in a shell, too.
    assert run.wait(60) in (128 + SIGNALS[name][0], -SIGNALS[name][0]), run.said()
    assert saved_step(out) == 3 and "Traceback" not in run.said()
    figure("I", f"20 {name} while saving: saved and ended once")
