"""The command that colours any number of photographs."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import skimage.color
from conftest import PROJECT, draw_photo
from PIL import ExifTags, Image

from gan_color import folder
from gan_color.__main__ import main
from gan_color.config import ColorizeConfig
from gan_color.data import photos
from gan_color.errors import UsageError


def run(*argv) -> int:
    try:
        main(["colorize", *map(str, argv)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def colour(pretrained, tmp_path):
    """Run the command on inputs: `colour(input, ..., "--option")` writes to tmp_path / "out"."""

    def colour(*argv, output=tmp_path / "out"):
        return run(*argv, "--checkpoint", pretrained, "--output", output, "--device", "cpu")

    return colour


@pytest.fixture
def tree(tmp_path, photo_folder) -> Path:
    """Photographs at two depths."""
    tree = tmp_path / "in"
    (tree / "deep" / "er").mkdir(parents=True)
    for i, name in enumerate(["top.jpg", "deep/one.png", "deep/er/two.webp"]):
        draw_photo(i).save(tree / name)
    return tree


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def targets(*inputs, output="out", **options) -> list[str]:
    config = ColorizeConfig(inputs=tuple(map(str, inputs)), checkpoint=Path("c"), output=Path(output), **options)
    return [str(job.target) for job in folder.plan(config)[0]]


# What is an input, and where its output goes


def test_one_photograph_to_one_file(colour, tmp_path):
    draw_photo(1, 50, 40).save(tmp_path / "grey.jpg")
    assert colour(tmp_path / "grey.jpg", output=tmp_path / "new" / "coloured.png") == 0
    assert photos.read_rgb(tmp_path / "new" / "coloured.png").size == (50, 40)


def test_a_folder_keeps_its_tree(colour, tree, tmp_path):
    assert colour(tree) == 0
    assert files(tmp_path / "out") == {"top.jpg", "deep/one.png", "deep/er/two.webp"}


def test_the_embedded_photographs_have_a_name(tmp_path):
    assert len(targets("samples")) == 7


def test_patterns_are_matched(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert targets("deep/*.png") == ["out/one.png"]
    assert sorted(targets(f"{tree}/**/*.*")) == ["out/one.png", "out/top.jpg", "out/two.webp"]
    with pytest.raises(UsageError, match="matches no file"):
        targets("*.tif")


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    draw_photo(1).save(tmp_path / "a[1].png")
    assert targets(tmp_path / "a[1].png") == ["out/a[1].png"]


@pytest.mark.parametrize("end", [b"\n", b"\0", b"\r\n"])
def test_a_list_is_read_from_standard_input(monkeypatch, tmp_path, end):
    names = [b"a.jpg", b"with space.png", b"bytes \xff.png"]
    data = end.join(os.fsencode(tmp_path) + b"/" + name for name in names) + end
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [os.fsencode(Path(target).name) for target in targets("-")] == names


def test_a_photograph_given_twice_is_coloured_once(tree):
    assert targets(tree, tree, tree / "top.jpg") == targets(tree)


def test_formats_that_are_not_written_become_png(tmp_path):
    for name in ("a.gif", "a.png", "a.mpo"):
        draw_photo(1).save(tmp_path / name, format="PNG")
    assert targets(tmp_path) == ["out/a.gif.png", "out/a.mpo.png", "out/a.png"]


def test_photographs_of_one_name_and_several_formats_keep_apart(colour, tmp_path):
    (tmp_path / "in").mkdir()
    for i, name in enumerate(["a.jpg", "a.png", "A.png", "a.webp"]):
        draw_photo(i).save(tmp_path / "in" / name)
    assert colour(tmp_path / "in") == 0
    assert files(tmp_path / "out") == {"a.jpg", "a.png", "A.png", "a.webp"}


def test_photographs_of_one_name_and_several_folders_get_numbers(colour, tmp_path):
    for i, name in enumerate(("one", "two", "three")):
        (tmp_path / name).mkdir()
        draw_photo(i).save(tmp_path / name / "a.png")
    draw_photo(9).save(tmp_path / "three" / "a-2.png")
    assert colour(*(tmp_path / name for name in ("one", "two", "three"))) == 0
    assert files(tmp_path / "out") == {"a.png", "a-3.png", "a-2.png", "a-4.png"}
    assert len(set(contents(tmp_path / "out").values())) == 4


def test_pictures_beside_outputs_do_not_collide_with_outputs(tmp_path):
    for name in ("a.png", "a.png.compare.png"):
        draw_photo(1).save(tmp_path / name)
    names = targets(tmp_path, compare=True)
    written = [*names, *(f"{name}.compare.png" for name in names)]
    assert len(set(written)) == 4


def test_outputs_inside_the_input_folder_are_not_read_again(colour, tree):
    assert colour(tree, output=tree / "coloured") == 0
    first = contents(tree)
    assert colour(tree, output=tree / "coloured") == 0
    assert contents(tree) == first
    assert not (tree / "coloured" / "coloured").exists()


def test_no_input_is_ever_written_over(colour, tree, tmp_path, capsys):
    before = contents(tree)
    os.link(tree / "top.jpg", tmp_path / "linked.jpg")
    (tmp_path / "soft.jpg").symlink_to(tree / "top.jpg")
    assert colour(tree, "--overwrite", output=tree) == 2
    assert colour(tree / "top.jpg", "--overwrite", output=tree / "top.jpg") == 2
    assert colour(tree / "top.jpg", "--overwrite", output=tree) == 2
    for name in ("linked.jpg", "soft.jpg"):
        assert colour(tree / "top.jpg", "--overwrite", output=tmp_path / name) == 2
    assert colour(tree / "deep" / "er" / "two.webp", tree / "deep", "--overwrite", output=tree / "deep" / "er") == 2
    assert contents(tree) == before
    assert capsys.readouterr().err.count("is an input itself") == 6


# What exists, what fails


def test_outputs_that_exist_are_skipped_and_counted(colour, tree, tmp_path, capsys):
    assert colour(tree / "top.jpg") == 0
    (tmp_path / "out" / "top.jpg").write_bytes(b"mine")
    assert colour(tree) == 0
    said = capsys.readouterr().out
    assert "coloured 2 of 3" in said and "skipped 1" in said and "--overwrite" in said
    assert (tmp_path / "out" / "top.jpg").read_bytes() == b"mine"
    assert colour(tree, "--overwrite") == 0
    assert "coloured 3 of 3" in capsys.readouterr().out
    assert photos.read_rgb(tmp_path / "out" / "top.jpg").size == (80, 64)


def test_a_second_run_writes_the_same_bytes(colour, tree, tmp_path):
    assert colour(tree, "--compare", "--histogram") == 0
    first = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert colour(tree, "--compare", "--histogram") == 0
    assert contents(tmp_path / "out") == first


def test_a_bad_file_is_named_and_counted_and_the_others_finish(colour, tree, tmp_path, capsys):
    (tree / "broken.jpg").write_text("this is no photograph")
    (tree / "notes.txt").write_text("nor this")
    assert colour(tree, tree / "missing.png", "--report", tmp_path / "report.json") == 3
    said = capsys.readouterr()
    assert "broken.jpg: not a photograph" in said.err and "missing.png: No such file" in said.err
    assert "Traceback" not in said.err
    assert "2 of 5 photographs could not be coloured" in said.err.splitlines()[-1]
    assert "coloured 3 of 5" in said.out and "notes.txt" in said.out
    assert len(files(tmp_path / "out")) == 3
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["coloured"], report["skipped"], report["failed"]) == (3, 0, 2)
    assert report["left_out"] == [str(tree / "notes.txt")]
    results = Counter(photo["result"] for photo in report["photographs"])
    assert results == {"coloured": 3, "failed": 2}
    assert all(bool(photo["error"]) == (photo["result"] == "failed") for photo in report["photographs"])


def test_nothing_coloured_is_a_failure(colour, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_text("this is no photograph")
    assert colour(tmp_path / "broken.jpg") == 1
    assert not (tmp_path / "out").exists()
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_an_output_that_its_format_cannot_hold_is_named(colour, tmp_path, capsys):
    Image.new("RGB", (16_384, 2)).save(tmp_path / "long.png")
    assert colour(tmp_path / "long.png", output=tmp_path / "long.webp") == 1
    assert "long.webp: cannot be written as WEBP" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["new\nline.png", "emoji \N{CAMERA}.png", "bytes \udcff.png", "x" * 251 + ".png"])
def test_odd_names_work_and_are_said_in_one_line(colour, tmp_path, capsys, name):
    (tmp_path / "in").mkdir()
    try:
        draw_photo(1).save(tmp_path / "in" / name)
    except OSError:
        pytest.skip("this file system has no such names")
    assert colour(tmp_path / "in") == 0
    assert files(tmp_path / "out") == {name}
    assert "coloured 1 of 1" in capsys.readouterr().out


def test_a_name_too_long_for_its_picture_fails_alone(colour, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    draw_photo(1).save(tmp_path / "in" / ("x" * 251 + ".png"))
    draw_photo(1).save(tmp_path / "in" / "short.png")
    assert colour(tmp_path / "in", "--compare") == 3
    assert "File name too long" in capsys.readouterr().err
    assert {"short.png", "short.png.compare.png"} <= files(tmp_path / "out")


@pytest.mark.parametrize("output", ["file/out", "file"])
def test_an_output_that_cannot_be_written_is_refused_before_the_generator_is_loaded(tmp_path, tree, capsys, output):
    (tmp_path / "file").write_text("")
    assert run(tree, "--checkpoint", "nowhere", "--output", tmp_path / output) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that nobody can write to")
def test_a_read_only_output_is_refused_before_the_generator_is_loaded(tree, capsys):
    assert run(tree, "--checkpoint", "nowhere", "--output", "/proc/out") == 2
    assert "--output /proc/out cannot be written" in capsys.readouterr().err


def test_looking_whether_the_output_can_be_written_leaves_nothing(tree, tmp_path):
    assert run(tree, "--checkpoint", tmp_path / "nowhere", "--output", tmp_path / "out" / "deep") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["photo.jpg", "--checkpoint", "nowhere", "--output", "out"], 1, "there is no generator in nowhere"),
        (["--checkpoint", "c", "--output", "out"], 2, "nothing to colour"),
        (["photo.jpg", "--checkpoint", "c", "--output", "out", "--size", "4"], 2, "between 32 and 4096"),
        (["photo.jpg", "--checkpoint", "c", "--output", "out", "--saturation", "nan"], 2, "between 0 and 4"),
        (["photo.jpg", "--checkpoint", "c", "--output", "out.gif"], 2, "end it in"),
        (["empty", "--checkpoint", "c", "--output", "out"], 1, "holds no photographs"),
    ],
)
def test_mistakes_are_one_line(argv, code, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run(*argv) == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert files(tmp_path) == set()


# What is kept


def test_exif_and_transparency_are_kept_and_the_place_dropped_on_request(colour, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Grandmother"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    photo = draw_photo(1, 40, 30).convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").resize((40, 30)))
    photo.save(tmp_path / "photo.png", exif=exif.tobytes())
    for option, place in (([], {1: "N"}), (["--drop-gps", "--overwrite"], {})):
        assert colour(tmp_path / "photo.png", *option) == 0
        with Image.open(tmp_path / "out" / "photo.png") as image:
            assert image.mode == "RGBA" and image.size == (30, 40)
            kept = image.getexif()
            assert kept.get_ifd(ExifTags.IFD.GPSInfo) == place
            assert kept[ExifTags.Base.Artist] == "Grandmother" and kept[ExifTags.Base.Orientation] == 1
            alpha = np.asarray(image.getchannel("A"))
        assert np.array_equal(alpha, np.rot90(np.asarray(photo.getchannel("A")), -1))


def test_what_is_not_as_expected_is_said(colour, tmp_path, capsys):
    draw_photo(1).save(tmp_path / "colour.png")
    draw_photo(1).convert("L").save(tmp_path / "grey.png")
    assert colour(tmp_path / "grey.png") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert colour(tmp_path / "colour.png") == 0
    assert "1: it has colour already: only its lightness is used (colour.png)" in capsys.readouterr().out


def test_compare_and_histogram_are_written_beside_each_output_and_added_later(colour, tree, tmp_path):
    assert colour(tree) == 0
    plain = contents(tmp_path / "out")
    assert colour(tree, "--compare", "--histogram") == 0
    now = contents(tmp_path / "out")
    assert {name: now[name] for name in plain} == plain
    assert set(now) == {name + end for name in plain for end in ("", ".compare.png", ".histogram.png")}


def test_saturation_zero_is_grey(colour, tmp_path):
    draw_photo(1).save(tmp_path / "photo.png")
    assert colour(tmp_path / "photo.png", "--saturation", "0") == 0
    lab = skimage.color.rgb2lab(np.asarray(photos.read_rgb(tmp_path / "out" / "photo.png")))
    assert np.abs(lab[..., 1:]).max() < 1


# Ends


def test_killed_at_any_moment_every_output_is_whole_and_a_second_run_finishes(pretrained, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(40):
        draw_photo(i, 300, 200).save(tmp_path / "in" / f"{i:02}.png")
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "gan_color", "colorize", tmp_path / "in", "--checkpoint", pretrained]
    argv = [*map(str, argv), "--output", str(out), "--device", "cpu"]
    process = subprocess.Popen(argv, cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None and len(list(out.glob("*.png"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = sorted(out.glob("[!.]*"))
    assert 5 <= len(done) < 40
    assert all(photos.read_rgb(path).size == (300, 200) for path in done)
    before = {path.name: path.stat().st_mtime_ns for path in done}
    assert run(tmp_path / "in", "--checkpoint", pretrained, "--output", out, "--device", "cpu") == 0
    assert len(photos.find_photos(out)) == 40
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


# The shared odd files and old photographs


def test_every_nasty_and_legacy_file_is_coloured_or_named(colour, shared, tmp_path, capsys):
    data = shared / "data"
    known = json.loads((data / "nasty" / "index.json").read_text())["files"]
    report = tmp_path / "report.json"
    assert colour(data / "legacy", data / "nasty", "--size", "32", "--report", report) == 3
    said = capsys.readouterr()
    told = json.loads(report.read_text())
    assert [Path(path).name for path in told["left_out"]] == ["avif__rot1mir0.avif", "index.json"]
    assert (told["coloured"], told["failed"], told["skipped"]) == (56, 7, 0)
    assert len(photos.walk(data / "legacy")) + len(photos.walk(data / "nasty")) == 56 + 7 + 2
    for photo in told["photographs"]:
        name, target = Path(photo["source"]).name, Path(photo["target"])
        readable = name not in known or known[name]["loads"]
        assert (photo["result"] == "coloured") == readable == target.is_file(), photo
        assert readable or f"{name}: " in said.err
    # Grey inputs of a format without loss keep their lightness in the file too.
    for name in ("hopper_gray.jpg", "uncompressed_la.png"):
        own, new = (photos.read_photo(folder / name).rgb for folder in (data / "nasty", tmp_path / "out"))
        assert own.size == new.size


def test_a_report_or_a_comparison_never_replaces_a_photograph(pretrained, tmp_path, capsys):
    for name in ("a.png", "a.png.compare.png"):
        draw_photo(1).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    common = ["--checkpoint", pretrained, "--output"]
    assert run(tmp_path / "a.png", *common, tmp_path / "out", "--report", tmp_path / "a.png") == 2
    assert "--report" in capsys.readouterr().err
    source = tmp_path / "a.png.compare.png"
    assert run(source, *common, tmp_path / "a.png", "--compare", "--overwrite") == 2
    assert "is an input itself" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_may_be_coloured_into_the_folder_above_it(pretrained, tmp_path):
    (tmp_path / "scans").mkdir()
    draw_photo(1).save(tmp_path / "scans" / "a.png")
    assert run(tmp_path / "scans", "--checkpoint", pretrained, "--output", tmp_path) == 0
    assert (tmp_path / "a.png").is_file()


def test_several_photographs_do_not_make_a_folder_named_like_a_picture(pretrained, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        draw_photo(1).save(tmp_path / name)
    assert run(tmp_path / "a.png", tmp_path / "b.png", "--checkpoint", pretrained, "--output", tmp_path / "o.png") == 2
    assert "name a folder for several" in capsys.readouterr().err
    assert not (tmp_path / "o.png").exists()


def test_a_name_that_begins_with_a_tilde_is_a_name(pretrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_photo(1).save(tmp_path / "~scan.png")
    assert run("~scan.png", "--checkpoint", pretrained, "--output", "out") == 0
    assert (tmp_path / "out" / "~scan.png").is_file()
