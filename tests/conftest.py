"""What several tests share: drawn photographs, the shared real ones, no way to the hub."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch
from PIL import Image

# Before anything imports huggingface_hub: no test downloads weights.
os.environ["HF_HUB_OFFLINE"] = "1"
# Small tensors gain nothing from a second thread, and tests of several processes lose by it.
torch.set_num_threads(1)
# What is kept between runs is kept from test to test, and away from the user's.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="gan_color_cache_")

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GAN_COLOR_SHARED", PROJECT.parent / "shared"))


def pytest_addoption(parser):
    """How far tests/reliability goes: small in every run of the tests, in full before a release."""
    group = parser.getgroup("reliability")
    group.addoption("--full", action="store_true", help="tests/reliability at full size (an hour, and the soak)")
    group.addoption("--fault-seed", type=int, default=0, help="seed of the faults in tests/reliability")
    group.addoption("--soak-minutes", type=float, help="length of the soak; default 120 with --full, else 0.2")


def pytest_unconfigure():
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def full(request) -> bool:
    """Whether tests/reliability runs at full size."""
    return request.config.getoption("--full")


@pytest.fixture
def chance(request) -> np.random.Generator:
    """Random numbers of a test, from its name and --fault-seed; a failing test shows the seed."""
    seed = request.config.getoption("--fault-seed")
    print(f"--fault-seed {seed}")
    return np.random.default_rng([seed, *request.node.name.encode()])


@pytest.fixture
def figure(record_property):
    """Record a row of docs/reliability.md and what was reached: `figure("A", "200 of 200 kills ...")`."""

    def record(row: str, reached: str) -> None:
        record_property("row", row)
        record_property("figure", reached)
        print(f"{row}: {reached}")

    return record


def draw_photo(seed: int, width: int = 80, height: int = 64) -> Image.Image:
    """A colourful picture with soft and hard edges, different for each seed."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
    block = Image.new("RGB", (width // 4, height // 4), tuple(int(v) for v in chance.integers(0, 256, 3)))
    picture.paste(block, (int(chance.integers(0, width // 2)), int(chance.integers(0, height // 2))))
    return picture


def same_weights(one, other) -> bool:
    """Whether two networks have equal weights by equal names."""
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def levels_of_lightness_off(coloured: Image.Image, photo: Image.Image) -> float:
    """Largest difference of L*, in steps of the grey level that the photograph's own lightness is nearest to."""
    greys = skimage.color.rgb2lab(np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2))[:, 0, 0]
    own, new = (skimage.color.rgb2lab(np.asarray(picture.convert("RGB")))[..., 0] for picture in (photo, coloured))
    level = np.interp(own, greys, np.arange(256)), np.interp(new, greys, np.arange(256))
    return np.abs(level[0] - level[1]).max()


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """A folder of 12 colour photographs, 80x64 pixels, as PNG."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(12):
        draw_photo(seed).save(folder / f"photo{seed:02d}.png")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared real photographs; a test that needs them is skipped where they are not."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"the shared photographs are not in {SHARED}: set GAN_COLOR_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def diverged(tmp_path_factory) -> Path:
    """The folder of a generator whose weights are finite, and whose colours are no numbers."""
    from gan_color import checkpoint, generators

    generator = generators.build("resnet_unet", backbone="test_resnet", weights="none", widths=(16, 16, 8, 8, 8))
    *_, last, _head = (module for module in generator.modules() if isinstance(module, torch.nn.Conv2d))
    last.weight.data.fill_(3e38)  # infinite sums, of which the head adds some and takes others away
    folder = tmp_path_factory.mktemp("diverged")
    checkpoint.save_generator(folder, generator, "resnet_unet", generator.description["options"], {"size": 64})
    return folder


@pytest.fixture
def unlisted_folder(tmp_path, monkeypatch) -> Path:
    """A folder deep inside tmp_path that no user can list, its path being too long; `top.png` lies in tmp_path."""
    draw_photo(1).save(tmp_path / "top.png")
    monkeypatch.chdir(tmp_path)
    here = tmp_path
    while len(os.fsencode(here)) < os.pathconf("/", "PC_PATH_MAX"):
        here = here / ("deep" * 50)
        os.mkdir(here.name)  # noqa: PTH102 (a path of this length is reached from where one stands)
        os.chdir(here.name)
    os.chdir(tmp_path)
    return here


@pytest.fixture
def tree(tmp_path, photo_folder) -> Path:
    """Photographs at two depths."""
    tree = tmp_path / "in"
    (tree / "deep" / "er").mkdir(parents=True)
    for i, name in enumerate(["top.jpg", "deep/one.png", "deep/er/two.webp"]):
        draw_photo(i).save(tree / name)
    return tree


# Options that make a run last a second: the smallest ResNet of timm, little pictures, no processes.
TINY = [
    *("--size", "32", "--batch-size", "4", "--backbone", "test_resnet", "--weights", "none", "--workers", "0"),
    *("--device", "cpu", "--precision", "fp32", "--log-every", "1", "--sample-count", "2"),
]


@pytest.fixture
def train(photo_folder):
    """Run a stage in this process as its script does: `train("pretrain", out, "--epochs", "2")`."""
    from gan_color.__main__ import main

    def run(stage: str, out: Path, *options: str) -> Path:
        main([stage, "--data", str(photo_folder), "--out", str(out), *TINY, *options], program=f"train_{stage}.py")
        return out

    return run


@pytest.fixture(scope="session")
def pretrained(photo_folder, tmp_path_factory) -> Path:
    """A run of stage one: two epochs on the drawn photographs."""
    from gan_color.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "pretrain"
    main(
        ["pretrain", "--data", str(photo_folder), "--out", str(out), *TINY, "--epochs", "2"],
        program="train_pretrain.py",
    )
    return out
