"""The PatchGAN's shape against pix2pix, its norms, its first weights."""

import pytest
import torch
from torch import nn

from gan_color.discriminator import PatchDiscriminator

NORMS = ["batch", "instance", "spectral", "none"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random_photos(count: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 1, size, size) * 2 - 1, torch.rand(count, 2, size, size) - 0.5


def spectral_norms(network: nn.Module) -> list[float]:
    weights = [layer.weight.detach() for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return [torch.linalg.svdvals(weight.flatten(1))[0].item() for weight in weights]


@torch.no_grad()
def test_photographs_of_256_give_30_by_30_logits():
    assert PatchDiscriminator()(*random_photos(1, 256)).shape == (1, 1, 30, 30)


def test_parameters_are_those_of_pix2pix():
    # C64-C128-C256-C512 of 4x4 convolutions over 3 channels; batch norm stands in for the bias.
    by_hand = (
        (3 * 64 * 16 + 64)
        + (64 * 128 * 16 + 2 * 128)
        + (128 * 256 * 16 + 2 * 256)
        + (256 * 512 * 16 + 2 * 512)
        + (512 * 16 + 1)
    )
    assert by_hand == 2_765_633
    assert sum(weights.numel() for weights in PatchDiscriminator().parameters()) == by_hand


@pytest.mark.parametrize(("depth", "expected"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_each_logit_sees_exactly_its_patch(depth, expected):
    # Without norm, which would let every pixel see every other.
    network = PatchDiscriminator(depth, norm="none", width=4)
    L, ab = random_photos(1, 256)
    L.requires_grad_()
    ab.requires_grad_()
    logits = network(L, ab)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    for seen in (L.grad[0, 0] != 0, (ab.grad[0] != 0).all(dim=0)):
        rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
        assert rows[-1] - rows[0] + 1 == columns[-1] - columns[0] + 1 == expected
        assert seen.sum() == expected**2


def test_width_doubles_up_to_eight_times():
    convolutions = [layer for layer in PatchDiscriminator(depth=4, width=4).modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [4, 8, 16, 32, 32, 1]


@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_is_trained(norm):
    network = PatchDiscriminator(norm=norm, width=8)
    logits = network(*random_photos(2))
    assert logits.shape == (2, 1, 6, 6) and logits.isfinite().all()
    logits.square().mean().backward()
    untrained = [name for name, weights in network.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert untrained == []


@pytest.mark.parametrize(
    ("norm", "layer"), [("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d), ("spectral", None), ("none", None)]
)
def test_the_norm_asked_for_stands_after_all_but_first_and_last_layer(norm, layer):
    layers = list(PatchDiscriminator(norm=norm, width=4).layers)
    norms = (nn.BatchNorm2d, nn.InstanceNorm2d)
    assert [type(one) for one in layers if isinstance(one, norms)] == ([layer] * 3 if layer else [])
    assert isinstance(layers[1], nn.LeakyReLU) and isinstance(layers[-1], nn.Conv2d)


@pytest.mark.parametrize("norm", ["layer", "", "Batch"])
def test_an_unknown_norm_is_refused(norm):
    with pytest.raises(ValueError, match=f'got "{norm}"'):
        PatchDiscriminator(norm=norm)


def test_spectral_norm_holds_every_weight_to_norm_one():
    network = PatchDiscriminator(norm="spectral", width=8).train()
    photos = random_photos(1, 32)
    for _ in range(30):
        network(*photos)
    assert len(spectral_norms(network)) == 5
    assert spectral_norms(network) == pytest.approx([1] * 5, abs=0.02)
    # The bound is what differs: without it they are elsewhere.
    assert spectral_norms(PatchDiscriminator(norm="none", width=8)) != pytest.approx([1] * 5, abs=0.02)


@torch.no_grad()
def test_instance_norm_judges_each_photograph_on_its_own():
    L, ab = random_photos(3)
    alone = {norm: PatchDiscriminator(norm=norm, width=8).train() for norm in ("instance", "batch")}
    torch.testing.assert_close(alone["instance"](L, ab)[:1], alone["instance"](L[:1], ab[:1]), rtol=1e-4, atol=1e-4)
    # With batch norm the mates do matter.
    assert (alone["batch"](L, ab)[:1] - alone["batch"](L[:1], ab[:1])).abs().max() > 1e-2


@torch.no_grad()
def test_both_lightness_and_colour_are_judged():
    network = PatchDiscriminator(norm="none", width=8)
    L, ab = random_photos(1)
    assert not torch.equal(network(L, ab), network(-L, ab))
    assert not torch.equal(network(L, ab), network(L, -ab))
    assert not torch.equal(network(L, ab), network(L, ab.flip(1)))


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_first_weights_are_those_of_pix2pix(norm):
    network = PatchDiscriminator(norm=norm)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            # The smallest layer has 3072 weights: their spread is within 5 % of 0.02.
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.002)
            assert layer.bias is None or not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.3)
            assert not layer.bias.any()
