"""The U-Net on SqueezeNet: its features are torchvision's, and its weights come from where they are said to."""

import socket

import pytest
import torch
from torch import nn
from torchvision.models import SqueezeNet, squeezenet1_0

from gan_color import generators
from gan_color.errors import UsageError
from gan_color.generators import pretrained

FILE = "squeezenet1_0_imagenet_deepcompression.pth"


@pytest.fixture(scope="module")
def squeezenet() -> SqueezeNet:
    torch.manual_seed(1)
    return squeezenet1_0()


@pytest.mark.parametrize("size", [(97, 131), (64, 90), (128, 128)])
@torch.no_grad()
def test_features_are_torchvisions_of_a_grey_photograph(squeezenet, tmp_path, size):
    torch.save(squeezenet.state_dict(), tmp_path / "weights.pth")
    network = generators.build("squeezenet_unet", weights=str(tmp_path / "weights.pth")).eval()
    L = torch.rand(2, 1, *size) * 2 - 1
    x = pretrained.normalise(L)
    for layers in network.encoder:
        x = layers(x)
    reference = squeezenet1_0().eval()
    reference.load_state_dict(squeezenet.state_dict())
    reference.features[0].padding = (3, 3)
    torch.testing.assert_close(
        x, reference.features(pretrained.normalise(L).expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )


def test_the_description_names_no_weights(squeezenet, tmp_path):
    torch.save(squeezenet.state_dict(), tmp_path / "weights.pth")
    network = generators.build("squeezenet_unet", weights=str(tmp_path / "weights.pth"))
    assert network.description["options"] == {"widths": [192, 128, 64, 32, 16]}


def test_the_weights_of_imagenet_that_are_shared_fit(shared):
    network = generators.build("squeezenet_unet", weights=str(shared / "weights" / FILE))
    given = torch.load(shared / "weights" / FILE, weights_only=True)
    assert torch.equal(network.encoder[1][1].squeeze.weight, given["features.3.squeeze.weight"])


def test_files_of_other_networks_are_refused(tmp_path):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"other.pth is not for squeezenet1_0: 52 of its 52 weights") as error:
        generators.build("squeezenet_unet", weights=str(tmp_path / "other.pth"))
    assert "\n" not in str(error.value)


@pytest.fixture
def no_server(monkeypatch, tmp_path):
    """Nothing was downloaded, and the weights' server refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    class Weights:
        url = f"http://127.0.0.1:{port}/squeezenet1_0.pth"

    monkeypatch.setattr(pretrained, "_SQUEEZENET_WEIGHTS", Weights)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def test_auto_is_none_and_imagenet_refused_out_of_reach(no_server):
    assert pretrained.choose_weights("squeezenet1_0", "auto") == "none"
    with pytest.raises(UsageError, match=r"--weights imagenet cannot be had for squeezenet1_0 .*--weights none"):
        pretrained.choose_weights("squeezenet1_0", "imagenet")


def test_auto_takes_what_was_downloaded(no_server):
    (no_server / "checkpoints").mkdir()
    (no_server / "checkpoints" / "squeezenet1_0.pth").touch()
    assert pretrained.choose_weights("squeezenet1_0", "auto") == "imagenet"


def test_the_encoder_learns_at_a_rate_of_its_own():
    from gan_color.pretrain import Pretrain

    torch.manual_seed(0)
    network = generators.build("squeezenet_unet")
    before = {name: weights.detach().clone() for name, weights in network.named_parameters()}
    stage = Pretrain(network, torch.device("cpu"), torch.float32, lr=1e-3, lr_encoder=1e-5)
    stage.step(torch.rand(2, 1, 64, 64) * 2 - 1, torch.rand(2, 2, 64, 64) - 0.5)
    moved = {name: (weights.detach() - before[name]).abs().max().item() for name, weights in network.named_parameters()}
    # Adam's first step is the learning rate, whatever the gradient.
    encoder = [step for name, step in moved.items() if name.startswith("encoder.")]
    others = [step for name, step in moved.items() if not name.startswith("encoder.")]
    assert max(encoder) == pytest.approx(1e-5, rel=0.05) and max(others) == pytest.approx(1e-3, rel=0.05)
    assert len(encoder) == len(list(network.encoder.parameters())) and isinstance(network.encoder, nn.ModuleList)
