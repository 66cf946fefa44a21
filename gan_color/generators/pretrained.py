"""Which weights an encoder starts from, decided before the network is built."""

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

# How long `auto` waits for the hub to answer, seconds.
_PATIENCE = 3.0
_WEIGHTS_FILE = "model.safetensors"


def choose_weights(backbone: str, weights: str) -> str:
    """Turn `auto` into what can be had.

    Args:
        backbone: a timm model name.
        weights: "auto", "imagenet", "none" or a file.

    Returns:
        weights, or for "auto": "imagenet" when timm's weights are cached or the hub answers, else "none".
    """
    if weights != "auto":
        return weights
    pretrained = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    if pretrained is None or not pretrained.hf_hub_id:
        return "none"
    if isinstance(try_to_load_from_cache(pretrained.hf_hub_id, _WEIGHTS_FILE), str):
        return "imagenet"
    try:
        get_hf_file_metadata(hf_hub_url(pretrained.hf_hub_id, _WEIGHTS_FILE), timeout=_PATIENCE)
    except Exception:  # offline, blocked, slow, or no such file: all mean "not at hand"
        return "none"
    return "imagenet"
