"""Each architecture beside its model: fastai's network, the paper's description."""

import pytest
import timm
import torch
from skimage.color import rgb2lab
from torch import nn

from gan_color import color, generators
from gan_color.errors import UsageError


def lightness(height: int, width: int, count: int = 1) -> torch.Tensor:
    torch.manual_seed(height)
    return torch.rand(count, 1, height, width) * 2 - 1


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


# dynamic_unet


@pytest.fixture(scope="module", params=["test_resnet", "resnet18"])
def fastai_unet(request):
    """A timm backbone's name, and fastai's network on it with weights and statistics of its own."""
    from fastai.vision.learner import create_body
    from fastai.vision.models.unet import DynamicUnet

    torch.manual_seed(1)
    body = create_body(timm.create_model(request.param, in_chans=1), n_in=3, pretrained=False, cut=-2)
    unet = DynamicUnet(body, 2, (64, 64)).train()
    with torch.no_grad():
        unet(lightness(64, 64, count=2))
    return request.param, unet.eval()


@torch.no_grad()
def test_dynamic_unet_gives_fastais_colours_bit_for_bit(fastai_unet):
    backbone, unet = fastai_unet
    ours = generators.build("dynamic_unet", backbone=backbone).eval()
    assert list(ours.state_dict()) == list(unet.state_dict())
    ours.load_state_dict(unet.state_dict())
    for size in ((32, 32), (33, 47), (97, 131), (64, 200)):
        L = lightness(*size)
        theirs = unet(L).as_subclass(torch.Tensor)
        assert theirs.std() > 0.01
        assert torch.equal(ours(L), torch.tanh(theirs))
    ours.bound = "clamp"
    assert torch.equal(ours(L), theirs.clamp(-1, 1))


def test_dynamic_unet_starts_as_fastais_does(fastai_unet):
    """Spread of each layer's weights: what they are drawn from."""
    backbone, unet = fastai_unet
    torch.manual_seed(0)
    ours = generators.build("dynamic_unet", backbone=backbone).state_dict()
    for name, theirs in unet.state_dict().items():
        if "layers.0." not in name and theirs.ndim == 4 and theirs.numel() > 2000:
            assert ours[name].std().item() == pytest.approx(theirs.std().item(), rel=0.15), name
    shuffle = ours["layers.8.0.0.weight"]
    assert torch.equal(shuffle[0::4], shuffle[3::4]) and not torch.equal(shuffle[0::4], shuffle[4:].roll(4, 0)[0::4])


@pytest.mark.parametrize("prefix", ["", "net_G."])
def test_dynamic_unet_starts_from_the_tutorials_files(fastai_unet, tmp_path, prefix):
    backbone, unet = fastai_unet
    saved = {f"{prefix}{name}": tensor for name, tensor in unet.state_dict().items()}
    if prefix:
        saved["net_D.model.0.0.weight"] = torch.zeros(64, 3, 4, 4)
    torch.save(saved, tmp_path / "weights.pt")
    ours = generators.build("dynamic_unet", backbone=backbone, weights=str(tmp_path / "weights.pt"), bound="clamp")
    assert ours.description["options"] == {"backbone": backbone, "bound": "clamp"}
    L = lightness(64, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(L), unet(L).as_subclass(torch.Tensor).clamp(-1, 1))


def test_dynamic_unet_starts_from_an_encoders_file(tmp_path):
    encoder = timm.create_model("test_resnet")
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    ours = generators.build("dynamic_unet", backbone="test_resnet", weights=str(tmp_path / "encoder.pth"))
    assert torch.equal(ours.layers[0][5][0].conv1.weight, encoder.layer2[0].conv1.weight)


def test_another_networks_file_is_refused_in_one_line(fastai_unet, tmp_path):
    backbone, unet = fastai_unet
    other = {"test_resnet": "resnet18", "resnet18": "resnet34"}[backbone]
    torch.save(unet.state_dict(), tmp_path / "weights.pt")
    for architecture, named in (("dynamic_unet", other), ("resnet_unet", backbone)):
        with pytest.raises(UsageError, match=r"--weights \S+weights.pt is not for") as caught:
            generators.build(architecture, backbone=named, weights=str(tmp_path / "weights.pt"))
        assert "\n" not in str(caught.value)


# pix2pix_unet


class PaperUNet(nn.Module):
    """The network for 256 pixels as sec. 6.1.1 and its errata have it, written down with plain padding."""

    def __init__(self, width: int):
        super().__init__()
        down = [width * factor for factor in (1, 2, 4, 8, 8, 8, 8, 8)]
        self.encoders = nn.ModuleList(
            nn.Conv2d(channels, wider, 4, 2, 1, bias=False) for channels, wider in zip([1, *down], down, strict=False)
        )
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in down[1:-1])
        up = [8, 8, 8, 8, 4, 2, 1]
        before = [8, 16, 16, 16, 16, 8, 4]
        self.decoders = nn.ModuleList(
            nn.ConvTranspose2d(width * a, width * b, 4, 2, 1, bias=False) for a, b in zip(before, up, strict=True)
        )
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(width * b) for b in up)
        self.last = nn.ConvTranspose2d(width * 2, 2, 4, 2, 1)

    def forward(self, x):
        maps = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(nn.functional.leaky_relu(x, 0.2) if level else x)
            x = self.down_norms[level - 1](x) if 0 < level < 7 else x
            maps.append(x)
        for level, decoder in enumerate(self.decoders):
            x = torch.relu(x if level == 0 else torch.cat((x, maps[7 - level]), 1))
            x = self.up_norms[level](decoder(x))
        return torch.tanh(self.last(torch.relu(torch.cat((x, maps[0]), 1))))


@torch.no_grad()
def test_pix2pix_unet_is_the_papers_at_256():
    ours = generators.build("pix2pix_unet", width=4)
    theirs = PaperUNet(4)
    ours.train()(lightness(256, 256, count=2))
    # In the order of their kind; both are written down from the photograph to the colours.
    for kind in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d):
        pairs = ([module for module in network.modules() if isinstance(module, kind)] for network in (theirs, ours))
        for their_layer, our_layer in zip(*pairs, strict=True):
            their_layer.load_state_dict(our_layer.state_dict())
    L = lightness(256, 512)
    torch.testing.assert_close(ours.eval()(L), theirs.eval()(L), rtol=0, atol=1e-6)


@torch.no_grad()
def test_pix2pix_unets_noise_is_dropout_in_three_blocks_and_in_training_only():
    network = generators.build("pix2pix_unet", width=4)
    dropping = [number for number, block in enumerate(network.up) if isinstance(block[-1], nn.Dropout)]
    assert dropping == [1, 2, 3]
    L = lightness(64, 64, count=2)
    assert not torch.equal(network.train()(L), network(L))
    assert torch.equal(network.eval()(L), network(L))


# plain_cnn


def test_plain_cnn_is_twelve_convolutions_and_three_up_samplings_without_pooling():
    network = generators.build("plain_cnn")
    widths = [layer.out_channels for layer in convolutions(network)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 256, 128, 64, 32, 2]
    assert sum(layer.stride == (2, 2) for layer in convolutions(network)) == 3
    graph = torch.export.export(network, (lightness(64, 64),)).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert sum("upsample" in name for name in called) == 3
    assert sum("conv2d" in name for name in called) == 12 and not any("pool" in name for name in called)


# autoencoder


@torch.no_grad()
def test_the_rgb_autoencoder_gives_the_ab_of_its_photograph():
    network = generators.build("autoencoder", target="rgb").train()
    network.head.weight *= 30  # colours all over the cube
    L = lightness(48, 40)
    rgb, ab = network(L, as_rgb=True), network(L)
    assert rgb.shape == (1, 3, 48, 40) and rgb.min() >= 0 and rgb.max() <= 1 and rgb.std() > 0.2
    expected = rgb2lab(rgb[0].permute(1, 2, 0).double().numpy())[..., 1:]
    assert abs(110 * ab[0].permute(1, 2, 0).numpy() - expected).max() < 1e-3


@torch.no_grad()
def test_the_lab_autoencoder_has_no_way_around_its_bottleneck():
    network = generators.build("autoencoder").eval()
    L = lightness(64, 64)
    network.down[-1][0].weight.zero_()
    assert network(L)[..., 20:40, 20:40].var(dim=(2, 3)).max() < 1e-6
    assert color.mean_chroma(network(L)).isfinite().all()


# resnet_deconv


def test_resnet_deconv_keeps_the_first_six_layers_on_grey(tmp_path):
    whole = timm.create_model("resnet18")
    torch.save(whole.state_dict(), tmp_path / "resnet18.pth")
    network = generators.build("resnet_deconv", weights=str(tmp_path / "resnet18.pth")).eval()
    first_six = nn.Sequential(*list(whole.children())[:6]).eval()
    photo = lightness(64, 96).expand(-1, 3, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(photo[:, :1]), first_six(photo), rtol=1e-4, atol=1e-5)
    kinds = [type(layer) for layer in convolutions(network.decoder)]
    assert kinds == [nn.ConvTranspose2d] * 3
    assert network.encoder(lightness(224, 224)).shape[-2:] == (28, 28)
