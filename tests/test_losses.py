"""Objectives against values worked out by hand and against torch's own losses."""

import math

import pytest
import torch
import torch.nn.functional as F

from gan_color import losses

OBJECTIVES = ["vanilla", "lsgan", "hinge"]


def patch_logits(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


@pytest.fixture
def two_colours() -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return tuple(0.2 * torch.randn(2, 2, 9, 7, generator=chance) for _ in range(2))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("l1", (0.04 + 0.5 + 0 + 0.1) / 4),
        ("l2", (0.04**2 + 0.5**2 + 0 + 0.1**2) / 4),
        # Quadratic below 0.1: d^2 / 0.2; from there d - 0.05.
        ("smooth_l1", (0.04**2 / 0.2 + (0.5 - 0.05) + 0 + (0.1 - 0.05)) / 4),
    ],
)
def test_reconstruction_by_hand(kind, expected):
    fake = torch.tensor([0.04, -0.3, 0.7, 0.0]).view(1, 2, 1, 2)
    real = torch.tensor([0.0, 0.2, 0.7, 0.1]).view(1, 2, 1, 2)
    assert losses.reconstruction(fake, real, kind).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [("l1", F.l1_loss), ("l2", F.mse_loss), ("smooth_l1", lambda *both: F.smooth_l1_loss(*both, beta=0.1))],
)
def test_reconstruction_is_that_of_torch(two_colours, kind, reference):
    torch.testing.assert_close(losses.reconstruction(*two_colours, kind), reference(*two_colours))


def test_reconstruction_is_l1_unless_told(two_colours):
    assert torch.equal(losses.reconstruction(*two_colours), losses.reconstruction(*two_colours, "l1"))


@pytest.mark.parametrize(
    ("objective", "is_real", "expected"),
    [
        # -log sigmoid(x) for real, -log(1 - sigmoid(x)) for generated, at 0 and log 3: sigmoid 1/2 and 3/4.
        ("vanilla", True, (math.log(2) + math.log(4 / 3)) / 2),
        ("vanilla", False, (math.log(2) + math.log(4)) / 2),
        ("lsgan", True, (1 + (math.log(3) - 1) ** 2) / 2),
        ("lsgan", False, math.log(3) ** 2 / 2),
        # log 3 is beyond the margin of 1.
        ("hinge", True, (1 + 0) / 2),
        ("hinge", False, (1 + 1 + math.log(3)) / 2),
    ],
)
def test_discriminator_loss_by_hand(objective, is_real, expected):
    found = losses.discriminator_loss(patch_logits(0, math.log(3)), is_real, objective)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("vanilla", (math.log(2) + math.log(4 / 3)) / 2),
        ("lsgan", (1 + (math.log(3) - 1) ** 2) / 2),
        ("hinge", -math.log(3) / 2),
    ],
)
def test_generator_loss_by_hand(objective, expected):
    found = losses.generator_loss(patch_logits(0, math.log(3)), objective)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("is_real", [True, False])
def test_discriminator_loss_is_that_of_torch(is_real):
    logits = 3 * torch.randn(4, 1, 6, 5, generator=torch.Generator().manual_seed(1))
    label = torch.full_like(logits, float(is_real))
    vanilla = losses.discriminator_loss(logits, is_real, "vanilla")
    torch.testing.assert_close(vanilla, F.binary_cross_entropy(torch.sigmoid(logits), label))
    torch.testing.assert_close(losses.discriminator_loss(logits, is_real, "lsgan"), F.mse_loss(logits, label))
    # margin - x for the positive label and margin + x for the negative, as torch has it.
    hinge = F.margin_ranking_loss(logits, torch.zeros_like(logits), 2 * label - 1, margin=1.0)
    torch.testing.assert_close(losses.discriminator_loss(logits, is_real, "hinge"), hinge)


def test_vanilla_is_the_objective_unless_told():
    logits = patch_logits(-0.4, 1.7)
    assert torch.equal(losses.generator_loss(logits), losses.generator_loss(logits, "vanilla"))
    for is_real in (True, False):
        told = losses.discriminator_loss(logits, is_real, "vanilla")
        assert torch.equal(losses.discriminator_loss(logits, is_real), told)


def test_vanilla_stays_finite_for_a_sure_discriminator():
    # log(sigmoid(-200)) written out would be infinite.
    assert losses.generator_loss(patch_logits(-200), "vanilla").item() == pytest.approx(200)
    assert losses.discriminator_loss(patch_logits(200), False, "vanilla").item() == pytest.approx(200)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_generator_wants_higher_logits(objective):
    logits = patch_logits(-2, -0.5, 0, 0.5).requires_grad_()
    losses.generator_loss(logits, objective).backward()
    assert (logits.grad < 0).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("is_real", [True, False])
def test_the_discriminator_wants_real_up_and_generated_down(objective, is_real):
    # Near the border: hinge has no gradient beyond its margin, lsgan turns round at its targets.
    logits = patch_logits(0.2, 0.5, 0.8).requires_grad_()
    losses.discriminator_loss(logits, is_real, objective).backward()
    assert ((logits.grad < 0) if is_real else (logits.grad > 0)).all()


def test_hinge_lets_go_of_patches_beyond_its_margin():
    logits = patch_logits(-1.5, 1.5).requires_grad_()
    losses.discriminator_loss(logits, True, "hinge").backward()
    assert logits.grad.flatten().tolist() == [-0.5, 0]


@pytest.mark.parametrize("kind", ["l1", "l2", "smooth_l1"])
def test_reconstruction_pulls_towards_the_photograph(kind):
    fake = torch.tensor([0.3, -0.3]).view(1, 2, 1, 1).requires_grad_()
    losses.reconstruction(fake, torch.zeros(1, 2, 1, 1), kind).backward()
    assert fake.grad.flatten().sign().tolist() == [1, -1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_reduced_in_float32(two_colours, dtype):
    halves = [colour.to(dtype) for colour in two_colours]
    for kind in ("l1", "l2", "smooth_l1"):
        found = losses.reconstruction(*halves, kind)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, losses.reconstruction(*(half.float() for half in halves), kind))
    logits = torch.randn(2, 1, 30, 30, generator=torch.Generator().manual_seed(2)).to(dtype)
    for objective in OBJECTIVES:
        found = losses.generator_loss(logits, objective), losses.discriminator_loss(logits, False, objective)
        wide = logits.float()
        expected = losses.generator_loss(wide, objective), losses.discriminator_loss(wide, False, objective)
        assert found[0].dtype == found[1].dtype == torch.float32
        torch.testing.assert_close(found, expected)
    assert losses.accuracy(logits, True).dtype == torch.float32


@pytest.mark.parametrize(
    ("objective", "is_real", "expected"),
    [
        ("vanilla", True, 0.75),
        ("vanilla", False, 0.25),
        ("hinge", True, 0.75),
        ("hinge", False, 0.25),
        ("lsgan", True, 0.5),
        ("lsgan", False, 0.5),
    ],
)
def test_accuracy_counts_patches_on_the_right_side(objective, is_real, expected):
    # 0.3 is above vanilla's border of 0 and below lsgan's of 0.5.
    assert losses.accuracy(patch_logits(-1, 0.3, 0.7, 2), is_real, objective).item() == expected


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weights():
    """D(ab) = sum(w * ab): its gradient is w whatever ab is, so R1 is |w|^2, and R1's own gradient 2 w."""
    torch.manual_seed(0)
    w = torch.randn(1, 2, 6, 5, requires_grad=True)
    ab = torch.randn(3, 2, 6, 5, requires_grad=True)
    penalty = losses.r1((w * ab).sum(dim=(1, 2, 3), keepdim=True), ab)
    torch.testing.assert_close(penalty, w.square().sum())
    penalty.backward()
    torch.testing.assert_close(w.grad, 2 * w)


def test_r1_is_the_mean_over_photographs_of_the_gradient_of_the_mean_logit():
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(2, 1, 3, stride=2).double()
    ab = torch.randn(3, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda x: convolution(x).tanh().mean(dim=(1, 2, 3)), ab)
    expected = torch.stack([jacobian[i, i].square().sum() for i in range(3)]).mean()
    torch.testing.assert_close(losses.r1(convolution(ab).tanh(), ab), expected)


def test_unknown_names_are_refused(two_colours):
    with pytest.raises(ValueError, match='"huber"'):
        losses.reconstruction(*two_colours, "huber")
    with pytest.raises(ValueError, match='"wgan"'):
        losses.discriminator_loss(patch_logits(0), True, "wgan")
    with pytest.raises(ValueError, match='"wgan"'):
        losses.generator_loss(patch_logits(0), "wgan")
