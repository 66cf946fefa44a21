"""Row H: the disk is full while a run writes; nothing saved is lost, and the run goes on when space returns."""

import contextlib
import os
import subprocess
from functools import partial
from pathlib import Path

import faults
import pytest
import runs
from runs import Run, command, difference, options, saved_step

MORE = ["--epochs", 100, "--max-steps", 6, "--save-every", 1, "--sample-every", 2, "--log-every", 2]


@pytest.fixture(scope="module")
def home(photo_folder, tmp_path_factory) -> Path:
    """Uninterrupted runs of both stages."""
    home = tmp_path_factory.mktemp("whole")
    for stage in ("pretrain", "gan"):
        runs.finish(argv(stage, photo_folder, home / stage, home), home / "log")
    return home


def argv(stage: str, photos: Path, out: Path, home: Path) -> list:
    return options(stage, photos, out, *MORE, *(["--generator", home / "pretrain"] if stage == "gan" else []))


# What a run says goes to a file, too, and must fit.
SAID = 8192


def sizes(run: Path, full: bool) -> list[int]:
    """Limits around each file that a run writes: hardly anything fits, half of it does, all but its last byte does."""
    lengths = {path.stat().st_size for path in run.rglob("*") if path.is_file()}
    each = sorted({max(SAID, limit) for length in lengths for limit in (0, length // 2, length - 1)})
    return each if full else [each[0], each[-1]]


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_files_that_do_not_fit(stage, home, photo_folder, tmp_path, full, figure):
    """From the first step on no file may grow beyond a size; the next run has the space it needs."""
    limits = sizes(home / stage, full)
    for number, limit in enumerate(limits):
        out = tmp_path / f"run{number}"
        begun = [*argv(stage, photo_folder, out, home), "--max-steps"]
        runs.finish([*begun, 2, "--warmup", 0, "--decay-from", 1], tmp_path / "log")
        rest = [*begun, 6, "--warmup", 0, "--decay-from", 1, "--resume"]
        run = Run(command(rest, partial(faults.full_disk, limit)), tmp_path / "log")
        code = run.wait()
        assert code in (0, 1) and "Traceback" not in run.said(), (limit, run.said())
        assert saved_step(out) >= 2, limit
        assert not list(out.rglob("*.tmp")), limit
        runs.finish(rest, tmp_path / "log")
        assert saved_step(out) == 6, limit
    figure("H", f"{stage}: {len(limits)} file sizes that do not fit, no state lost, all resumed to the end")


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_space_that_returns(stage, home, photo_folder, tmp_path, full, figure):
    """The disk is full from the first step on and has space again later: exit code 0, said, and the same run."""
    limits = sizes(home / stage, full)
    for number, limit in enumerate(limits):
        out = tmp_path / f"run{number}"
        before = partial(faults.full_disk, limit, 4)
        run = Run(command(argv(stage, photo_folder, out, home), before), tmp_path / "log")
        assert run.wait() == 0, (limit, run.said())
        assert "cannot be written" in run.said(), (limit, run.said())
        assert runs.same_state(home / stage, out), limit
    figure("H", f"{stage}: {len(limits)} times space returned, exit code 0 and the same weights")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_a_small_disk(stage, home, photo_folder, tmp_path, full, figure):
    """A real disk of some megabytes, with less and less space left after the first states."""
    with small_disk(tmp_path / "disk", 64) as disk:
        whole = sum(path.stat().st_size for path in (home / stage).rglob("*") if path.is_file())
        lefts = [round(whole * share / 20) for share in range(21)] if full else [0, whole // 3]
        for left in lefts:
            out = disk / f"run{left}"
            begun = [*argv(stage, photo_folder, out, home), "--warmup", 0, "--decay-from", 1]
            runs.finish([*begun, "--max-steps", 2], tmp_path / "log")
            ballast = disk / "ballast"
            free = os.statvfs(disk)
            ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - left)))
            run = Run(command([*begun, "--resume"]), tmp_path / "log")
            code = run.wait()
            assert code in (0, 1, 2) and "Traceback" not in run.said(), (left, run.said())
            assert saved_step(out) >= 2, left
            ballast.unlink()
            runs.finish([*begun, "--resume"], tmp_path / "log")
            assert saved_step(out) == 6 and not list(out.rglob("*.tmp")), left
            subprocess.run(["rm", "-r", out], check=True)
    figure("H", f"{stage}: {len(lefts)} sizes of a full disk, no state lost, all resumed to the end")


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int):
    """A disk of its own in memory."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_the_uninterrupted_runs_are_those_of_an_empty_fault(home, photo_folder, tmp_path):
    """The harness itself changes nothing: a limit that is never reached ends in the same run."""
    out = tmp_path / "run"
    before = partial(faults.full_disk, 1 << 30)
    runs.finish(argv("pretrain", photo_folder, out, home), tmp_path / "log", before)
    assert difference(home / "pretrain", out) == ""
