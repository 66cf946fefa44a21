"""Stage one: what a step does."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gan_color import generators
from gan_color.checkpoint import load_generator
from gan_color.config import PretrainConfig
from gan_color.data import LabDataset
from gan_color.prepare import prepare
from gan_color.pretrain import Pretrain

CPU = torch.device("cpu")


def small_generator() -> nn.Module:
    """Without batch norm, so that a batch in parts is the same mathematics."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2, 3, padding=1), nn.Tanh())


def batch(count: int = 4, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.rand(count, 1, size, size) * 2 - 1, torch.rand(count, 2, size, size) - 0.5


@pytest.mark.parametrize(
    ("loss", "reference"),
    [("l1", nn.L1Loss()), ("l2", nn.MSELoss()), ("smooth_l1", nn.SmoothL1Loss(beta=0.1))],
)
def test_a_step_follows_the_gradient_of_the_loss(loss, reference):
    generator = small_generator()
    expected = copy.deepcopy(generator)
    L, ab = batch()
    optimizer = torch.optim.Adam(expected.parameters(), lr=1e-3)
    expected_loss = reference(expected(L), ab)
    expected_loss.backward()
    optimizer.step()
    values = Pretrain(generator, CPU, torch.float32, loss, lr=1e-3).step(L, ab)
    assert values["loss/G"].item() == pytest.approx(expected_loss.item(), rel=1e-5)
    for ours, theirs in zip(generator.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_without_augmentation_each_epoch_sees_the_middle_squares(photo_folder, tmp_path):
    config = PretrainConfig(data=str(photo_folder), size=32, batch_size=4, augment=False, device="cpu", out=tmp_path)
    prepared = prepare(config, None)
    middle = LabDataset(prepared.train.paths, 32)
    for epoch in (0, 1):
        assert all(torch.equal(prepared.train.rgb((epoch, i)), middle.rgb(i)) for i in range(len(middle)))


@pytest.mark.parametrize(("augment", "items"), [(True, 5 * 24), (False, 5)])
def test_the_embedded_samples_are_taken_many_times_only_where_each_time_differs(tmp_path, augment, items):
    config = PretrainConfig(augment=augment, size=32, batch_size=4, device="cpu", out=tmp_path)
    assert len(prepare(config, None).train) == items


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_is_torchs(momentum):
    generator = small_generator()
    expected = copy.deepcopy(generator)
    L, ab = batch()
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=momentum)
    stage = Pretrain(generator, CPU, torch.float32, "l2", lr=0.1, optimizer="sgd", momentum=momentum)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(expected(L), ab).backward()
        optimizer.step()
        stage.step(L, ab)
    for ours, theirs in zip(generator.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_generator_that_predicts_rgb_is_compared_in_rgb(photo_folder):
    from gan_color.data import LabDataset
    from gan_color.data.photos import read_rgb

    path = sorted(photo_folder.iterdir())[0]
    L, ab = LabDataset([path], size=64, resize="squash")[0]
    rgb = torch.from_numpy(np.array(read_rgb(path).resize((64, 64), Image.Resampling.BICUBIC))).permute(2, 0, 1) / 255
    torch.manual_seed(0)
    generator = generators.build("autoencoder", target="rgb")
    L, ab, rgb = (part.expand(2, -1, -1, -1).contiguous() for part in (L, ab, rgb))
    with torch.no_grad():
        fake_rgb, fake_ab = (copy.deepcopy(generator).train()(L, as_rgb=as_rgb) for as_rgb in (True, False))
    values = Pretrain(generator, CPU, torch.float32, "l2", target="rgb").step(L, ab)
    assert values["loss/G"].item() == pytest.approx((fake_rgb - rgb).square().mean().item(), rel=1e-4)
    assert values["loss/G_L1"].item() == pytest.approx((fake_ab - ab).abs().mean().item(), rel=1e-4)


def test_rgb_is_learnt(photo_folder):
    from gan_color.data import LabDataset

    dataset = LabDataset(sorted(photo_folder.iterdir())[:2], size=32)
    L, ab = (torch.stack(part) for part in zip(*dataset, strict=True))
    torch.manual_seed(0)
    generator = generators.build("autoencoder", target="rgb")
    stage = Pretrain(generator, CPU, torch.float32, lr=2e-3, target="rgb")
    losses = [stage.step(L, ab) for _ in range(40)]
    assert losses[-1]["loss/G"] < 0.5 * losses[0]["loss/G"]
    assert losses[-1]["loss/G_L1"].item() < 0.6 * ab.abs().mean().item()


def test_l1_is_logged_whatever_the_loss():
    generator = small_generator()
    L, ab = batch()
    l1 = (generator(L) - ab).abs().mean().item()
    assert Pretrain(generator, CPU, torch.float32, "l2").step(L, ab)["loss/G_L1"].item() == pytest.approx(l1, rel=1e-5)


def test_a_batch_in_parts_is_the_same_step():
    whole, parts = small_generator(), small_generator()
    L, ab = batch(8)
    values = [
        Pretrain(generator, CPU, torch.float32, accumulate=accumulate).step(L, ab)
        for generator, accumulate in ((whole, 1), (parts, 4))
    ]
    assert values[0]["loss/G"].item() == pytest.approx(values[1]["loss/G"].item(), rel=1e-5)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_handful_of_steps_overfits_two_photographs(precision, photo_folder):
    from gan_color.data import LabDataset

    dataset = LabDataset(sorted(photo_folder.iterdir())[:2], size=32)
    L, ab = (torch.stack(part) for part in zip(*dataset, strict=True))
    torch.manual_seed(0)
    stage = Pretrain(generators.build("resnet_unet", backbone="test_resnet"), CPU, precision, lr=3e-3)
    losses = [stage.step(L, ab)["loss/G_L1"].item() for _ in range(60)]
    assert losses[-1] < 0.25 * ab.abs().mean().item()


def test_state_goes_out_and_back():
    L, ab = batch()
    one, other = (Pretrain(small_generator(), CPU, torch.float32) for _ in range(2))
    one.step(L, ab)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    one.step(L, ab)
    other.step(L, ab)
    for ours, theirs in zip(one.generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def measured(run: Path) -> list[dict]:
    """The validations of a run, first to last."""
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "val/l1" in line]


def test_it_begins_as_the_generator_that_it_is_given(train, pretrained, tmp_path):
    run = train("pretrain", tmp_path / "run", "--generator", str(pretrained), "--max-steps", "1")
    assert measured(run)[0]["val/l1"] == measured(pretrained)[-1]["val/l1"]
    assert measured(run)[-1]["val/l1"] != measured(run)[0]["val/l1"]
    assert "from the generator `pretrain`" in (run / "generator" / "README.md").read_text()


def test_a_generator_is_trained_on_at_another_size_and_resumed(train, pretrained, tmp_path):
    run = train("pretrain", tmp_path / "run", "--generator", str(pretrained), "--size", "64", "--max-steps", "1")
    assert train("pretrain", run, "--size", "64", "--max-steps", "2", "--resume") == run
    now, before = load_generator(run).description, load_generator(pretrained).description
    assert now["training"] == before["training"] | {"size": 64, "step": 2}
    assert now["options"] == before["options"]
