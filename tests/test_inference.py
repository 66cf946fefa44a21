"""Photographs are coloured at their own size and keep their own lightness."""

import shutil

import numpy as np
import pytest
import skimage.color
import torch
from conftest import draw_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_color import colorize, load_generator
from gan_color.__main__ import main
from gan_color.data import photos


@pytest.fixture(scope="module")
def generator(pretrained):
    return load_generator(pretrained)


def lightness(image: Image.Image) -> np.ndarray:
    return skimage.color.rgb2lab(np.asarray(image.convert("RGB")))[..., 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (31, 33), (32, 32), (97, 131), (640, 431), (3000, 9)])
def test_the_size_is_the_photographs_own(generator, size):
    coloured = colorize(generator, draw_photo(0, 80, 64).resize(size))
    assert coloured.size == size and coloured.mode == "RGB"


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_lightness_is_the_photographs_own(generator, width, height, seed):
    photo = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    # One 8-bit level is at most 0.6 L* in the darks, where sRGB is steepest.
    assert np.abs(lightness(colorize(generator, photo)) - lightness(photo)).max() <= 0.6


def test_strips_join_without_a_seam(generator, monkeypatch):
    from gan_color import inference

    photo = draw_photo(3, 200, 600)
    whole = np.asarray(colorize(generator, photo))
    monkeypatch.setattr(inference, "_STRIP", 7)
    assert np.array_equal(whole, np.asarray(colorize(generator, photo)))


def test_colour_is_what_the_generator_says(generator):
    """The generator's ab, brought to full size, under the photograph's own L: written out again."""
    from gan_color import color

    photo = draw_photo(4, 64, 64)
    rgb = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
    L, _ = color.rgb_to_lab(rgb)
    with torch.no_grad():
        expected = color.lab_to_rgb(L, generator(L))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(colorize(generator, photo, size=64)), expected)


def test_grey_and_coloured_versions_of_a_photograph_become_the_same(generator):
    photo = draw_photo(5, 90, 60)
    L = lightness(photo)
    grey = np.zeros((60, 90, 3))
    grey[..., 0] = L
    grey_photo = Image.fromarray(np.uint8(skimage.color.lab2rgb(grey) * 255 + 0.5))
    one, other = (np.asarray(colorize(generator, each)).astype(int) for each in (photo, grey_photo))
    assert np.abs(one - other).mean() < 2


def test_a_file_and_its_image_become_the_same(generator, tmp_path):
    photo = draw_photo(6)
    photo.save(tmp_path / "photo.png")
    assert np.array_equal(
        np.asarray(colorize(generator, tmp_path / "photo.png")), np.asarray(colorize(generator, photo))
    )


def run(*argv) -> int:
    try:
        main(["colorize", *map(str, argv)])
    except SystemExit as end:
        return end.code
    return 0


def test_one_photograph_to_one_file(pretrained, tmp_path):
    draw_photo(1, 50, 40).save(tmp_path / "grey.jpg")
    assert run(tmp_path / "grey.jpg", "--checkpoint", pretrained, "--output", tmp_path / "out" / "coloured.png") == 0
    assert photos.read_rgb(tmp_path / "out" / "coloured.png").size == (50, 40)


def test_a_folder_keeps_its_tree(pretrained, photo_folder, tmp_path):
    tree = tmp_path / "in"
    shutil.copytree(photo_folder, tree / "deep" / "er")
    draw_photo(1).save(tree / "top.jpg")
    assert run(tree, "--checkpoint", pretrained, "--output", tmp_path / "out") == 0
    written = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")}
    assert written == {path.relative_to(tree) for path in tree.rglob("*.*")}


def test_the_embedded_photographs_have_a_name(pretrained, tmp_path):
    assert run("samples", "--checkpoint", pretrained, "--output", tmp_path) == 0
    assert len(list(tmp_path.glob("*.png"))) == 7


def test_a_bad_file_does_not_stop_the_others(pretrained, photo_folder, tmp_path, capsys):
    tree = tmp_path / "in"
    shutil.copytree(photo_folder, tree)
    (tree / "broken.jpg").write_text("this is no photograph")
    assert run(tree, "--checkpoint", pretrained, "--output", tmp_path / "out") == 3
    said = capsys.readouterr()
    assert "broken.jpg" in said.err and said.err.count("\n") == 1
    assert "coloured 12 of 13" in said.out
    assert len(list((tmp_path / "out").iterdir())) == 12


def test_nothing_is_written_over(pretrained, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    draw_photo(1).save(photo)
    before = photo.read_bytes()
    assert run(photo, "--checkpoint", pretrained, "--output", photo) == 2
    assert run(tmp_path, "--checkpoint", pretrained, "--output", tmp_path, "--overwrite") == 2
    assert run(photo, "--checkpoint", pretrained, "--output", tmp_path / "out") == 0
    written = (tmp_path / "out" / "photo.png").read_bytes()
    assert run(photo, "--checkpoint", pretrained, "--output", tmp_path / "out") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(photo, "--checkpoint", pretrained, "--output", tmp_path / "out", "--overwrite") == 0
    assert (tmp_path / "out" / "photo.png").read_bytes() == written and photo.read_bytes() == before


def test_two_photographs_for_one_output_are_refused_before_any_work(pretrained, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        draw_photo(1).save(tmp_path / name / "photo.png")
    assert run(tmp_path / "a", tmp_path / "b", "--checkpoint", pretrained, "--output", tmp_path / "out") == 2
    assert "would both become" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["photo.jpg", "--checkpoint", "nowhere", "--output", "out"], 1, "there is no generator in nowhere"),
        (["--checkpoint", "c", "--output", "out"], 2, "nothing to colour"),
        (["photo.jpg", "--checkpoint", "c", "--output", "out", "--size", "4"], 2, "between 32 and 4096"),
        (["photo.xyz", "--checkpoint", "c", "--output", "out"], 2, "end it in"),
    ],
)
def test_mistakes_are_one_line(argv, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
