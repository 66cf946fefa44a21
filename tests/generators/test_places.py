"""Generators that come with gan_color are found by name, from a checkout and from an installed wheel."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from conftest import PROJECT, draw_photo, same_weights
from huggingface_hub import ModelCard
from PIL import Image

from gan_color import checkpoint, load_generator
from gan_color.__main__ import main
from gan_color.errors import CheckpointError
from gan_color.generators import ARCHITECTURES
from gan_color.generators.places import SHIPPED, generator_folder, shipped


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_small_checked_and_colours(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = shipped()[name] / "model.safetensors"
    assert weights.stat().st_size < 40 * 2**20
    with safetensors.safe_open(weights, "pt") as file:
        kept = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118 (no dictionary)
    assert torch.float16 in kept
    generator = load_generator(name)
    assert {tensor.dtype for tensor in generator.parameters()} == {torch.float32}
    ab = generator(torch.linspace(-1, 1, 64 * 96).reshape(1, 1, 64, 96))
    assert ab.shape == (1, 2, 64, 96) and ab.std() > 0.01

    shutil.copytree(shipped()[name], tmp_path / "copy")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    (tmp_path / "copy" / weights.name).write_bytes(data)
    with pytest.raises(CheckpointError, match="not the bytes that were saved"):
        load_generator(tmp_path / "copy")


@pytest.mark.parametrize("name", SHIPPED)
def test_its_card_says_what_whoever_takes_it_must_know(name):
    card = ModelCard.load(shipped()[name] / "README.md")
    assert card.data.library_name == "gan_color" and card.data.license
    titles = re.findall(r"^## (.+)$", card.text, re.M)
    assert titles == ["Use", "Data", "How it was trained", "Figures", "What it gets wrong", "Licence"]
    assert "research use" in card.text and f'load_generator("{name}")' in card.text
    assert "{" not in card.text  # every figure was filled in
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", card.text):
        assert (PROJECT / "checkpoints" / name / target).exists(), target


def test_a_name_is_taken_wherever_a_generator_is(train, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_photo(0).convert("L").save("grey.png")
    main(["colorize", "grey.png", "--output", "default.png", "--device", "cpu"])
    main(["colorize", "grey.png", "--checkpoint", "general", "--output", "named.png", "--device", "cpu"])
    assert Path("default.png").read_bytes() == Path("named.png").read_bytes()
    assert Image.open("named.png").convert("HSV").getextrema()[1][1] > 10  # saturation
    main(["info", "flowers"])
    described = load_generator("flowers").description
    assert f"architecture  {described['architecture']} (" in capsys.readouterr().out
    assert same_weights(ARCHITECTURES[described["architecture"]].from_pretrained("flowers"), load_generator("flowers"))
    run = train("gan", tmp_path / "gan", "--generator", "general", "--max-steps", "1")
    saved = checkpoint.load_generator(run).description
    assert saved["architecture"] == load_generator("general").description["architecture"]


def test_a_generator_of_ones_own_comes_first(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("flowers").mkdir()  # photographs, say
    assert generator_folder("flowers") == shipped()["flowers"]
    shutil.copytree(pretrained, "general")
    assert generator_folder("general") == Path("general/generator")
    assert same_weights(load_generator("general"), load_generator(pretrained))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("genral", r"there is no generator in genral: did you mean general\? Else .*\(general, flowers\)"),
        ("mine", r"there is no generator in mine: give a run folder.*\(general, flowers\)"),
    ],
)
def test_a_wrong_name_says_which_there_are(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        load_generator(given)


def test_the_project_and_its_wheel_have_the_same_names():
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "setup.cfg")
    assert parser["options.package_data"]["gan_color.checkpoints"].split() == [f"{name}/*" for name in SHIPPED]
    kept = re.findall(r"^!/checkpoints/(\w+)/$", (PROJECT / ".gitignore").read_text(), re.M)
    assert kept == list(SHIPPED)


def test_an_installed_wheel_has_them_and_no_run(tmp_path):
    """Through the source distribution, as `pip install` of an archive goes; the dependencies are those of the tests."""
    source = tmp_path / "source"
    for name in ("gan_color", *(f"checkpoints/{name}" for name in SHIPPED)):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    (source / "checkpoints" / "mine" / "generator").mkdir(parents=True)
    (source / "checkpoints" / "mine" / "generator" / "config.json").write_text("{}")
    build = "from setuptools import build_meta; build_meta.build_sdist('../built')"
    (tmp_path / "built").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (archive,) = (tmp_path / "built").iterdir()
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", *offline, "--target", site, archive]
    subprocess.run(install, check=True, capture_output=True)
    assert sorted(path.name for path in (site / "gan_color" / "checkpoints").iterdir()) == sorted(SHIPPED)
    modules = [path.relative_to(PROJECT) for path in (PROJECT / "gan_color").rglob("*.py")]
    assert all((site / module).is_file() for module in modules)

    load = "import gan_color; print(gan_color.__file__); print(gan_color.load_generator('general').trained_size)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    (tmp_path / "elsewhere").mkdir()
    loaded = subprocess.run(
        [sys.executable, "-c", load], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == [
        str(site / "gan_color" / "__init__.py"),
        str(load_generator("general").trained_size),
    ]
