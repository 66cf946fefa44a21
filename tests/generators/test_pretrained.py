"""Which weights `auto` comes to, without a hub to ask."""

import socket
import time

import pytest
import timm
import torch

from gan_color.errors import UsageError
from gan_color.generators import pretrained


@pytest.fixture
def no_cache(monkeypatch):
    """As on a machine that has downloaded nothing yet."""
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_: None)


@pytest.fixture
def hub_at(monkeypatch, no_cache):
    """Sends the question to a port of this machine instead of the hub."""

    def redirect(port: int) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(pretrained, "hf_hub_url", lambda *_: f"http://127.0.0.1:{port}/model.safetensors")

    return redirect


def test_none_and_a_file_that_fits_are_passed_through(tmp_path):
    path = tmp_path / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    for weights in ("none", str(path)):
        assert pretrained.choose_weights("test_resnet", weights) == weights


def test_a_file_in_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "test_resnet.pth")
    assert pretrained.choose_weights("test_resnet", "~/test_resnet.pth") == str(tmp_path / "test_resnet.pth")


def test_imagenet_offline_is_refused_with_the_cure(no_cache):
    with pytest.raises(UsageError, match=r"--weights imagenet cannot be had for resnet18 .*--weights none"):
        pretrained.choose_weights("resnet18", "imagenet")


def test_auto_offline_is_none_at_once(no_cache):
    started = time.monotonic()
    assert pretrained.choose_weights("resnet18", "auto") == "none"
    assert time.monotonic() - started < 1


def test_auto_takes_cached_weights_without_asking_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(
        pretrained, "try_to_load_from_cache", lambda *where: asked.append(where) or "/cache/model.safetensors"
    )
    monkeypatch.setattr(pretrained, "get_hf_file_metadata", lambda *_, **__: pytest.fail("the hub was asked"))
    assert pretrained.choose_weights("resnet18", "auto") == "imagenet"
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]


def test_auto_takes_weights_that_the_hub_has(monkeypatch, no_cache):
    asked = []
    monkeypatch.setattr(pretrained, "get_hf_file_metadata", lambda url, timeout: asked.append(url))
    assert pretrained.choose_weights("resnet18", "auto") == "imagenet"
    assert [url.partition("/timm/")[2] for url in asked] == ["resnet18.a1_in1k/resolve/main/model.safetensors"]


def test_auto_is_none_when_the_hub_refuses(hub_at):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Closed again: connections are refused.
    hub_at(port)
    assert pretrained.choose_weights("resnet18", "auto") == "none"


def test_auto_waits_no_longer_than_its_patience_for_a_silent_hub(hub_at, monkeypatch):
    monkeypatch.setattr(pretrained, "_PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub_at(server.getsockname()[1])
        started = time.monotonic()
        assert pretrained.choose_weights("resnet18", "auto") == "none"
        assert 0.25 < time.monotonic() - started < 2


def test_auto_is_none_where_timm_has_no_weights():
    assert pretrained.choose_weights("test_convnext3", "auto") == "none"


def test_a_backbone_almost_right_is_refused_with_the_nearest(no_cache):
    for weights in ("auto", "none", "imagenet"):
        with pytest.raises(UsageError, match="did you mean resnet18"):
            pretrained.choose_weights("ResNett18", weights)


def test_auto_refuses_an_unknown_pretrained_tag(no_cache):
    with pytest.raises(UsageError, match="nosuchtag"):
        pretrained.choose_weights("resnet18.nosuchtag", "auto")
