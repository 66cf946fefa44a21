"""What every architecture promises, whatever it is made of."""

import copy

import pytest
import torch
from torch import nn

from gan_color import export, generators, load_generator
from gan_color.errors import CheckpointError, UsageError

# The smallest form of each, and the parameters that its docstring promises of the usual one.
ARCHITECTURES = {
    "resnet_unet": ({"backbone": "test_resnet", "widths": [16, 16, 8, 8, 8]}, 12_455_026),
    "dynamic_unet": ({"backbone": "test_resnet"}, 31_099_672),
    "pix2pix_unet": ({"width": 4}, 54_409_858),
    "plain_cnn": ({}, 3_892_194),
    "autoencoder": ({}, 3_119_042),
    "resnet_deconv": ({"backbone": "test_resnet"}, 841_858),
    "squeezenet_unet": ({}, 3_822_418),
}
CASES = [
    *((architecture, options) for architecture, (options, _) in ARCHITECTURES.items()),
    ("autoencoder", {"target": "rgb"}),
]
NAMES = ["-".join((architecture, *options.get("target", "").split())) for architecture, options in CASES]

every = pytest.mark.parametrize(("architecture", "options"), CASES, ids=NAMES)


def build(architecture: str, options: dict) -> generators.Generator:
    torch.manual_seed(0)
    return generators.build(architecture, **options)


def lightness(height: int, width: int, count: int = 1) -> torch.Tensor:
    torch.manual_seed(height)
    return torch.rand(count, 1, height, width) * 2 - 1


def test_every_architecture_is_here():
    assert ARCHITECTURES.keys() == generators.ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_has_the_promised_parameters(architecture):
    count = sum(weights.numel() for weights in generators.build(architecture).parameters())
    assert count == ARCHITECTURES[architecture][1]
    assert f"{count / 1e6:.1f} million parameters" in generators.ARCHITECTURES[architecture].__doc__


@every
@torch.no_grad()
def test_colour_has_the_size_of_the_photograph(architecture, options):
    network = build(architecture, options).eval()
    for size in ((32, 32), (33, 47), (97, 131), (64, 200)):
        ab = network(lightness(*size, count=2))
        assert ab.shape == (2, 2, *size) and ab.dtype == torch.float32
        assert ab.std() > 0


@every
@torch.no_grad()
def test_colour_stays_in_its_range_whatever_the_weights(architecture, options):
    network = build(architecture, options).eval()
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)][-1]
    last.weight *= 1e4
    ab = network(lightness(64, 64))
    # The last layer alone would be far outside; what RGB can show ends before the ends of the range.
    assert (0.5 if network.target == "rgb" else 0.99) < ab.abs().max() <= 1


@every
def test_every_parameter_is_trained(architecture, options):
    network = build(architecture, options).train()
    # timm starts the last norm of each residual branch at 0, which holds back the gradient at first.
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
    ab = network(lightness(65, 97, count=3))
    (ab * torch.randn_like(ab)).sum().backward()
    gradients = {name: weights.grad for name, weights in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@every
@torch.no_grad()
def test_no_module_has_hooks(architecture, options):
    network = build(architecture, options).eval()
    network(lightness(32, 32))
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert [type(module) for module in network.modules() if any(getattr(module, kind) for kind in kinds)] == []


@every
def test_it_is_copied_saved_and_loaded_whole(architecture, options, tmp_path):
    network = build(architecture, options).train()
    network(lightness(64, 64, count=2)).sum().backward()  # fastai's own cannot be copied after this
    copy.deepcopy(network).eval().save_pretrained(tmp_path)
    network.eval()
    loaded = load_generator(tmp_path)
    assert type(loaded) is type(network) and loaded.target == network.target
    L = lightness(33, 47)
    with torch.no_grad():
        assert torch.equal(loaded(L), network(L))
        assert torch.equal(type(network).from_pretrained(tmp_path)(L), network(L))


@every
@torch.no_grad()
def test_it_compiles_in_one_piece(architecture, options):
    network = build(architecture, options).eval()
    L = lightness(40, 57)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(L), network(L), rtol=0, atol=1e-6)


# Beside tests/test_export.py for the default; target ab is a part of what target rgb is.
@pytest.mark.parametrize(
    ("architecture", "options"),
    [case for case in CASES if case not in (("autoencoder", {}), ("resnet_unet", ARCHITECTURES["resnet_unet"][0]))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_exported_for_any_size(architecture, options):
    network = build(architecture, options).eval()
    assert (
        export.largest_difference(network, export.to_onnx(network), [(1, 32, 32), (2, 97, 131), (1, 250, 333)]) < 1e-5
    )


@every
@torch.no_grad()
def test_autocast_gives_nearly_the_same_colour(architecture, options):
    network = build(architecture, options).eval()
    L = lightness(64, 80)
    plain = network(L)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(L)
    assert (half.float() - plain).abs().max() < 0.05


@pytest.mark.parametrize(
    ("architecture", "wrong"),
    [
        ("dynamic_unet", {"bound": "none"}),
        ("dynamic_unet", {"backbone": "convnext_atto"}),
        ("resnet_deconv", {"backbone": "efficientnet_b0"}),
        ("pix2pix_unet", {"width": 0}),
        ("pix2pix_unet", {"width": 10**9}),
        ("pix2pix_unet", {"width": "64"}),
        ("plain_cnn", {"backbone": "resnet18"}),
        ("autoencoder", {"target": "lab"}),
        ("resnet_unet", {"widths": [-1, 1, 1, 1, 1]}),
        ("resnet_unet", {"weights": "imagenet"}),
    ],
)
def test_options_that_do_not_fit_are_refused_when_built_and_when_loaded(architecture, wrong, tmp_path):
    (name,) = wrong
    if name not in ("widths", "weights"):  # not options of the command line, or right there
        with pytest.raises(UsageError, match=name):
            generators.build(architecture, **wrong)
    network = build(architecture, ARCHITECTURES[architecture][0])
    network.description["options"] |= wrong
    network.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        load_generator(tmp_path)
    assert "\n" not in str(caught.value)
