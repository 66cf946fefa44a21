"""The loop, on whole runs: what it writes, how it resumes, how it stops."""

import contextlib
import hashlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import PROJECT, TINY
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_color import checkpoint, fit, model_card
from gan_color.data import lab
from gan_color.fit import lr_scale
from gan_color.meter import Meter

COMMON = {f"val/{name}" for name in ["l1", "l1_grey", "psnr", "ssim", "delta_e", "colorfulness", "colorfulness_real"]}
COMMON |= {"val/colorfulness_gap", "val/l1_and_gap", "loss/G_L1", "loss/G", "lr/G", "perf/images_per_second"}
OF_GAN = COMMON | {"loss/G_GAN", "loss/D_real", "loss/D_fake", "loss/D", "lr/D", "D/accuracy_real", "D/accuracy_fake"}


def events(run) -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def lines(run) -> list[dict]:
    """metrics.jsonl without the pace, which no two runs share."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in read:
        line.pop("perf/images_per_second", None)
    return read


def same(one, other) -> bool:
    """Equal to the last bit, through dicts and lists of tensors."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other


@pytest.fixture(scope="module")
def adversarial(pretrained, photo_folder, tmp_path_factory):
    from gan_color.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "gan"
    options = ["--generator", str(pretrained), "--epochs", "2", "--sample-every", "3"]
    main(["gan", "--data", str(photo_folder), "--out", str(out), *TINY, *options], program="train_gan.py")
    return out


def test_stage_one_writes_its_tags(pretrained):
    read = events(pretrained)
    assert set(read.Tags()["scalars"]) == COMMON
    assert set(read.Tags()["images"]) == {"samples/val", "samples/train"}
    assert "config/text_summary" in read.Tags()["tensors"]


def test_stage_two_writes_its_tags(adversarial):
    assert set(events(adversarial).Tags()["scalars"]) == OF_GAN


def test_the_axis_is_the_optimizer_step(adversarial):
    read = events(adversarial)
    last = checkpoint.load_state(adversarial)["step"]
    assert [event.step for event in read.Scalars("loss/D")] == list(range(1, last + 1))
    assert [event.step for event in read.Scalars("val/l1")] == [0, last // 2, last]
    assert [event.step for event in read.Images("samples/val")] == sorted({0, 3, last})


def test_grids_are_rows_of_grey_fake_and_real(adversarial):
    image = events(adversarial).Images("samples/train")[0]
    assert (image.height, image.width) == (3 * 34 + 2, 2 * 34 + 2)
    grid = Image.open(adversarial / "samples" / "train-00000000.png")
    assert grid.size == (image.width, image.height)
    grey = np.asarray(grid.crop((2, 2, 34, 34)))
    assert np.ptp(grey, axis=-1).max() <= 1
    real = np.asarray(grid.crop((2, 70, 34, 102)))
    assert np.ptp(real, axis=-1).max() > 30


def test_losses_are_raw_and_their_sum_is_weighted(adversarial):
    read = events(adversarial)
    for gan, l1, total in zip(*(read.Scalars(f"loss/{tag}") for tag in ("G_GAN", "G_L1", "G")), strict=True):
        assert total.value == pytest.approx(gan.value + 100 * l1.value, rel=1e-4)


def test_json_lines_hold_what_tensorboard_shows(adversarial):
    read = events(adversarial)
    for tag in ("loss/D_real", "val/psnr", "lr/D"):
        from_lines = [line[tag] for line in lines(adversarial) if tag in line]
        assert from_lines == pytest.approx([event.value for event in read.Scalars(tag)], rel=1e-5)


def test_config_yaml_says_what_was_taken(pretrained):
    config = yaml.safe_load((pretrained / "config.yaml").read_text())
    assert config["weights"] == "none" and config["backbone"] == "test_resnet" and config["epochs"] == 2


def test_stage_two_begins_where_stage_one_ended(pretrained, adversarial):
    first = next(line for line in lines(adversarial) if line["step"] == 0)
    last = [line for line in lines(pretrained) if "val/l1" in line][-1]
    assert {tag: first[tag] for tag in COMMON if tag in first} == {tag: last[tag] for tag in COMMON if tag in last}


def test_the_learning_rate_rises_then_falls():
    scales = [lr_scale(step / 100, 0.1, 0.5) for step in range(100)]
    assert 0 < scales[0] < 0.05
    assert scales[:10] == sorted(scales[:10])
    assert set(scales[10:51]) == {1.0}
    assert scales[75] == pytest.approx(0.5)
    assert scales[50:] == sorted(scales[50:], reverse=True) and scales[-1] == pytest.approx(0.02)
    assert lr_scale(0.0, 0.0, 0.0) == 1.0


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_resumed_run_equals_an_uninterrupted_one(train, pretrained, tmp_path, stage, workers):
    options = ["--epochs", "3", "--save-every", "1", "--precision", "bf16"]
    if stage == "gan":
        options += ["--generator", str(pretrained)]
    whole = train(stage, tmp_path / "whole", *options)
    cut = tmp_path / "cut"
    # As a kill leaves it: the states up to the second but last step, later lines and events still there.
    shutil.copytree(whole, cut)
    newest = sorted((cut / "state").glob("*.pt"))[-1]
    newest.unlink()
    resumed_at = checkpoint.load_state(cut)["step"]
    train(stage, cut, "--epochs", "3", "--resume", "--workers", workers, "--precision", "bf16")
    assert resumed_at == checkpoint.load_state(whole)["step"] - 1
    one, other = checkpoint.load_state(whole), checkpoint.load_state(cut)
    assert same(one["stage"], other["stage"]) and one["step"] == other["step"]
    assert one["best"] == other["best"] and one["health"] == other["health"]
    assert lines(whole) == lines(cut)
    weights = [(run / "generator" / "model.safetensors").read_bytes() for run in (whole, cut)]
    assert weights[0] == weights[1]
    steps = [event.step for event in events(cut).Scalars("loss/G_L1")]
    assert steps == list(range(1, one["step"] + 1))


def test_resuming_a_finished_run_changes_nothing(train, pretrained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    train("pretrain", run, "--epochs", "2", "--resume")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert "nothing to do" in capsys.readouterr().out


def test_more_epochs_on_resuming_are_said(train, pretrained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    train("pretrain", run, "--epochs", "3", "--resume")
    assert "changed on resuming: epochs 2 -> 3" in capsys.readouterr().out
    assert checkpoint.load_state(run)["step"] == 3 * checkpoint.load_state(pretrained)["step"] // 2


def test_the_encoders_learning_rate_may_change_on_resuming(train, tmp_path, capsys):
    run = tmp_path / "run"
    told = ["--epochs", "9", "--warmup", "0", "--decay-from", "1"]
    train("pretrain", run, *told, "--lr-encoder", "1e-4", "--max-steps", "1")
    train("pretrain", run, *told, "--lr-encoder", "1e-5", "--max-steps", "2", "--resume")
    assert "changed on resuming: lr_encoder 0.0001 -> 1e-05" in capsys.readouterr().out
    groups = checkpoint.load_state(run)["stage"]["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [1e-3, 1e-5]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "64"], "--size 32, not 64"),
        (["--batch-size", "2"], "--batch-size 4, not 2"),
        (["--backbone", "resnet10t"], "--backbone test_resnet, not resnet10t"),
        (["--seed", "1"], "--seed 0, not 1"),
        (["--lr-encoder", "1e-4"], "--lr-encoder may change but not come or go"),
    ],
)
def test_what_may_not_change_on_resuming_is_refused(train, pretrained, capsys, options, says):
    with pytest.raises(SystemExit) as end:
        train("pretrain", pretrained, "--epochs", "2", "--resume", *options)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_other_photographs_on_resuming_are_refused(train, pretrained, photo_folder, tmp_path, capsys):
    run, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(pretrained, run)
    shutil.copytree(photo_folder, photos)
    (photos / "photo00.png").unlink()
    config = yaml.safe_load((run / "config.yaml").read_text()) | {"data": str(photos)}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as end:
        train("pretrain", run, "--data", str(photos), "--epochs", "3", "--resume")
    assert end.value.code == 1
    assert "are not those the run began with" in capsys.readouterr().err


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_a_run_killed_within_its_first_save_can_be_begun_anew_or_resumed(train, pretrained, tmp_path, monkeypatch, at):
    """Before each file of it: the state's digest, the state, the generator's description, its weights, its card."""
    run, options = tmp_path / "run", ["--epochs", "2"]
    write, names = checkpoint.write_atomically, []

    def cut_off(path, data):
        if path.parent.name in ("state", "generator"):
            names.append(path.name)
            if len(names) == at + 1:
                raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patched:
        for module in (checkpoint, model_card):
            patched.setattr(module, "write_atomically", cut_off)
        with pytest.raises(SystemExit):
            train("pretrain", run, *options)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    train("pretrain", run, *options, *(["--resume"] if at > 1 else []))
    for path in (pretrained / "generator").iterdir():
        assert (run / "generator" / path.name).read_bytes() == path.read_bytes()
    assert same(checkpoint.load_state(run)["stage"], checkpoint.load_state(pretrained)["stage"])
    assert sorted(path.name for path in (run / "state").iterdir()) == ["step-00000004.pt", "step-00000004.pt.sha256"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", -1), ("format", torch.zeros(3)), ("versions", [torch.zeros(3)]), ("generator", {"architecture": 3}),
        ("best", {"value": {}, "step": 1}), ("health", {"told": 1e300}), ("meter", {"sums": 1}), ("rng", {"cpu": 1}),
        ("stage", {"generator": []}), ("due", 1), ("config", None),
    ],
)  # fmt: skip
def test_a_state_of_another_making_is_one_line(train, pretrained, tmp_path, capsys, name, value):
    """Under a digest that fits."""
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    path = sorted((run / "state").glob("*.pt"))[-1]
    state = torch.load(path, weights_only=True) | {name: value}
    torch.save(state, path)
    checkpoint.digest_path(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    if name == "versions":
        train("pretrain", run, "--epochs", "3", "--resume")  # said, whatever it is
        return
    with pytest.raises(SystemExit) as end:
        train("pretrain", run, "--epochs", "3", "--resume")
    assert end.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_steps_can_be_limited(train, tmp_path):
    run = train("pretrain", tmp_path / "run", "--max-steps", "3")
    assert checkpoint.load_state(run)["step"] == 3


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(train, tmp_path, monkeypatch, capsys):
    from gan_color import losses

    calls = iter(range(100))
    monkeypatch.setattr(
        losses,
        "reconstruction",
        lambda fake, real, kind="l1": (fake - real).abs().mean() * (math.nan if next(calls) > 7 else 1),
    )
    with pytest.raises(SystemExit) as end:
        train("pretrain", tmp_path / "run", "--save-every", "1", "--epochs", "20")
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert "is nan at step" in error and "lower learning rate" in error
    assert error.count(".png") == 4 and error.count("\n") == 1  # the batch, by the names of its files
    state = checkpoint.load_state(tmp_path / "run")
    assert all(torch.isfinite(w).all() for w in state["stage"]["generator"].values() if w.is_floating_point())


class AnotherDevice(str):
    """The CPU under another type: there a value costs nothing to read, elsewhere it is read when it is due."""

    type = "mps"


@pytest.mark.parametrize("due", [["--sample-every", "2"], ["--val-every", "1"]])
def test_off_the_cpu_nothing_is_drawn_or_measured_of_what_is_not_finite(train, tmp_path, monkeypatch, capsys, due):
    """Between two readings of the losses: an epoch is of two steps."""
    from gan_color import prepare, pretrain

    step, taken = pretrain.Pretrain.step, iter(range(1, 100))
    monkeypatch.setattr(prepare, "choose_device", lambda name, rank: AnotherDevice("cpu"))
    monkeypatch.setattr(
        pretrain.Pretrain, "step", lambda self, L, ab: step(self, L * (math.nan, 1)[next(taken) < 2], ab)
    )
    with pytest.raises(SystemExit):
        train("pretrain", tmp_path / "run", "--log-every", "100", "--epochs", "20", "--val-every", "20", *due)
    assert "is nan at step 2, on" in capsys.readouterr().err
    assert [line["step"] for line in lines(tmp_path / "run")] == [0]
    assert {path.stem.split("-")[1] for path in (tmp_path / "run" / "samples").iterdir()} == {"00000000"}


def test_the_photographs_named_are_those_of_the_step_that_was_not_finite(train, tmp_path, monkeypatch, capsys):
    from gan_color import pretrain

    step, taken = pretrain.Pretrain.step, []

    def poison_the_third(self, L, ab):
        taken.append(L.clone())
        return step(self, L * (math.nan if len(taken) == 3 else 1), ab)

    monkeypatch.setattr(pretrain.Pretrain, "step", poison_the_third)
    with pytest.raises(SystemExit):
        train("pretrain", tmp_path / "run", "--save-every", "1", "--epochs", "20", "--min-crop", "1.0")
    error = capsys.readouterr().err
    assert "at step 3, on" in error and len(taken) == 3
    named = [path for path in error.replace(":", ",").split(", ") if path.endswith(".png")]
    named[0] = named[0].rsplit(" ", 1)[-1]
    lightness = lab.LabDataset(named, 32, train=True, min_crop=1.0)
    for place, path in enumerate(named):
        # Crops differ in their place and may be mirrored; the mean is near all the same.
        assert lightness[place][0].mean().item() == pytest.approx(taken[2][place].mean().item(), abs=0.1), path
    assert checkpoint.load_state(tmp_path / "run")["step"] == 2


def test_weights_that_are_not_finite_are_not_saved_though_the_losses_are(train, tmp_path, monkeypatch, capsys):
    from gan_color import gan

    step, taken = gan.Gan.step, iter(range(100))

    def spoil_a_weight(self, L, ab):
        values = step(self, L, ab)
        if next(taken) == 3:
            with torch.no_grad():
                next(self.discriminator.parameters())[0] = math.inf
        return values

    monkeypatch.setattr(gan.Gan, "step", spoil_a_weight)
    with pytest.raises(SystemExit) as end:
        train("gan", tmp_path / "run", "--from-scratch", "--save-every", "1", "--epochs", "20")
    assert end.value.code == 1
    assert "stage.discriminator" in capsys.readouterr().err
    assert checkpoint.load_state(tmp_path / "run")["step"] == 3


@contextlib.contextmanager
def disk_full_from_step(monkeypatch, first: int, last: int):
    """As on a full disk nothing can be written in the steps first to last."""
    from gan_color import pretrain

    step, taken = pretrain.Pretrain.step, iter(range(1, 1000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_or_empty(self, L, ab):
        number = next(taken)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if first <= number <= last else before[0], before[1]))
        return step(self, L, ab)

    with monkeypatch.context() as patched:
        patched.setattr(pretrain.Pretrain, "step", fill_or_empty)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_does_not_end_a_training(train, tmp_path, monkeypatch, capsys):
    options = ["--epochs", "5", "--save-every", "1"]
    with disk_full_from_step(monkeypatch, 4, 7):
        run = train("pretrain", tmp_path / "run", *options)
    said = capsys.readouterr().out
    for what in ("curves and grids", "checkpoints"):
        assert said.count(f"File too large: training goes on without {what}") == 1
        assert said.count(f"{what} are written again") == 1
    whole = train("pretrain", tmp_path / "whole", *options)
    assert same(checkpoint.load_state(run)["stage"], checkpoint.load_state(whole)["stage"])
    assert [line["step"] for line in lines(run) if "loss/G" in line] == [1, 2, 3, 8, 9, 10]
    assert [event.step for event in events(run).Scalars("loss/G")] == [1, 2, 3, 8, 9, 10]
    assert not [*run.rglob("*.tmp")]


@pytest.mark.usefixtures("capsys")  # what is said goes to no file, which would be full, too
def test_the_best_is_what_could_be_written(train, tmp_path, monkeypatch):
    """The disk is full at the best validation of all: what is better than the one in best/ is kept again."""
    l1 = iter([0.5, 0.4, 0.1, 0.3, 0.35])
    validate = fit.validate
    monkeypatch.setattr(fit, "validate", lambda *of: validate(*of) | {"val/l1": next(l1)})
    with disk_full_from_step(monkeypatch, 4, 4):
        run = train("pretrain", tmp_path / "run", "--epochs", "4")
    assert checkpoint.load_state(run)["best"] == {"value": 0.3, "step": 6}
    assert checkpoint.generator_is_of(run / "best", 6)


def test_a_run_whose_end_cannot_be_saved_keeps_the_checkpoint_before(train, tmp_path, monkeypatch, capsys):
    options = ["--epochs", "3", "--save-every", "1", "--log-every", "1"]
    with disk_full_from_step(monkeypatch, 4, 9), pytest.raises(SystemExit) as end:
        train("pretrain", tmp_path / "run", *options)
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert "step 6 is not saved" in error and "--resume --out" in error and error.count("\n") == 1
    assert checkpoint.load_state(tmp_path / "run")["step"] == 3
    run = train("pretrain", tmp_path / "run", *options, "--resume")
    whole = train("pretrain", tmp_path / "whole", *options)
    assert lines(run) == lines(whole)
    assert same(checkpoint.load_state(run)["stage"], checkpoint.load_state(whole)["stage"])


def test_another_torch_on_resuming_is_said_and_kept(train, pretrained, tmp_path, monkeypatch, capsys):
    from gan_color import run_state

    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    (before,) = checkpoint.load_state(run)["versions"]
    monkeypatch.setattr(run_state.torch, "__version__", "99.0")
    train("pretrain", run, "--epochs", "3", "--resume")
    assert f"changed on resuming: {before} -> " in capsys.readouterr().out
    assert [before, before.rsplit(" ", 1)[0] + " 99.0"] == checkpoint.load_state(run)["versions"]


def test_meter_means_are_over_the_steps_since_the_last_reading():
    meter = Meter()
    for value in (1.0, 2.0, 6.0):
        meter.add({"loss/G": torch.tensor(value)}, 4)
    assert meter.read()["loss/G"] == pytest.approx(3.0)
    meter.add({"loss/G": torch.tensor(5.0)}, 4)
    assert meter.read()["loss/G"] == 5.0 and meter.bad_step(4) is None
    meter.add({"loss/G": torch.tensor(float("inf"))}, 4, torch.tensor(1.0))
    meter.add({"loss/G": torch.tensor(1.0)}, 4, torch.tensor(1.0))
    assert (meter.bad_step(9), meter.what_is_bad()) == (8, "loss/G is inf")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_saves_and_resumes(photo_folder, tmp_path, signum, code):
    out = tmp_path / "run"
    command = [sys.executable, "train_pretrain.py", "--data", str(photo_folder), "--out", str(out), *TINY]
    command += ["--epochs", "100000", "--workers", "2", "--val-every", "100000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
        # Tests that run in the background are started with SIGINT ignored, which a run honours.
        preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL),
    )  # fmt: skip
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("loss/G") > 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signum)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert error.count("\n") == 1 and "continue with --resume" in error
    step = checkpoint.load_state(out)["step"]
    assert step == lines(out)[-1]["step"] >= 3


def test_a_stopped_run_equals_an_uninterrupted_one(train, tmp_path, monkeypatch):
    """A signal between two readings of the losses, and at the end of an epoch, where a validation is due."""
    options = ["--epochs", "4", "--log-every", "4", "--save-every", "100"]
    whole = train("pretrain", tmp_path / "whole", *options)
    lr_scale_as_it_is = fit.lr_scale
    for stop_at in (2, 3, 8):
        cut = tmp_path / f"cut{stop_at}"
        steps = iter(range(1, 100))

        def lr_scale(*args, stop_at=stop_at, steps=steps):
            if next(steps) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)  # as some schedulers do
            return lr_scale_as_it_is(*args)

        with monkeypatch.context() as patched:
            patched.setattr(fit, "lr_scale", lr_scale)
            with pytest.raises(SystemExit) as end:
                train("pretrain", cut, *options)
        assert end.value.code == 143
        assert checkpoint.load_state(cut)["step"] == stop_at
        train("pretrain", cut, *options, "--resume")
        assert lines(cut) == lines(whole)
        assert same(checkpoint.load_state(cut)["stage"], checkpoint.load_state(whole)["stage"])


def test_a_run_that_saved_nothing_does_not_keep_its_folder(train, tmp_path, monkeypatch):
    from gan_color import losses

    with monkeypatch.context() as patched:
        patched.setattr(losses, "reconstruction", lambda fake, real, kind="l1": (fake - real).mean() * math.nan)
        with pytest.raises(SystemExit):
            train("pretrain", tmp_path / "run")
    run = train("pretrain", tmp_path / "run", "--max-steps", "2")
    assert [line["step"] for line in lines(run) if "loss/G" in line] == [1, 2]
    assert [event.step for event in events(run).Scalars("val/l1")] == [0, 2]


def test_a_run_under_nohup_outlives_the_terminal(photo_folder, tmp_path):
    out = tmp_path / "run"
    arguments = ["--data", str(photo_folder), "--out", str(out), *TINY, "--epochs", "6"]
    command = ["nohup", sys.executable, "train_pretrain.py", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0
    assert checkpoint.load_state(out)["step"] == 12


def test_a_photograph_that_vanishes_stops_the_run_after_saving(photo_folder, train, tmp_path, monkeypatch, capsys):
    from gan_color import pretrain

    photos = tmp_path / "photos"
    shutil.copytree(photo_folder, photos)
    step = pretrain.Pretrain.step
    taken = iter(range(100))

    def step_then_lose_photographs(self, L, ab):
        if next(taken) == 2:
            shutil.rmtree(photos)
        return step(self, L, ab)

    monkeypatch.setattr(pretrain.Pretrain, "step", step_then_lose_photographs)
    with pytest.raises(SystemExit) as end:
        train("pretrain", tmp_path / "run", "--data", str(photos), "--epochs", "9")
    assert end.value.code == 1
    assert "No such file" in capsys.readouterr().err
    assert checkpoint.load_state(tmp_path / "run")["step"] == 3


def test_a_photograph_that_vanishes_before_a_validation_leaves_it_due(photo_folder, train, tmp_path, monkeypatch):
    """At the last step, after which nothing else would be left to do."""
    from gan_color import pretrain

    photos, step, taken = tmp_path / "photos", pretrain.Pretrain.step, iter(range(1, 100))
    shutil.copytree(photo_folder, photos)
    options = ["--data", str(photos), "--max-steps", "2"]
    whole = train("pretrain", tmp_path / "whole", *options)

    def step_then_lose_photographs(self, L, ab):
        if next(taken) == 2:
            photos.rename(tmp_path / "elsewhere")
        return step(self, L, ab)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(pretrain.Pretrain, "step", step_then_lose_photographs)
        train("pretrain", tmp_path / "cut", *options)
    (tmp_path / "elsewhere").rename(photos)
    assert "val/l1" not in lines(tmp_path / "cut")[-1]
    cut = train("pretrain", tmp_path / "cut", *options, "--resume")
    assert lines(cut) == lines(whole) and "val/l1" in lines(cut)[-1]
    assert not checkpoint.load_state(cut)["due"]


def test_the_weights_a_run_began_with_stay_on_record(train, tmp_path):
    import timm

    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), weights)
    run = train("pretrain", tmp_path / "run", "--weights", str(weights), "--max-steps", "2")
    weights.unlink()
    train("pretrain", run, "--weights", "auto", "--max-steps", "4", "--resume")
    assert yaml.safe_load((run / "config.yaml").read_text())["weights"] == str(weights)


def test_nobody_elses_files_are_cleared_from_a_run_folder(train, tmp_path):
    """A new run in a folder with pictures of its owner's; and after a first one that saved nothing."""
    out = tmp_path / "mine"
    (out / "samples").mkdir(parents=True)
    owned = [out / "samples" / "holiday.png", out / "events.out.tfevents.others", out / ".draft.tmp"]
    for path in owned:
        path.write_text("mine")
    train("pretrain", out, "--max-steps", "1")
    assert [path.read_text() for path in owned] == ["mine"] * 3
    shutil.rmtree(out / "state")
    shutil.rmtree(out / "generator")
    train("pretrain", out, "--max-steps", "1")
    assert [path.exists() for path in owned] == [True, False, True]
    assert len(list((out / "samples").glob("val-*.png"))) == 2


def test_a_run_lists_the_photographs_it_left_for_a_test(train, photo_folder, tmp_path, capsys):
    chosen = ["--split", "7/3/2", "--max-unreadable", "0.5", "--resize", "squash"]
    run = train("pretrain", tmp_path / "run", "--epochs", "1", *chosen)
    said = capsys.readouterr().out
    assert "7 photographs to train on, 3 to validate, 2 left for a test" in said
    assert " ".join(chosen) in next(line for line in said.splitlines() if line.startswith("next:"))
    listed = [Path(line) for line in (run / "test.txt").read_text().splitlines()]
    assert len(listed) == 2 and all(path.parent == photo_folder.resolve() and path.is_file() for path in listed)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--architecture", "plain_cnn", "--backbone", "resnet34"], "--backbone resnet34 does not go with"),
        (["--target", "rgb", "--backbone", "resnet18"], "--target rgb does not go with --architecture resnet_unet"),
        (
            ["--architecture", "pix2pix_unet", "--backbone", "resnet18", "--size", "128", "--batch-size", "1"],
            "leaves batch norm one photograph at a time",
        ),
    ],
)
def test_options_that_do_not_go_with_an_architecture_are_refused(train, tmp_path, capsys, options, says):
    with pytest.raises(SystemExit) as end:
        train("pretrain", tmp_path / "run", *options)
    error = capsys.readouterr().err
    assert end.value.code == 2 and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
