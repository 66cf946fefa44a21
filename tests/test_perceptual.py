"""The perceptual loss beside a plain formula on torchvision's network, and in a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from torchvision.models import squeezenet1_0

from gan_color.__main__ import main
from gan_color.errors import CheckpointError
from gan_color.perceptual import Perceptual


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_0().state_dict(), path)
    return path


def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(2, 3, 48, 40), torch.rand(2, 3, 48, 40)


def test_it_is_the_mean_squared_distance_of_unit_features(weights):
    network = squeezenet1_0()
    network.load_state_dict(torch.load(weights, weights_only=True))
    fake, real = photographs()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def unit_features(rgb: torch.Tensor) -> list[np.ndarray]:
        x = torch.from_numpy(((rgb.permute(0, 2, 3, 1).numpy() - mean) / std).transpose(0, 3, 1, 2)).float()
        kept = []
        for number, layer in enumerate(network.features):
            x = layer(x)
            if number in (1, 5, 10, 12):  # before each pooling, and at the end
                features = x.detach().double().numpy()
                kept.append(features / np.linalg.norm(features, axis=1, keepdims=True))
        return kept

    pairs = zip(unit_features(fake), unit_features(real), strict=True)
    expected = np.mean([((one - other) ** 2).sum(axis=1).mean() for one, other in pairs])
    perceptual = Perceptual(weights)
    assert perceptual(fake, real).item() == pytest.approx(expected, rel=1e-4)
    assert perceptual(real, real).item() == 0


def test_only_the_generated_photograph_gets_a_gradient(weights):
    perceptual = Perceptual(weights)
    fake, real = (rgb.requires_grad_() for rgb in photographs())
    perceptual(fake, real).backward()
    assert fake.grad.isfinite().all() and fake.grad.any() and real.grad is None
    assert not perceptual.training and not any(weight.requires_grad for weight in perceptual.parameters())


def test_a_photograph_without_features_has_a_finite_gradient(weights):
    perceptual = Perceptual(weights)
    for stage in perceptual.stages:  # all features 0, which have no direction
        for weight in stage.parameters():
            weight.zero_()
    fake, real = photographs()
    perceptual(fake.requires_grad_(), real).backward()
    assert fake.grad.isfinite().all()


def test_a_run_with_all_of_it_goes_on_as_if_it_had_not_been_cut_off(pretrained, photo_folder, weights, tmp_path):
    told = ["gan", "--data", str(photo_folder), *TINY, "--generator", str(pretrained), "--epochs", "9", "--r1", "2"]
    told += ["--discriminator-input", "rgb", "--perceptual", "10", "--perceptual-weights", str(weights)]
    told += ["--discriminator-depth", "2", "--no-augment", "--warmup", "0", "--decay-from", "1"]
    for run, *steps in (("whole", "4"), ("cut", "2", "4")):
        for number, step in enumerate(steps):
            main([*told, "--out", str(tmp_path / run), "--max-steps", step, *["--resume"] * number])
    whole, cut = (tmp_path / run / "generator" / "model.safetensors" for run in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "loss/G" in line][-1]
    total = last["loss/G_GAN"] + 100 * last["loss/G_L1"] + 10 * last["loss/G_perceptual"]
    assert last["loss/G"] == pytest.approx(total, rel=1e-5) and last["loss/D_R1"] > 0


def test_the_file_may_move_between_a_run_and_its_continuation_but_not_change(train, weights, tmp_path, capsys):
    told = ["--from-scratch", "--discriminator-depth", "2", "--perceptual", "1", "--warmup", "0", "--max-steps"]
    run, moved = tmp_path / "run", tmp_path / "moved.pth"
    train("gan", run, *told, "1", "--perceptual-weights", str(weights))
    shutil.copy(weights, moved)
    train("gan", run, *told, "2", "--perceptual-weights", str(moved), "--resume")
    assert f"changed on resuming: perceptual_weights {weights} -> {moved}" in capsys.readouterr().out
    torch.save({name: 2 * value for name, value in torch.load(weights, weights_only=True).items()}, moved)
    with pytest.raises(SystemExit) as end:
        train("gan", run, *told, "3", "--resume")
    assert end.value.code == 1
    assert "does not fit this run: --perceptual-weights has other content" in capsys.readouterr().err


def test_what_cannot_be_had_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(CheckpointError, match=r"--perceptual-weights .*none\.pth cannot be read"):
        Perceptual(tmp_path / "none.pth")
    for words, said in [
        (["--perceptual", "1"], "--perceptual-weights is None: it must be a state dict"),
        (
            ["--perceptual-weights", "w.pth"],
            "--perceptual-weights is w.pth: it must be left out, or --perceptual given",
        ),
        (["--no-augment", "--crops", "2"], "--crops is 2: it must be 1 with --no-augment"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(["gan", *words])
        assert end.value.code == 2
        assert said in capsys.readouterr().err
