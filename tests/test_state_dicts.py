"""A state that does not fit is refused by the name of what differs, and nothing of it is loaded."""

import copy
import re

import pytest
import torch
from test_gan import snapshot, stage, unchanged
from test_pretrain import CPU, batch, small_generator

from gan_color.errors import CheckpointError
from gan_color.pretrain import Pretrain


def wrong_moment(state):
    state["optimizer_g"]["state"][0]["exp_avg"] = torch.zeros(3)


def wrong_type(state):
    state["optimizer_d"]["state"][0]["exp_avg_sq"] = state["optimizer_d"]["state"][0]["exp_avg_sq"].double()


def no_moment(state):
    del state["optimizer_g"]["state"][1]["exp_avg_sq"]


def no_parameter(state):
    del state["optimizer_g"]["state"][1]


def other_group(state):
    state["optimizer_g"]["param_groups"][0]["params"].pop()


def other_optimizer(state):
    parameters = [torch.nn.Parameter(torch.zeros(2))] * 1
    state["optimizer_g"] = torch.optim.SGD(parameters, lr=1.0).state_dict()


def mad_rate(state):
    state["optimizer_g"]["param_groups"][0]["betas"] = (float("nan"), 0.9)


def no_discriminator(state):
    del state["discriminator"]


def surplus_weight(state):
    state["ema"]["extra.weight"] = torch.zeros(1)


def text_for_network(state):
    state["generator"] = "weights"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (wrong_moment, "optimizer_g.state.0.exp_avg is ((3,), float32), not ((8, 1, 3, 3), float32)"),
        (wrong_type, "optimizer_d.state.0.exp_avg_sq is ((8, 3, 4, 4), float64), not ((8, 3, 4, 4), float32)"),
        (no_moment, "optimizer_g.state.1.exp_avg_sq is missing"),
        (no_parameter, "optimizer_g.state.1 is missing"),
        (other_group, "optimizer_g.param_groups.0.params has not 4 entries"),
        (other_optimizer, "optimizer_g.param_groups.0.betas is missing"),
        (mad_rate, "optimizer_g.param_groups.0.betas.0 is 'nan'"),
        (no_discriminator, "discriminator is missing"),
        (surplus_weight, "ema.extra.weight is not in the architecture"),
        (text_for_network, "generator is no state dict"),
    ],
)
def test_what_does_not_fit_is_named(harm, says):
    trained, fresh = stage(), stage()
    trained.step(*batch())
    state = copy.deepcopy(trained.state_dict())
    harm(state)
    before = snapshot(fresh.generator)
    with pytest.raises(CheckpointError, match=re.escape(says)):
        fresh.load_state_dict(state)
    assert unchanged(fresh.generator, before) and fresh.steps == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_goes_out_and_back(momentum):
    def descending():
        return Pretrain(small_generator(), CPU, torch.float32, optimizer="sgd", momentum=momentum)

    trained, fresh = descending(), descending()
    trained.step(*batch())
    fresh.load_state_dict(copy.deepcopy(trained.state_dict()))
    for each in (trained, fresh):
        each.step(*batch())
    assert unchanged(fresh.generator, snapshot(trained.generator))
    if momentum:
        state = trained.state_dict()
        state["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(1)
        with pytest.raises(CheckpointError, match=r"optimizer\.state\.0\.momentum_buffer is"):
            fresh.load_state_dict(state)


def test_a_state_of_the_other_stage_does_not_fit():
    with pytest.raises(CheckpointError, match="discriminator is missing"):
        stage().load_state_dict(Pretrain(small_generator(), CPU, torch.float32).state_dict())


def test_states_before_the_first_update_and_of_other_versions_fit():
    """In the discriminator's warm-up the generator's Adam has no moments; torch adds options to groups over time."""
    warming = stage(discriminator_warmup=5)
    warming.step(*batch())
    state = copy.deepcopy(warming.state_dict())
    del state["optimizer_d"]["param_groups"][0]["decoupled_weight_decay"]
    fresh = stage(discriminator_warmup=5)
    fresh.load_state_dict(state)
    for each in (warming, fresh):
        each.step(*batch())
    assert unchanged(fresh.discriminator, snapshot(warming.discriminator))
