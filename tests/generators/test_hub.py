"""save_pretrained, from_pretrained and the Hub's ids, beside a run's own way of saving."""

import copy
import json
import time

import pytest
import timm
import torch
from conftest import same_weights

from gan_color import checkpoint, generators, load_generator
from gan_color.errors import CheckpointError, GanColorError
from gan_color.generators.hub import Generator
from gan_color.generators.resnet_unet import ResNetUNet


@pytest.fixture
def generator():
    torch.manual_seed(0)
    built = generators.build("resnet_unet", backbone="test_resnet", weights="none", widths=(16, 16, 8, 8, 8))
    # One pass in train mode, so that the running statistics are not the first ones.
    built.train()(torch.rand(2, 1, 64, 64))
    return built.eval()


@pytest.mark.parametrize("load", [ResNetUNet.from_pretrained, load_generator])
def test_what_save_pretrained_wrote_comes_back(generator, tmp_path, load):
    generator.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert same_weights(loaded, generator) and not loaded.training
    L = torch.rand(1, 1, 40, 57)
    assert torch.equal(loaded(L), generator(L))


def test_both_ways_of_saving_write_the_same_bytes(generator, tmp_path):
    options = {"backbone": "test_resnet", "widths": [16, 16, 8, 8, 8]}
    info = {"stage": "pretrain", "step": 3, "size": 96}
    checkpoint.save_generator(tmp_path / "run", generator, "resnet_unet", options, info)
    loaded = ResNetUNet.from_pretrained(tmp_path / "run")
    assert loaded.trained_size == 96
    loaded.save_pretrained(tmp_path / "shared")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_what_an_encoder_started_from_is_not_asked_for_again(tmp_path):
    weights = tmp_path / "test_resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), weights)
    generators.build("resnet_unet", backbone="test_resnet", weights=str(weights)).save_pretrained(tmp_path / "shared")
    weights.unlink()
    options = json.loads((tmp_path / "shared" / "config.json").read_text())["options"]
    assert options == {"backbone": "test_resnet", "widths": [128, 64, 32, 16, 16]}
    load_generator(tmp_path / "shared")


def test_pushing_sends_the_files_that_saving_writes(generator, tmp_path, monkeypatch):
    """Up to the hub's own client: what it is given to upload."""
    from huggingface_hub import hub_mixin

    sent = {}

    class Client:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id, folder_path, **_):
            sent.update({path.name: path.read_bytes() for path in folder_path.iterdir()}, repo_id=repo_id)

    monkeypatch.setattr(hub_mixin, "HfApi", Client)
    generator.push_to_hub("user/name")
    generator.save_pretrained(tmp_path)
    assert sent.pop("repo_id") == "user/name"
    assert sent == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "README.md"} == sent.keys()


def test_a_copy_can_be_saved_as_well(generator, tmp_path):
    copy.deepcopy(generator).save_pretrained(tmp_path)
    assert same_weights(load_generator(tmp_path), generator)


def test_an_id_of_the_hub_offline_is_one_line_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    for load in (load_generator, ResNetUNet.from_pretrained):
        with pytest.raises(CheckpointError, match=r"no generator in user/name, nor .* Hub .*connect to") as error:
            load("user/name")
        assert "\n" not in str(error.value)
    assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


def test_an_id_of_the_hub_is_downloaded(generator, tmp_path, monkeypatch):
    """Up to the hub's own client, which answers with a folder."""
    generator.save_pretrained(tmp_path / "snapshot")
    asked = []
    monkeypatch.setattr(
        "gan_color.generators.places.snapshot_download",
        lambda repo_id, **options: asked.append((repo_id, options["allow_patterns"])) or str(tmp_path / "snapshot"),
    )
    assert same_weights(load_generator("some-user/some.name"), generator)
    assert asked == [("some-user/some.name", ["config.json", "model.safetensors", "README.md"])]


@pytest.mark.parametrize("given", ["runs/nothing", "nowhere", "a/b/c", "./user/name", "../user"])
def test_a_local_path_is_not_asked_of_the_hub(tmp_path, monkeypatch, given):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gan_color.generators.places.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(CheckpointError, match=r"there is no generator in .*give a run folder"):
        load_generator(given)


def test_a_generator_of_another_class_is_refused(generator, tmp_path):
    class Other(Generator):
        pass

    generator.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is not of a Other"):
        Other.from_pretrained(tmp_path)


def test_options_are_not_given_anew(generator, tmp_path):
    generator.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="backbone"):
        ResNetUNet.from_pretrained(tmp_path, backbone="resnet18")


def test_a_generator_without_a_name_is_not_saved(tmp_path):
    with pytest.raises(GanColorError, match=r"generators\.build"):
        ResNetUNet("test_resnet").save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
