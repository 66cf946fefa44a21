"""Encoders for grey photographs, and which weights they start from, decided before they are built."""

import difflib
import itertools
import os
import urllib.request
from pathlib import Path

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from torch import Tensor, nn
from torchvision.models import SqueezeNet1_0_Weights, squeezenet1_0

from gan_color.errors import UsageError

SQUEEZENET = "squeezenet1_0"
_SQUEEZENET_WEIGHTS = SqueezeNet1_0_Weights.IMAGENET1K_V1
# How long `auto` waits for a server to answer, seconds.
_PATIENCE = 3.0
_WEIGHTS_FILE = "model.safetensors"
# ImageNet's mean and standard deviation, averaged over RGB: what pretrained encoders expect of grey in 0..1.
_GREY_MEAN, _GREY_STD = 0.449, 0.226
# The layers of a ResNet that keep a photograph's shape, as timm names and orders them.
_RESNET_LAYERS = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")


def encoder(backbone: str, weights: str, **options) -> nn.Module:
    """Build a timm model for one grey channel.

    Args:
        backbone: a timm model name.
        weights: "none", "imagenet" (timm's, downloaded or cached), the path of a state dict for that timm model
            (RGB first layers are summed to grey), or "auto" (`choose_weights`).
        **options: for `timm.create_model`, such as `features_only=True`.

    Raises:
        UsageError: timm has no such model, or the weights cannot be had.
    """
    weights = choose_weights(backbone, weights)
    overlay = None if weights in ("none", "imagenet") else {"file": weights}
    start = {"pretrained": weights != "none", "pretrained_cfg_overlay": overlay}
    try:
        return timm.create_model(backbone, in_chans=1, **options, **start)
    except Exception as error:  # a download that breaks off, a file that vanishes
        if weights == "none":
            raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(f"--weights {weights} could not be loaded ({reason}): try again, or --weights none") from error


def resnet_layers(backbone: str, weights: str) -> tuple[nn.Sequential, list[int]]:
    """Build the layers of a timm ResNet before its pooling and classifier.

    Args:
        backbone: a ResNet of timm.
        weights: as for `encoder`.

    Returns:
        Its eight layers, and the channels after the third, fifth, sixth, seventh and eighth: at strides 2, 4, 8, 16
        and 32.

    Raises:
        UsageError: timm has no such model, it is no ResNet, or the weights cannot be had.
    """
    network = encoder(backbone, weights)
    layers = dict(network.named_children())
    if tuple(layers)[: len(_RESNET_LAYERS)] != _RESNET_LAYERS:
        raise UsageError(f"--backbone {backbone} is no ResNet of timm: take one, such as resnet18 or resnet34")
    channels = [feature["num_chs"] for feature in network.feature_info]
    return nn.Sequential(*(layers[name] for name in _RESNET_LAYERS)), channels


def squeezenet_features(weights: str) -> nn.Sequential:
    """Build the layers of torchvision's SqueezeNet 1.0 before its classifier, for one grey channel.

    Args:
        weights: "none", "imagenet" (torchvision's, downloaded or cached), the path of a state dict of `squeezenet1_0`,
            or "auto" (`choose_weights`).

    Raises:
        UsageError: the weights cannot be had.
    """
    weights = choose_weights(SQUEEZENET, weights)
    network = squeezenet1_0()
    try:
        if weights == "imagenet":
            network.load_state_dict(_SQUEEZENET_WEIGHTS.get_state_dict(progress=False, check_hash=True))
        elif weights != "none":
            network.load_state_dict(timm.models.load_state_dict(weights, weights_only=True))
    except Exception as error:  # a download that breaks off, a file that vanishes
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(f"--weights {weights} could not be loaded ({reason}): try again, or --weights none") from error
    rgb = network.features[0]
    # Grey is the same in R, G and B: one channel with the sum of their weights. Padded, so that no edge is lost.
    grey = nn.Conv2d(1, rgb.out_channels, kernel_size=7, stride=2, padding=3)
    grey.load_state_dict({"weight": rgb.weight.detach().sum(dim=1, keepdim=True), "bias": rgb.bias.detach()})
    network.features[0] = grey
    for name, layer in network.features.named_children():
        if isinstance(layer, nn.MaxPool2d):
            network.features[int(name)] = pooling()
    return network.features


def squeezenet_stages(features: nn.Sequential) -> nn.ModuleList:
    """Cut SqueezeNet 1.0's features before each pooling: four stages, of 96, 256, 512 and 512 channels."""
    return nn.ModuleList(features[start:end] for start, end in itertools.pairwise((0, 2, 6, 11, 13)))


def pooling() -> nn.Sequential:
    """SqueezeNet's pooling: 3x3, stride 2, sides rounded up.

    What it pools is never below 0, so that zeros beyond the edge are torch's `ceil_mode`, which cannot be exported for
    every size.
    """
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(kernel_size=3, stride=2))


def normalise(L: Tensor) -> Tensor:
    """Bring L in [-1, 1] to the mean and spread that ImageNet's weights were trained with."""
    return ((L + 1) / 2 - _GREY_MEAN) / _GREY_STD


def choose_weights(backbone: str, weights: str) -> str:
    """Turn `auto` into what can be had, and refuse what cannot.

    Args:
        backbone: a timm model name, or "squeezenet1_0".
        weights: "auto", "imagenet", "none" or a file, whose ~ is the user's home.

    Returns:
        "none", "imagenet" or the file; for "auto" "imagenet" when those weights are cached or their server
        answers within seconds, else "none".

    Raises:
        UsageError: timm has no such backbone, the weights cannot be had, or the file is not there or not for it.
    """
    if backbone != SQUEEZENET:
        require_backbone(backbone)
    if weights == "none":
        return weights
    if weights not in ("auto", "imagenet"):
        file = os.path.expanduser(weights)  # --weights=~/x: a shell leaves this ~
        _require_fit(Path(file), backbone)
        return file
    reason = _squeezenet_out_of_reach() if backbone == SQUEEZENET else _out_of_reach(backbone)
    if reason is None:
        return "imagenet"
    if weights == "imagenet":
        raise UsageError(
            f"--weights imagenet cannot be had for {backbone} ({reason}): connect to the internet once, or take "
            "--weights none"
        )
    return "none"


def require_backbone(backbone: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        UsageError: names the nearest ones.
    """
    try:
        known = timm.is_model(backbone) and timm.get_pretrained_cfg(backbone) is not None
    except RuntimeError:  # a known architecture with an unknown tag
        known = False
    if not known:
        near = difflib.get_close_matches(backbone.lower(), timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`timm.list_models()` lists them"
        raise UsageError(f"--backbone {backbone} is no timm model; {hint}")


def _out_of_reach(backbone: str) -> str | None:
    """Why timm's weights cannot be had now; None when they can."""
    hub_id = timm.get_pretrained_cfg(backbone).hf_hub_id
    if not hub_id:
        return "timm has none"
    if isinstance(try_to_load_from_cache(hub_id, _WEIGHTS_FILE), str):
        return None
    try:
        # One question with one limit: the hub's own downloader would try again for most of a minute.
        get_hf_file_metadata(hf_hub_url(hub_id, _WEIGHTS_FILE), timeout=_PATIENCE)
    except Exception as error:  # offline, blocked, slow, or no such file
        return (str(error).strip() or repr(error)).splitlines()[0]
    return None


def _squeezenet_out_of_reach() -> str | None:
    """Why torchvision's weights cannot be had now; None when they can."""
    url = _SQUEEZENET_WEIGHTS.url
    if (Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]).is_file():
        return None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE):
            return None
    except Exception as error:  # offline, blocked, slow, or a proxy that speaks no HTTP
        return (str(error).strip() or repr(error)).splitlines()[0]


def _require_fit(path: Path, backbone: str) -> None:
    """Refuse a weights file that would leave layers of the encoder as they are: timm itself only warns."""
    if not os.path.isfile(path):  # also where the name is too long for one, of which pathlib would raise
        raise UsageError(f"--weights {path}: no such file; take auto, imagenet, none, or a state dict's file")
    try:
        given = timm.models.load_state_dict(str(path), weights_only=True)
        shapes = {name: tensor.shape for name, tensor in given.items()}
    except Exception as error:  # whatever a file that is no state dict makes a reader raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(f"--weights {path} is no state dict ({reason}): take another file") from error
    network = squeezenet1_0() if backbone == SQUEEZENET else timm.create_model(backbone, num_classes=0)
    wanted = network.state_dict()
    missing = sorted(
        name
        for name, tensor in wanted.items()
        if not name.endswith("num_batches_tracked") and shapes.get(name) not in (tensor.shape, _grey(tensor.shape))
    )
    if missing:
        raise UsageError(
            f"--weights {path} is not for {backbone}: {len(missing)} of its {len(wanted)} weights are missing or of "
            f"another shape, such as {missing[0]}"
        )


def _grey(shape: torch.Size) -> torch.Size:
    """Shape of a first layer that was made for grey pictures: one channel where RGB has three."""
    return torch.Size((shape[0], 1, *shape[2:])) if len(shape) == 4 and shape[1] == 3 else shape
