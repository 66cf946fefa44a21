"""Which weights an encoder starts from, decided before the network is built."""

import difflib
from pathlib import Path

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

from gan_color.errors import UsageError

# How long `auto` waits for the hub to answer, seconds.
_PATIENCE = 3.0
_WEIGHTS_FILE = "model.safetensors"


def choose_weights(backbone: str, weights: str) -> str:
    """Turn `auto` into what can be had, and refuse what cannot.

    Args:
        backbone: a timm model name.
        weights: "auto", "imagenet", "none" or a file.

    Returns:
        "none", "imagenet" or the file; for "auto" "imagenet" when timm's weights are cached or the hub answers
        within seconds, else "none".

    Raises:
        UsageError: timm has no such backbone, the weights cannot be had, or the file is not there or not for it.
    """
    require_backbone(backbone)
    if weights == "none":
        return weights
    if weights not in ("auto", "imagenet"):
        _require_fit(Path(weights), backbone)
        return weights
    reason = _out_of_reach(backbone)
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


def _require_fit(path: Path, backbone: str) -> None:
    """Refuse a weights file that would leave layers of the encoder as they are: timm itself only warns."""
    if not path.is_file():
        raise UsageError(f"--weights {path}: no such file; take auto, imagenet, none, or a state dict's file")
    try:
        given = timm.models.load_state_dict(str(path), weights_only=True)
        shapes = {name: tensor.shape for name, tensor in given.items()}
    except Exception as error:  # whatever a file that is no state dict makes a reader raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(f"--weights {path} is no state dict ({reason}): take another file") from error
    wanted = timm.create_model(backbone, num_classes=0).state_dict()
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
