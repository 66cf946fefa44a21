"""Rows A, C and Q: a run that is killed and resumed, again and again, ends as the uninterrupted one."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import faults
import numpy as np
import pytest
import runs
from conftest import PROJECT
from runs import Run, command, difference, going_on, options, saved_step

STEPS = 24
# Readings between saves, saves between validations, and each apart from the other.
OFTEN = ["--epochs", 100, "--log-every", 3, "--save-every", 4, "--sample-every", 10, "--val-every", 4]


@pytest.fixture(scope="module")
def whole(photo_folder, tmp_path_factory) -> dict[str, Path]:
    """An uninterrupted run of each stage; stage two starts from stage one's generator."""
    home = tmp_path_factory.mktemp("whole")
    for stage in ("pretrain", "gan"):
        runs.finish(options(stage, photo_folder, home / stage, *more(stage, home)), home / f"{stage}.log")
    return {stage: home / stage for stage in ("pretrain", "gan")}


def more(stage: str, home: Path, steps: int = STEPS) -> list:
    """Options of all the runs of a stage here."""
    begin = ["--generator", home / "pretrain"] if stage == "gan" else []
    return [*begin, *OFTEN, "--max-steps", steps]


def killed_and_resumed(
    argv: list, out: Path, chance: np.random.Generator, window: float, most: int = 1000, real: bool = False
) -> tuple[int, int]:
    """Kill a run at uniformly random times after its first step began, until it has ended by itself.

    Args:
        argv: the run, without --resume and --workers.
        out: its folder.
        chance: when it is killed, and with how many workers it goes on.
        window: seconds within which it is killed.
        most: after so many kills it is left to end.
        real: as a process that is started as a user starts it, not a forked one.

    Returns:
        Kills that hit, and how many of them lost a state that had been whole before.
    """
    kills = lost = 0
    for attempt in range(most + 1):
        before, sign = saved_step(out), out.with_name(f"{out.name}.{attempt}")
        argv_now = [*argv, *going_on(out), "--workers", int(chance.integers(3))]
        wait = chance.uniform(0, window) if attempt < most else 1000
        if real:
            killed = _kill_process(argv_now, wait, out)
        else:
            run = Run(command(argv_now, partial(faults.announce, str(sign))), out.with_name(out.name + ".log"))
            while not sign.exists() and run.process.is_alive():
                time.sleep(0.002)
            run.process.join(wait)
            run.process.kill()
            code = run.wait()
            assert code in (0, -signal.SIGKILL), run.said()
            killed = code != 0
        if not killed:
            return kills, lost
        kills += 1
        lost += saved_step(out) < before
    raise AssertionError(f"{kills} kills and no end")


def _kill_process(argv: list, wait: float, out: Path) -> bool:
    """The same of `python -m gan_color`, from the moment on when metrics.jsonl grows; whether it was killed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    metrics = out / "metrics.jsonl"
    length = metrics.stat().st_size if metrics.exists() else -1
    process = subprocess.Popen(
        [sys.executable, "-m", "gan_color", *map(str, argv)],
        cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and (metrics.stat().st_size if metrics.exists() else -1) == length:
        time.sleep(0.01)
    try:
        process.wait(wait)
    except subprocess.TimeoutExpired:
        process.kill()
    _, error = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), error
    return process.returncode != 0


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_killed_at_random_times(stage, whole, photo_folder, tmp_path, full, chance, figure):
    home, wanted = whole[stage].parent, 95 if full else 3
    # About half of the run, so that it gets on; saving and validating lie within it.
    window = (STEPS // 2) * _seconds_a_step(whole[stage])
    kills = lost = ended = 0
    while kills < wanted:
        out = tmp_path / f"run{ended}"
        argv = options(stage, photo_folder, out, *more(stage, home))
        hit, gone = killed_and_resumed(argv, out, chance, window)
        kills, lost, ended = kills + hit, lost + gone, ended + 1
        assert difference(whole[stage], out) == "", out
    figure("A", f"{stage}: {kills} kills in {ended} runs, all identical, {lost} states lost")
    figure("Q", f"{stage}: each step once in {ended} runs after {kills} kills")
    assert lost == 0


def test_real_processes_killed_at_random_times(whole, photo_folder, tmp_path, full, chance, figure):
    """Not forked but started as a user starts them: `python -m gan_color gan ...`."""
    out, most = tmp_path / "run", 10 if full else 1
    argv = options("gan", photo_folder, out, *more("gan", whole["gan"].parent))
    window = STEPS // 2 * _seconds_a_step(whole["gan"])
    kills, lost = killed_and_resumed(argv, out, chance, window, most, real=True)
    assert difference(whole["gan"], out) == ""
    figure("A", f"python -m gan_color gan: {kills} kills in 1 run, identical, {lost} states lost")
    assert lost == 0


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_resumed_at_every_step(stage, photo_folder, tmp_path, full, figure, whole):
    """Killed as each step begins: once for all steps one after another, and once for each step alone."""
    home, steps = whole[stage].parent, 10 if full else 4  # two steps are an epoch
    often = [*more(stage, home, steps), "--save-every", 1, "--log-every", 2]
    runs.finish(options(stage, photo_folder, tmp_path / "whole", *often), tmp_path / "log")
    resumed = 0
    for workers in (0, 1, 2) if full else (2,):
        alone = [[step] for step in range(2, steps + 1)] if full else []
        for number, stops in enumerate([list(range(2, steps + 1)), *alone]):
            out = tmp_path / f"run{workers}-{number}"
            argv = options(stage, photo_folder, out, *often, "--workers", workers)
            for stop in stops:
                before = partial(faults.die_before, stop - saved_step(out))
                run = Run(command([*argv, *going_on(out)], before), tmp_path / "log")
                assert run.wait() == -signal.SIGKILL, run.said()
                assert saved_step(out) == stop - 1
            runs.finish([*argv, "--resume"], tmp_path / "log")
            assert difference(tmp_path / "whole", out) == "", (workers, stops)
            resumed += len(stops)
    figure("C", f"{stage}: {resumed} resumptions over {steps // 2} epochs, difference exactly 0")


def _seconds_a_step(run: Path) -> float:
    """From the pace that the run itself logged."""
    paces = [line["perf/images_per_second"] for line in runs.all_lines(run) if "perf/images_per_second" in line]
    return 4 / float(np.median(paces))
