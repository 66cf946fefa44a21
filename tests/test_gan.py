"""Stage two: what a step does to which network."""

import copy
import warnings

import pytest
import skimage.color
import torch
import torch.nn.functional as F
from test_pretrain import CPU, batch, small_generator

from gan_color import color, generators
from gan_color.config import GanConfig
from gan_color.discriminator import PatchDiscriminator
from gan_color.gan import Gan


def stage(generator=None, norm="none", **options) -> Gan:
    torch.manual_seed(3)
    discriminator = PatchDiscriminator(depth=1, norm=norm, width=8)
    return Gan(generator or small_generator(), discriminator, CPU, torch.float32, GanConfig(**options))


def snapshot(module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def unchanged(module, before) -> bool:
    return all(torch.equal(now, then) for now, then in zip(module.parameters(), before, strict=True))


def test_a_step_is_pix2pix_written_out():
    """Discriminator first, then the generator past the new discriminator: by hand with torch's own losses."""
    ours = stage(lambda_l1=7.0)
    generator, discriminator = copy.deepcopy(ours.generator), copy.deepcopy(ours.discriminator)
    L, ab = batch()
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    fake = generator(L)
    real_logits, fake_logits = discriminator(L, ab), discriminator(L, fake.detach())
    d_real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    d_fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    ((d_real + d_fake) / 2).backward()
    adam_d.step()
    logits = discriminator(L, fake)
    gan, l1 = F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits)), F.l1_loss(fake, ab)
    gradients = torch.autograd.grad(gan + 7.0 * l1, list(generator.parameters()))

    values = ours.step(L, ab)
    expected = {"loss/D_real": d_real, "loss/D_fake": d_fake, "loss/D": (d_real + d_fake) / 2}
    expected |= {"loss/G_GAN": gan, "loss/G_L1": l1, "loss/G": gan + 7.0 * l1}
    expected |= {
        "D/accuracy_real": (real_logits > 0).float().mean(),
        "D/accuracy_fake": (fake_logits <= 0).float().mean(),
    }
    assert values.keys() == expected.keys()
    for tag, value in expected.items():
        assert values[tag].item() == pytest.approx(value.item(), rel=1e-4), tag
    for parameter, gradient in zip(ours.generator.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)
    for parameter, reference in zip(ours.discriminator.parameters(), discriminator.parameters(), strict=True):
        torch.testing.assert_close(parameter, reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("together", ["together", "apart"])
def test_the_discriminator_gets_no_gradient_from_the_generators_step(together):
    ours = stage(discriminator_batch=together)
    discriminator = copy.deepcopy(ours.discriminator)
    L, ab = batch()
    with torch.no_grad():
        fake = ours.generator(L)
    real_logits, fake_logits = discriminator(L, ab), discriminator(L, fake)
    d_real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    d_fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    ((d_real + d_fake) / 2).backward()
    ours.step(L, ab)
    # What is left after the whole step is the discriminator's own gradient and nothing else.
    for parameter, reference in zip(ours.discriminator.parameters(), discriminator.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, reference.grad, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("together", ["together", "apart"])
def test_r1_joins_the_discriminators_loss(together, accumulate):
    """Mescheder et al.'s loss on real photographs, D_real + gamma / 2 R1; pix2pix halves the whole."""
    ours = stage(discriminator_batch=together, accumulate=accumulate, r1=6.0)
    discriminator = copy.deepcopy(ours.discriminator)
    L, ab = batch()
    with torch.no_grad():
        fake = ours.generator(L)
    ab.requires_grad_()
    real_logits, fake_logits = discriminator(L, ab), discriminator(L, fake)
    (gradient,) = torch.autograd.grad(real_logits.mean(dim=(1, 2, 3)).sum(), ab, create_graph=True)
    penalty = gradient.square().flatten(1).sum(dim=1).mean()
    d_real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    d_fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    ((d_real + 6.0 / 2 * penalty + d_fake) / 2).backward()
    values = ours.step(L, ab.detach())
    assert values["loss/D_R1"].item() == pytest.approx(penalty.item(), rel=1e-4)
    assert values["loss/D"].item() == pytest.approx((d_real + d_fake).item() / 2, rel=1e-4)
    for parameter, reference in zip(ours.discriminator.parameters(), discriminator.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, reference.grad, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("together", ["together", "apart"])
def test_r1_leaves_batch_norm_as_the_pass_before_left_it(together):
    L, ab = batch()
    plain, steep = (stage(norm="batch", discriminator_batch=together, r1=r1, lr_d=1e-30) for r1 in (0.0, 9.0))
    values = [each.step(L, ab) for each in (plain, steep)]
    assert values[0]["loss/G_GAN"] == values[1]["loss/G_GAN"] and values[1]["loss/D_R1"] > 0
    for one, other in zip(plain.discriminator.buffers(), steep.discriminator.buffers(), strict=True):
        assert torch.equal(one, other)


def test_a_discriminator_of_rgb_sees_the_photographs():
    torch.manual_seed(3)
    discriminator = PatchDiscriminator(depth=1, norm="none", width=8, colours=3)
    config = GanConfig(discriminator_input="rgb", lambda_l1=0.0)
    ours = Gan(small_generator(), discriminator, CPU, torch.float32, config)
    seen = []
    discriminator.register_forward_hook(lambda module, inputs, out: seen.append(inputs[1].detach()))
    L, ab = batch()
    before = snapshot(ours.generator)
    with torch.no_grad():
        fake = ours.generator(L)
    ours.step(L, ab)
    for ours_seen, colours in ((seen[0][:4], ab), (seen[0][4:], fake), (seen[1], fake)):
        lab = color.to_lab_units(L, colours).permute(0, 2, 3, 1).double().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of colours that no light has
            expected = 2 * skimage.color.lab2rgb(lab) - 1
        torch.testing.assert_close(
            ours_seen.permute(0, 2, 3, 1).double(), torch.from_numpy(expected), atol=1e-3, rtol=0
        )
    assert not unchanged(ours.generator, before)


def test_warming_up_moves_the_discriminator_alone():
    ours = stage(discriminator_warmup=2)
    L, ab = batch()
    for _ in range(2):
        generator, discriminator = snapshot(ours.generator), snapshot(ours.discriminator)
        values = ours.step(L, ab)
        assert unchanged(ours.generator, generator) and not unchanged(ours.discriminator, discriminator)
        assert "loss/G" not in values and "loss/D" in values
    generator = snapshot(ours.generator)
    assert "loss/G" in ours.step(L, ab)
    assert not unchanged(ours.generator, generator)


@pytest.mark.parametrize("objective", ["vanilla", "lsgan", "hinge"])
@pytest.mark.parametrize("norm", ["batch", "instance", "spectral", "none"])
def test_every_objective_and_norm_trains_both_networks(objective, norm):
    ours = stage(gan_objective=objective, norm=norm)
    generator, discriminator = snapshot(ours.generator), snapshot(ours.discriminator)
    values = ours.step(*batch())
    assert all(torch.isfinite(value) for value in values.values())
    assert not unchanged(ours.generator, generator) and not unchanged(ours.discriminator, discriminator)


def test_without_l1_the_generator_still_learns_from_the_discriminator():
    ours = stage(lambda_l1=0.0)
    before = snapshot(ours.generator)
    values = ours.step(*batch())
    assert values["loss/G"].item() == values["loss/G_GAN"].item()
    assert not unchanged(ours.generator, before)


@pytest.mark.parametrize("together", ["together", "apart"])
def test_a_batch_in_parts_is_the_same_step(together):
    whole = stage(discriminator_batch=together)
    parts = stage(discriminator_batch=together, accumulate=4)
    L, ab = batch(8)
    values = [each.step(L, ab) for each in (whole, parts)]
    for tag in values[0]:
        assert values[0][tag].item() == pytest.approx(values[1][tag].item(), rel=1e-4), tag
    for network in ("generator", "discriminator"):
        pairs = zip(getattr(whole, network).parameters(), getattr(parts, network).parameters(), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_together_and_apart_are_one_step_where_photographs_do_not_mix():
    together, apart = (stage(norm="instance", discriminator_batch=each) for each in ("together", "apart"))
    L, ab = batch()
    values = [each.step(L, ab) for each in (together, apart)]
    for tag in values[0]:
        assert values[0][tag].item() == pytest.approx(values[1][tag].item(), rel=1e-4), tag


def test_the_moving_average_follows_its_formula():
    ours = stage(ema_decay=0.9)
    L, ab = batch()
    expected = snapshot(ours.generator)  # it begins with the network of stage one
    for step in range(4):
        ours.step(L, ab)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p for e, p in zip(expected, ours.generator.parameters(), strict=True)]
    for average, reference in zip(ours.generator_to_use.parameters(), expected, strict=True):
        torch.testing.assert_close(average, reference.detach(), rtol=1e-4, atol=1e-6)


def test_a_handful_of_steps_overfits_two_photographs(photo_folder):
    from gan_color.data import LabDataset

    dataset = LabDataset(sorted(photo_folder.iterdir())[:2], size=32)
    L, ab = (torch.stack(part) for part in zip(*dataset, strict=True))
    torch.manual_seed(0)
    ours = stage(generators.build("resnet_unet", backbone="test_resnet"), norm="batch", lr_g=3e-3)
    losses = [ours.step(L, ab)["loss/G_L1"].item() for _ in range(80)]
    assert losses[-1] < 0.35 * ab.abs().mean().item()


def test_state_goes_out_and_back():
    L, ab = batch()
    one, other = stage(norm="batch"), stage(norm="batch")
    for _ in range(2):
        one.step(L, ab)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for each in (one, other):
        each.step(L, ab)
    for name, value in one.state_dict()["ema"].items():
        assert torch.equal(value, other.state_dict()["ema"][name]), name
    assert one.steps == other.steps == 3


def test_state_is_safe_to_load(tmp_path):
    ours = stage()
    ours.step(*batch())
    torch.save(ours.state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert loaded["steps"] == 1


def test_options_reach_the_optimizers():
    ours = stage(**{"lr_g": 1e-5, "lr_d": 2e-5, "beta1": 0.1, "beta2": 0.9})
    assert ours.optimizer_g.defaults["lr"] == 1e-5 and ours.optimizer_d.defaults["lr"] == 2e-5
    assert ours.optimizer_g.defaults["betas"] == ours.optimizer_d.defaults["betas"] == (0.1, 0.9)


@pytest.mark.parametrize("together", ["together", "apart"])
def test_the_discriminator_judges_by_the_same_statistics_in_both_steps(together):
    """With its learning rate at zero the generator's GAN loss must follow from the very logits of its own step."""
    ours = stage(norm="batch", discriminator_batch=together, lr_d=1e-30)
    judged, sizes = [], []
    layers = ours.discriminator.layers
    norm = next(layer for layer in layers if isinstance(layer, torch.nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].numel() // inputs[0].shape[1]))
    ours.discriminator.register_forward_hook(lambda module, inputs, out: judged.append((*inputs, out.detach())))
    L, ab = batch()
    ours.step(L, ab)
    own, (_, fake_ab, for_generator) = judged[-2][2][-len(L) :], judged[-1]
    fake_ab = fake_ab.detach()
    if together == "together":
        # Batch norm divides by n in training and keeps the variance over n - 1: the only difference.
        n = sizes[-2]
        torch.testing.assert_close(ours.discriminator.eval()(L, fake_ab).detach(), for_generator)
        norm.running_var *= (n - 1) / n
        for_generator = ours.discriminator.eval()(L, fake_ab).detach()
    torch.testing.assert_close(own, for_generator, rtol=1e-4, atol=1e-5)
