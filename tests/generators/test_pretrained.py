"""Which weights `auto` comes to, without a hub to ask."""

import socket
import time

import pytest

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


@pytest.mark.parametrize("weights", ["none", "imagenet", "weights/resnet18.pth"])
def test_anything_but_auto_is_passed_through(weights):
    assert pretrained.choose_weights("resnet18", weights) == weights


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


@pytest.mark.parametrize("backbone", ["no_such_model", "test_convnext3"])
def test_auto_is_none_for_an_unknown_backbone(backbone, no_cache):
    assert pretrained.choose_weights(backbone, "auto") == "none"


def test_auto_refuses_an_unknown_pretrained_tag(no_cache):
    with pytest.raises(UsageError, match="nosuchtag"):
        pretrained.choose_weights("resnet18.nosuchtag", "auto")
