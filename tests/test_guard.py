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


@pytest.mark.parametrize("which", ["adam", "sgd"])
def test_half_precision_makes_no_update_either_after_a_loss_that_is_not_finite(which):
    stage = Pretrain(small_generator(), CPU, torch.float16, optimizer=which)
    stage.step(*batch())
    before = [parameter.detach().clone() for parameter in stage.generator.parameters()]
    L, ab = batch()
    stage.step(L, torch.full_like(ab, math.nan))
    assert stage.guard.tripped
    stage.step(*batch())
    assert unchanged(stage.generator, before)


def test_momentum_begins_with_nothing_when_half_precision_overflows_at_once():
    stage = Pretrain(small_generator(), CPU, torch.float16, optimizer="sgd", momentum=0.9)
    hook = next(stage.generator.parameters()).register_hook(lambda gradient: torch.full_like(gradient, math.inf))
    stage.step(*batch())
    hook.remove()
    before = [parameter.detach().clone() for parameter in stage.generator.parameters()]
    stage.step(*batch())
    reached = max(
        float((p.detach() - old).abs().max()) for p, old in zip(stage.generator.parameters(), before, strict=True)
    )
    steepest = max(float(p.grad.abs().max()) for p in stage.generator.parameters())
    assert reached <= stage.optimizer.param_groups[0]["lr"] * steepest * 1.01


def test_where_the_fused_optimizers_read_nothing_an_update_is_left_out_as_well(monkeypatch):
    monkeypatch.setattr("gan_color.gan.can_fuse", lambda device: False)
    stage = gan_stage()
    stage.step(*batch())
    before = everything(stage)
    L, ab = batch()
    stage.step(torch.full_like(L, math.nan), ab)
    assert stage.guard.tripped and equal(everything(stage), before)
