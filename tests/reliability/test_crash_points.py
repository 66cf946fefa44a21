"""Row B: a crash at every point where a file is half way between old and new."""

import os
import shutil
import signal
import stat
import subprocess
from functools import partial

import faults
import pytest
import runs
import torch
from runs import Run, command, difference, going_on, options

from gan_color import checkpoint, generators, load_generator, writing

NEVER = 10**9
DESCRIBED = {"architecture": "resnet_unet", "options": {"backbone": "test_resnet", "widths": [16, 8, 8, 8, 8]}}


def crashed(work, point: int) -> bool:
    """Do a piece of work in a forked child that dies at a point; whether it did."""
    pid = os.fork()
    if not pid:
        faults.crash_at(point)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def test_every_point_of_saving(tmp_path, figure):
    """A state and a generator over older ones: whatever is there afterwards is whole, old or new, and says which."""
    torch.manual_seed(0)
    generator = generators.build("resnet_unet", **DESCRIBED["options"]).eval()

    def save(run, step: int) -> None:
        with torch.no_grad():
            generator.head.bias.fill_(step)
        checkpoint.save_generator(run / "generator", generator, **DESCRIBED, info={"step": step, "size": 32})
        checkpoint.save_state(run, step, {"step": step, "weight": torch.full((99,), float(step))})

    save(tmp_path / "old", 1)
    save(tmp_path / "old", 2)
    point = 0
    while True:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(tmp_path / "old", run)
        died = crashed(partial(save, run, 3), point)
        state, loaded = checkpoint.load_state(run), load_generator(run)
        assert state["step"] in (2, 3) and state["weight"].unique().tolist() == [state["step"]], point
        assert loaded.head.bias.unique().item() in (2, 3), point
        save(run, 4)  # and the next save is as if nothing had been
        assert checkpoint.load_state(run)["step"] == load_generator(run).head.bias.unique().item() == 4
        if not died:
            break
        point += 1
    assert point > 40
    figure("B", f"saving: {point} of {point} points leave the old or the new state and generator, whole")


def test_the_order_of_writing(tmp_path, monkeypatch):
    """Content to the disk, then the name, then the folder: a loss of power cannot leave a name without content."""
    done = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)

        def recording(*args, name=name, function=function):
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            done.append(f"{name} folder" if is_folder else name)
            return function(*args)

        monkeypatch.setattr(os, name, recording)
    writing.write_atomically(tmp_path / "file", b"content")
    assert done == ["fsync", "replace", "fsync folder"]


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_points_of_a_run(stage, photo_folder, tmp_path, full, chance, figure):
    """Die at a point, go on as a user would, end as the uninterrupted run."""
    start = tmp_path / "start"
    runs.finish(options("pretrain", photo_folder, start, "--max-steps", 1), tmp_path / "log")
    more = ["--epochs", 100, "--max-steps", 4, "--save-every", 1, "--sample-every", 2, "--log-every", 2]
    more += ["--generator", start] if stage == "gan" else []
    count = tmp_path / "count"
    whole = options(stage, photo_folder, tmp_path / "whole", *more)
    runs.finish(whole, tmp_path / "log", partial(faults.crash_at, NEVER, str(count)))
    total = int(count.read_text())
    points = range(total) if full else sorted(chance.choice(total, 4, replace=False))
    for point in points:
        out = tmp_path / "run"
        shutil.rmtree(out, ignore_errors=True)
        run = Run(command(options(stage, photo_folder, out, *more), partial(faults.crash_at, point)), tmp_path / "log")
        assert run.wait() == -signal.SIGKILL, (point, run.said())
        runs.finish(options(stage, photo_folder, out, *more, *going_on(out)), tmp_path / "log")
        assert difference(tmp_path / "whole", out) == "", point
        cards = [(run / "generator" / "README.md").read_text() for run in (tmp_path / "whole", out)]
        assert cards[0] == cards[1], point
        assert not list(out.rglob("*.tmp")), point
    figure("B", f"{stage}: {len(points)} of {total} points of a run, resumed, all identical")


@pytest.mark.parametrize("last_step", [1, 2], ids=["nothing to do", "a step to take"])
def test_what_a_kill_left_half_written_is_cleared(last_step, photo_folder, tmp_path):
    out = tmp_path / "run"
    argv = options("pretrain", photo_folder, out, "--epochs", 100, "--max-steps")
    runs.finish([*argv, 1], tmp_path / "log")
    with subprocess.Popen("true") as dead:
        pass
    left = [out / folder / f".name.{dead.pid}.abcdefgh.tmp" for folder in (".", "state", "generator", "samples")]
    for path in left:
        path.write_bytes(b"half")
    runs.finish([*argv, last_step, "--resume"], tmp_path / "log")
    assert not [path for path in left if path.exists()]
