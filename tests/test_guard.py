"""An update that is not finite is never made."""

import math

import pytest
import torch
from test_gan import stage as gan_stage
from test_gan import unchanged
from test_pretrain import CPU, batch, small_generator

from gan_color import losses
from gan_color.pretrain import Pretrain


def everything(stage) -> list[torch.Tensor]:
    """All that an update moves: weights, and the optimizers' moments and steps."""
    moved = []
    for optimizer in stage.optimizers.values():
        for group in optimizer.param_groups:
            moved += [parameter.detach().clone() for parameter in group["params"]]
        moved += [value.clone() for state in optimizer.state.values() for value in state.values()]
    return moved


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.fixture(params=["adam", "sgd", "gan"])
def stage(request):
    if request.param == "gan":
        return gan_stage()
    return Pretrain(small_generator(), CPU, torch.float32, optimizer=request.param, momentum=0.9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["input", "loss", "gradient"])
def test_nothing_is_updated_by_a_step_that_is_not_finite_nor_after_it(stage, monkeypatch, bad, where):
    stage.step(*batch())
    assert not stage.guard.tripped
    before = everything(stage)
    L, ab = batch()
    with monkeypatch.context() as patched:
        if where == "input":
            L[0, 0, 3, 4] = bad
        elif where == "loss":  # its gradient is finite
            reconstruction, discriminator_loss = losses.reconstruction, losses.discriminator_loss
            patched.setattr(losses, "reconstruction", lambda *args: reconstruction(*args) + bad)
            patched.setattr(losses, "discriminator_loss", lambda *args: discriminator_loss(*args) + bad)
        else:
            for optimizer in stage.optimizers.values():
                last = optimizer.param_groups[0]["params"][-1]
                last.requires_grad_(True).register_hook(lambda gradient: torch.full_like(gradient, bad))
        stage.step(L, ab)
    assert stage.guard.tripped
    assert equal(everything(stage), before)
    stage.step(*batch())
    assert stage.guard.tripped and equal(everything(stage), before)


def test_a_large_gradient_is_no_infinite_one():
    stage = Pretrain(small_generator(), CPU, torch.float32)
    parameters = list(stage.generator.parameters())
    for parameter in parameters:
        parameter.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    before = everything(stage)
    stage.step(*batch())
    assert not stage.guard.tripped and not equal(everything(stage), before)


def test_half_precision_leaves_out_what_overflows_until_its_scale_is_used_up():
    stage = Pretrain(small_generator(), CPU, torch.float16)
    next(stage.generator.parameters()).register_hook(lambda gradient: torch.full_like(gradient, math.inf))
    before = [parameter.detach().clone() for parameter in stage.generator.parameters()]
    stage.step(*batch())
    assert not stage.guard.tripped and stage.scaler.get_scale() == 2.0**15
    for _ in range(30):
        stage.step(*batch())
    assert stage.guard.tripped and unchanged(stage.generator, before)
