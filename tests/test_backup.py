"""Copies of a run: whole or not counted, never written over, brought back as they were."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import PROJECT, TINY

from gan_color import backup, checkpoint
from gan_color.errors import GanColorError


def save(run, step: int) -> None:
    """What a training leaves at a step, in little."""
    for name, text in {
        "config.yaml": "data: samples\n",
        "metrics.jsonl": f'{{"step": {step}}}\n',
        "events.out.tfevents.1": f"curves until {step}",
        "generator/config.json": "{}",
        "generator/model.safetensors": f"weights of step {step}",
        "best/model.safetensors": "weights of some step",
        "snapshots/step-00000005/model.safetensors": "weights of step 5",
        f"samples/val-{step:08d}.png": "a grid",
    }.items():
        checkpoint.write_atomically(run / name, text.encode())
    checkpoint.save_state(run, step, {"step": step, "weights": torch.full((100,), float(step))})


def content(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def names(target) -> list[str]:
    return sorted(path.name for path in target.iterdir())


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "checkpoints" / "gan"
    save(folder, 10)
    return folder


@pytest.fixture
def target(tmp_path):
    (tmp_path / "drive").mkdir()
    return tmp_path / "drive" / "gan"


def test_a_run_comes_back_as_it_was(run, target, tmp_path):
    assert backup.copy_run(run, target) == target / "0001-step-00000010"
    back = tmp_path / "new machine" / "gan"
    assert backup.restore_run(target, back) == target / "0001-step-00000010"
    assert content(back) == content(run)
    assert checkpoint.load_state(back)["step"] == 10


def test_of_states_and_grids_the_newest_go_along(run, target):
    save(run, 20)
    copied = content(backup.copy_run(run, target))
    assert {name for name in copied if "000" in name} == {
        "state/step-00000020.pt",
        "state/step-00000020.pt.sha256",
        "samples/val-00000020.png",
        "snapshots/step-00000005/model.safetensors",
    }


def test_a_copy_is_a_run_folder_to_colour_with(run, target):
    copy = backup.copy_run(run, target)
    assert checkpoint.generator_folder(copy) == copy / "generator"


def test_nothing_is_copied_twice(run, target):
    copy = backup.copy_run(run, target)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert backup.copy_run(run, target) is None
    assert names(target) == ["0001-step-00000010"]
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


def test_two_whole_copies_stay(run, target):
    for step in (20, 30, 40):
        backup.copy_run(run, target)
        save(run, step)
    backup.copy_run(run, target)
    assert names(target) == ["0003-step-00000030", "0004-step-00000040"]


def test_a_run_without_a_state_is_not_copied(target, tmp_path):
    assert backup.copy_run(tmp_path / "nothing", target) is None
    assert not target.exists()


@pytest.mark.parametrize("files_written", range(8))
def test_an_interrupted_copy_does_not_count(run, target, tmp_path, monkeypatch, files_written):
    backup.copy_run(run, target)
    save(run, 20)
    write, left = checkpoint.write_atomically, files_written

    def dies(path, data):
        nonlocal left
        if left == 0:
            (path.parent).mkdir(parents=True, exist_ok=True)
            (path.parent / f".{path.name}.x.tmp").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        left -= 1
        write(path, data)

    monkeypatch.setattr(backup, "write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        backup.copy_run(run, target)
    monkeypatch.undo()

    assert backup.restore_run(target, tmp_path / "new") == target / "0001-step-00000010"
    # The next copy takes a new name and clears the leftovers away.
    assert backup.copy_run(run, target) == target / "0003-step-00000020"
    assert names(target) == ["0001-step-00000010", "0003-step-00000020"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.unlink()], ids=["flip", "cut", "gone"])
@pytest.mark.parametrize(
    "name", ["state/step-00000020.pt", "config.yaml", "generator/model.safetensors", "manifest.json"]
)
def test_a_broken_copy_gives_way_to_the_one_before(run, target, tmp_path, damage, name):
    backup.copy_run(run, target)
    save(run, 20)
    damage(backup.copy_run(run, target) / name)
    back = tmp_path / "new"
    assert backup.restore_run(target, back) == target / "0001-step-00000010"
    assert checkpoint.load_state(back)["step"] == 10
    # Where the run itself is whole, the broken copy is replaced under a new name.
    assert backup.copy_run(run, target) == target / "0003-step-00000020"
    assert names(target) == ["0001-step-00000010", "0003-step-00000020"]


def test_all_copies_broken_is_said(run, target, tmp_path):
    cut(backup.copy_run(run, target) / "state" / "step-00000010.pt")
    with pytest.raises(GanColorError, match=r"none of the 1 copies in .* is whole"):
        backup.restore_run(target, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_interrupted_return_is_made_good(run, target, tmp_path, monkeypatch):
    backup.copy_run(run, target)
    back, write, left = tmp_path / "new", checkpoint.write_atomically, 0

    def dies(path, data):
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write(path, data)

    for files_written in range(8):
        left = files_written
        monkeypatch.setattr(backup, "write_atomically", dies)
        with pytest.raises(KeyboardInterrupt):
            backup.restore_run(target, back)
        monkeypatch.undo()
        assert not list(checkpoint.whole_states(back))
    assert backup.restore_run(target, back)
    assert checkpoint.load_state(back)["step"] == 10


def test_a_copy_that_does_not_read_back_is_an_error(run, target, monkeypatch):
    backup.copy_run(run, target)
    save(run, 20)
    write = checkpoint.write_atomically
    monkeypatch.setattr(
        backup, "write_atomically", lambda path, data: write(path, data[:-1] if path.suffix == ".pt" else data)
    )
    with pytest.raises(GanColorError, match="does not read back"):
        backup.copy_run(run, target)
    assert "0001-step-00000010" in names(target)


def test_what_a_drive_adds_is_ignored_and_kept(run, target, tmp_path):
    copy = backup.copy_run(run, target)
    (copy / "state" / "step-00000010 (1).pt").write_bytes(b"stale")
    (target / "0009-step-00000099 (1)").mkdir()
    (target / "notes.txt").write_text("mine")
    save(run, 20)
    assert backup.copy_run(run, target).name == "0002-step-00000020"
    assert {"0009-step-00000099 (1)", "notes.txt"} <= set(names(target))
    back = tmp_path / "new"
    (back / "state").mkdir(parents=True)
    (back / "state" / "step-00000099 (1).pt").write_bytes(b"stale")
    assert backup.restore_run(target, back)
    assert checkpoint.load_state(back)["step"] == 20


def test_a_run_that_is_as_far_is_left_alone(run, target):
    backup.copy_run(run, target)
    save(run, 20)
    before = content(run)
    assert backup.restore_run(target, run) is None
    assert content(run) == before


def test_a_run_that_is_behind_is_brought_forward(run, target, tmp_path):
    behind = tmp_path / "behind"
    save(behind, 5)
    backup.copy_run(run, target)
    assert backup.restore_run(target, behind)
    assert checkpoint.load_state(behind)["step"] == 10


def test_a_new_run_never_deletes_copies_of_one_that_is_further(run, target, tmp_path):
    backup.copy_run(run, target)
    other = tmp_path / "other"
    for step in (1, 2, 3):
        save(other, step)
        backup.copy_run(other, target)
    assert names(target) == ["0001-step-00000010", "0003-step-00000002", "0004-step-00000003"]


def test_a_manifest_cannot_name_files_outside_the_run(run, target, tmp_path):
    copy = backup.copy_run(run, target)
    (tmp_path / "drive" / "evil").write_text("evil")
    digest = hashlib.sha256(b"evil").hexdigest()
    for name in ("../../evil", "/etc/passwd", "state/../../evil", ".bashrc", "generator/..", "snapshots/../evil"):
        (copy / "manifest.json").write_text(json.dumps({"files": {name: digest}}))
        with pytest.raises(GanColorError, match="is whole"):
            backup.restore_run(target, tmp_path / "new")


def test_a_drive_that_is_not_mounted_is_said(run, tmp_path):
    target = tmp_path / "unmounted" / "MyDrive" / "gan"
    for act in (
        lambda: backup.copy_run(run, target),
        lambda: backup.restore_run(target, run),
        lambda: backup.keep_copying(run, target).__enter__(),
    ):
        with pytest.raises(GanColorError, match="mount the drive"):
            act()
    assert not (tmp_path / "unmounted").exists()


def test_continuing(run, target, tmp_path, capsys):
    assert backup.continue_run(run, target) == ["--resume"]
    backup.copy_run(run, target)
    assert backup.continue_run(tmp_path / "new machine", target) == ["--resume"]
    assert "brought back" in capsys.readouterr().out
    assert backup.continue_run(tmp_path / "new run", tmp_path / "drive" / "new run") == []


def test_a_run_that_died_before_its_first_state_is_put_aside(target, tmp_path):
    for count in (1, 2):
        run = tmp_path / "early"
        checkpoint.write_atomically(run / "metrics.jsonl", b"{}\n")
        assert backup.continue_run(run, target) == []
        assert not run.exists() and (tmp_path / f"early.unsaved-{count}" / "metrics.jsonl").is_file()


def test_copies_while_training_and_at_the_end(run, target, capsys):
    with backup.keep_copying(run, target, every=0.02):
        deadline = time.monotonic() + 30
        while not (target / "0001-step-00000010" / "manifest.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert names(target) == ["0001-step-00000010"]
    with backup.keep_copying(run, target, every=1000):
        save(run, 20)
    assert names(target) == ["0001-step-00000010", "0002-step-00000020"]
    assert "copied to" in capsys.readouterr().out


def test_training_that_fails_is_copied_too_and_its_error_is_kept(run, target):
    with pytest.raises(KeyboardInterrupt), backup.keep_copying(run, target):
        raise KeyboardInterrupt
    assert names(target) == ["0001-step-00000010"]


def test_a_full_drive_does_not_stop_the_training(run, target, monkeypatch, capsys):
    def full(path, data):
        raise GanColorError(f"{path.name} cannot be written: No space left on device")

    monkeypatch.setattr(backup, "write_atomically", full)
    trained = False
    said = ""
    with pytest.raises(GanColorError, match="No space left"), backup.keep_copying(run, target, every=0.02):
        deadline = time.monotonic() + 30
        while "no copy this time" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().out
        trained = True
    assert trained and "No space left" in said


def train_in_a_process(photo_folder, tmp_path) -> subprocess.Popen:
    """What a notebook's kernel does, until the first step was shown; there are more than anyone waits for."""
    options = ["--data", str(photo_folder), *TINY, "--epochs", "100000", "--val-every", "100000"]
    program = f"""
from pathlib import Path
from gan_color import backup
backup.train("pretrain", {options}, Path("run"), Path("copies"))
"""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = b""
    while b"G_L1" not in said:
        data = process.stdout.read1(4096)
        assert data, said.decode()
        said += data
    return process


def test_an_interrupt_saves_and_copies_first(photo_folder, tmp_path):
    process = train_in_a_process(photo_folder, tmp_path)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0].decode()
    assert "SIGINT: saved at step" in said and "copied to" in said
    assert "pretrain has not finished" in said
    assert len(names(tmp_path / "copies")) == 1


def test_a_kernel_that_is_killed_leaves_a_saved_run_and_no_process(photo_folder, tmp_path):
    process = train_in_a_process(photo_folder, tmp_path)
    process.kill()
    process.communicate()
    run, deadline = tmp_path / "run", time.monotonic() + 60
    while not list(checkpoint.whole_states(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    step = checkpoint.load_state(run)["step"]
    time.sleep(1)
    assert checkpoint.load_state(run)["step"] == step
    assert backup.continue_run(run, tmp_path / "copies") == ["--resume"]
