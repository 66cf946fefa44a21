"""Row L: a value that is no number, anywhere in a step: the run stops before the update and saves none of it."""

import io
from functools import partial

import faults
import pytest
import runs
import safetensors.torch
import test_gan
import torch
from runs import Run, command, options, same
from test_pretrain import CPU, batch, small_generator

from gan_color import checkpoint
from gan_color.pretrain import Pretrain

WHERE = ("input", "loss", "gradient", "weight")


def numbers(value) -> list[torch.Tensor]:
    """All float tensors in a state."""
    if isinstance(value, dict):
        return [tensor for each in value.values() for tensor in numbers(each)]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in numbers(each)]
    return [value] if isinstance(value, torch.Tensor) and value.is_floating_point() else []


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_poisoned_steps(stage, photo_folder, tmp_path, full, chance, figure):
    start, last = tmp_path / "start", 8
    runs.finish(options("pretrain", photo_folder, start, "--max-steps", 1), tmp_path / "log")
    more = ["--epochs", 100, "--max-steps", last, "--save-every", 1, "--log-every", 4]
    more += ["--generator", start] if stage == "gan" else []
    runs.finish(options(stage, photo_folder, tmp_path / "whole", *more), tmp_path / "log", faults.keep_states)
    wrong, times = [], 50 if full else 4
    for number in range(times):
        where, step = WHERE[number % len(WHERE)], int(chance.integers(2, last + 1))
        value = float(chance.choice([float("nan"), float("inf")]))
        if where == "gradient":
            value = float("nan")  # inf x 0 is nan, but a gradient may be all zero
        out = tmp_path / f"run{number}"
        before = partial(faults.nan_at, step, where, value)
        run = Run(command(options(stage, photo_folder, out, *more), before), tmp_path / "log")
        code, case = run.wait(), f"{value} in the {where} at step {step}"
        if code != 1 or "Traceback" in run.said() or f"step {step}" not in run.said():
            wrong.append(f"{case}: ended with {code}: {run.said().splitlines()[-1:]}")
            continue
        state = checkpoint.load_state(out)
        before_it = tmp_path / "whole" / "states" / f"step-{step - 1:08d}.pt"
        kept = torch.load(io.BytesIO(before_it.read_bytes()), weights_only=True)
        if state["step"] != step - 1 or not same(state["stage"], kept["stage"]):
            wrong.append(f"{case}: the state is not that after step {step - 1}")
        if "photo" not in run.said().splitlines()[-1]:
            wrong.append(f"{case}: the photographs of the batch are not named")
        weights = safetensors.torch.load((out / "generator" / "model.safetensors").read_bytes())
        states = [torch.load(path, weights_only=True) for path in (out / "state").glob("*.pt")]
        if not all(tensor.isfinite().all() for tensor in numbers([weights, states])):
            wrong.append(f"{case}: something that is not finite was saved")
    figure("L", f"{stage}: {times - len(wrong)} of {times} steps stopped before the update, nothing of it saved")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("where", ["input", "target"])
@pytest.mark.parametrize("name", ["pretrain", "gan"])
def test_no_weight_moves_in_a_poisoned_step(name, where):
    """The update itself is left out, on the device: a loop that reads the losses later must find good weights."""
    stage = test_gan.stage() if name == "gan" else Pretrain(small_generator(), CPU, torch.float32)
    L, ab = batch()
    stage.step(L, ab)
    networks = [stage.generator, *([stage.discriminator] if name == "gan" else [])]
    before = [parameter.detach().clone() for network in networks for parameter in network.parameters()]
    L, ab = L.clone(), ab.clone()
    (L if where == "input" else ab)[0, 0, 0, 0] = float("nan")
    stage.step(L, ab)
    after = [parameter for network in networks for parameter in network.parameters()]
    assert stage.guard.tripped == 1
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
