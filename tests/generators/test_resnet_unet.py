"""The default generator: shapes, training, saving, exporting, and the weights it starts from."""

import copy
import io
import re
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from gan_color import generators
from gan_color.errors import UsageError
from gan_color.generators.resnet_unet import ResNetUNet

SIZES = [(32, 32), (33, 47), (97, 131), (64, 200)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    """The whole timm model, with weights of its own: what a file of weights is saved from."""
    torch.manual_seed(1)
    return timm.create_model("resnet18")


def small() -> ResNetUNet:
    """timm's smallest encoder with five feature maps and a narrow decoder: 0.4 million parameters."""
    return ResNetUNet("test_resnet", widths=(16, 16, 8, 8, 8))


def lightness(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, height, width) * 2 - 1


def one_line(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_colour_has_the_size_of_the_photograph(size):
    network = small().eval()
    ab = network(lightness(*size, count=2))
    assert ab.shape == (2, 2, *size) and ab.dtype == torch.float32
    assert ab.std() > 0


@torch.no_grad()
def test_colour_stays_in_its_range_whatever_the_weights():
    network = small().eval()
    network.head.weight *= 1e4
    ab = network(lightness(64, 64))
    # The head alone would be far outside.
    assert 0.99 < ab.abs().max() <= 1


def test_every_parameter_is_trained():
    network = small().train()
    # timm starts the last norm of each residual branch at 0, which holds back the gradient at first.
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
    network(lightness(65, 97, count=2)).square().mean().backward()
    untrained = [name for name, weights in network.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert untrained == []


@torch.no_grad()
def test_lightness_itself_reaches_the_last_block():
    network = small().eval()
    # Everything but the skip at full resolution is silenced.
    first = network.decoder[-1].convolutions[0].weight
    first[:, :-1] = 0
    L = torch.zeros(1, 1, 64, 64)
    L[0, 0, 20, 31] = 1
    changed = (network(L) - network(torch.zeros_like(L))).abs().amax(dim=(0, 1)) > 0
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    # Three 3x3 convolutions: no further than 3 pixels around.
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (17, 23, 28, 34)


@torch.no_grad()
def test_state_dict_round_trip_is_exact():
    network, other = small(), small()
    # One pass in train mode, so that the running statistics are not the first ones.
    network.train()(lightness(64, 64, count=2))
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    L = lightness(33, 47)
    assert not torch.equal(network.eval()(L), other.eval()(L))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(network(L), other(L))


@torch.no_grad()
def test_deepcopy_gives_an_equal_and_separate_network():
    network = small().eval()
    L = lightness(33, 47)
    before = network(L)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(L), before)
    for weights in twin.parameters():
        weights.zero_()
    assert torch.equal(network(L), before)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18"])
@torch.no_grad()
def test_no_module_has_hooks(backbone):
    network = ResNetUNet(backbone).eval()
    network(lightness(32, 32))
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert [type(module) for module in network.modules() if any(getattr(module, kind) for kind in kinds)] == []


@torch.no_grad()
def test_autocast_gives_nearly_the_same_colour():
    network = small().eval()
    L = lightness(64, 80)
    plain = network(L)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(L)
    assert half.dtype == torch.bfloat16
    assert (half.float() - plain).abs().max() < 0.03
    assert plain.std() > 0.01


@torch.no_grad()
def test_exported_graph_takes_any_size():
    network = ResNetUNet("resnet18").eval()
    # From 33: at 32 the deepest map is one pixel, and torch.export never generalises over a size of one.
    height, width = torch.export.Dim("height", min=33), torch.export.Dim("width", min=33)
    exported = torch.export.export(network, (lightness(64, 96),), dynamic_shapes={"L": {2: height, 3: width}}).module()
    for size in ((33, 47), (97, 131), (64, 200)):
        L = lightness(*size)
        torch.testing.assert_close(exported(L), network(L), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
@torch.no_grad()
def test_recommended_backbones_build_and_run(backbone):
    assert ResNetUNet(backbone).eval()(lightness(64, 64)).shape == (1, 2, 64, 64)


def test_resnet18_has_the_promised_parameters():
    assert sum(weights.numel() for weights in ResNetUNet("resnet18").parameters()) == 12_455_026


def test_an_unknown_backbone_is_refused_with_near_ones():
    with pytest.raises(UsageError) as error:
        ResNetUNet("resnet1")
    near = re.fullmatch(r"--backbone resnet1 is no timm model; did you mean (.+)\?", one_line(error))[1].split(", ")
    assert near and all(timm.is_model(name) for name in near)


def test_a_backbone_like_no_other_is_refused_with_where_to_look():
    with pytest.raises(UsageError, match=r"--backbone qqqq is no timm model.*timm\.list_models"):
        ResNetUNet("qqqq")


@pytest.mark.parametrize("backbone", ["convnext_atto", "test_vit"])
def test_a_backbone_without_five_feature_maps_is_refused(backbone):
    with pytest.raises(UsageError, match=f"--backbone {backbone}.*five feature maps"):
        ResNetUNet(backbone)


def test_an_unknown_pretrained_tag_is_refused():
    with pytest.raises(UsageError, match="nosuchtag"):
        ResNetUNet("resnet18.nosuchtag")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_weights_from_a_file_are_loaded_with_colour_summed_to_grey(tmp_path, resnet18, ending):
    file = tmp_path / f"resnet18.{ending}"
    if ending == "pth":
        torch.save(resnet18.state_dict(), file)
    else:
        save_file(resnet18.state_dict(), file)
    encoder = ResNetUNet("resnet18", str(file)).encoder
    summed = resnet18.conv1.weight.sum(dim=1, keepdim=True)
    assert summed.shape == (64, 1, 7, 7)
    torch.testing.assert_close(encoder.conv1.weight, summed, rtol=0, atol=1e-7)
    loaded, saved = encoder.state_dict(), resnet18.state_dict()
    assert saved.keys() - loaded.keys() == {"fc.weight", "fc.bias"}
    assert [name for name in loaded if name != "conv1.weight" and not torch.equal(loaded[name], saved[name])] == []


def test_weights_of_a_grey_encoder_are_loaded_as_they_are(tmp_path):
    grey = timm.create_model("resnet18", in_chans=1)
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    encoder = ResNetUNet("resnet18", str(tmp_path / "grey.pth")).encoder
    assert torch.equal(encoder.conv1.weight, grey.conv1.weight)


def write_nothing(file: Path) -> None:
    """The file is missing."""


@pytest.mark.parametrize(
    "write",
    [
        write_nothing,
        lambda file: file.mkdir(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no weights at all" * 9),
        lambda file: torch.save(torch.zeros(3), file),
        lambda file: torch.save(nn.Conv2d(1, 1, 1), file),
        lambda file: torch.save({"some.other.weight": torch.zeros(3)}, file),
        lambda file: torch.save(timm.create_model("resnet10t").state_dict(), file),
        lambda file: torch.save(timm.create_model("test_resnet").state_dict(), file),
    ],
    ids=["missing", "folder", "empty", "garbage", "tensor", "pickle", "other keys", "smaller network", "other network"],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path, write):
    file = tmp_path / "weights.pth"
    write(file)
    with pytest.raises(UsageError) as error:
        ResNetUNet("resnet18", str(file))
    assert re.search(r"--weights \S*weights\.pth", one_line(error))


def test_weights_of_a_shallower_network_of_the_same_shapes_are_refused(tmp_path, resnet18):
    # Every key of a resnet18 is one of a resnet34: the blocks it lacks would stay random without a word.
    torch.save(resnet18.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UsageError, match="resnet34"):
        ResNetUNet("resnet34", str(tmp_path / "resnet18.pth"))


def test_imagenet_weights_out_of_reach_are_refused_quickly_in_one_line(tmp_path, monkeypatch):
    # An empty cache, should somebody have the weights.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    with pytest.raises(UsageError, match="imagenet") as error:
        ResNetUNet("resnet18", "imagenet")
    assert "resnet18" in one_line(error)
    assert time.monotonic() - started < 5


def test_an_unknown_architecture_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"--architecture pix2pix: .*resnet_unet"):
        generators.build("pix2pix")


def test_build_passes_the_options_on():
    network = generators.build("resnet_unet", backbone="test_resnet", widths=(8, 8, 8, 8, 4))
    assert isinstance(network, ResNetUNet)
    assert network.head.in_channels == 4
    assert (
        network.encoder.feature_info.channels()
        == timm.create_model("test_resnet", features_only=True).feature_info.channels()
    )


def test_options_an_architecture_does_not_take_are_refused():
    with pytest.raises(UsageError, match="depth"):
        generators.build("resnet_unet", depth=5)
