"""The command that colours any number of photographs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch
from conftest import PROJECT, draw_photo, levels_of_lightness_off
from PIL import ExifTags, Image
from torch import nn

from gan_color import folder, load_generator
from gan_color.__main__ import main
from gan_color.data import photos


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

    colour.checkpoint = pretrained
    return colour


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


# What is an input, and where its output goes


def test_one_photograph_to_one_file(colour, tmp_path):
    draw_photo(1, 50, 40).save(tmp_path / "grey.jpg")
    assert colour(tmp_path / "grey.jpg", output=tmp_path / "new" / "coloured.png") == 0
    assert photos.read_rgb(tmp_path / "new" / "coloured.png").size == (50, 40)


def test_a_folder_keeps_its_tree(colour, tree, tmp_path):
    assert colour(tree) == 0
    assert files(tmp_path / "out") == {"top.jpg", "deep/one.png", "deep/er/two.webp"}


def test_photographs_of_one_name_and_several_formats_keep_apart(colour, tmp_path):
    (tmp_path / "in").mkdir()
    for i, name in enumerate(["a.jpg", "a.png", "A.png", "a.webp"]):
        draw_photo(i).save(tmp_path / "in" / name)
    assert colour(tmp_path / "in") == 0
    assert files(tmp_path / "out") == {"a.jpg", "a.png", "A.png", "a.webp"}


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
    assert "2 of 5 could not be coloured" in said.err.splitlines()[-1]
    assert "coloured 3 of 5" in said.out and "notes.txt" in said.out
    assert len(files(tmp_path / "out")) == 3
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["coloured"], report["skipped"], report["failed"]) == (3, 0, 2)
    assert report["left_out"] == [str(tree / "notes.txt")]
    results = Counter(photo["result"] for photo in report["photographs"])
    assert results == {"coloured": 3, "failed": 2}
    assert all(bool(photo["error"]) == (photo["result"] == "failed") for photo in report["photographs"])


def test_a_subfolder_that_cannot_be_listed_is_named_and_counted(colour, unlisted_folder, tmp_path, capsys):
    assert colour(tmp_path, "--report", tmp_path / "report.json") == 3
    said = capsys.readouterr()
    assert f"gan-color: {unlisted_folder} cannot be listed: File name too long\n" in said.err
    assert "1 of 2 could not be coloured" in said.err and "coloured 1 of 1" in said.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [photo["result"] for photo in report["photographs"]] == ["failed", "coloured"]
    assert (tmp_path / "out" / "top.png").is_file()


@pytest.fixture
def sizes(tmp_path) -> Path:
    """Photographs of which some, not side by side, have one size to the network; and one that cannot be read."""
    folder = tmp_path / "sizes"
    folder.mkdir()
    for i, size in enumerate([(80, 64), (64, 80), (75, 64), (300, 50), (160, 130), (64, 80), (80, 64)]):
        draw_photo(i, *size).save(folder / f"{i}.png")
    (folder / "2b.png").write_text("this is no photograph")
    return folder


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_write_what_is_written_one_by_one(colour, sizes, tmp_path, batch_size):
    assert colour(sizes, output=tmp_path / "one") == 3
    report = tmp_path / "report.json"
    assert colour(sizes, "--batch-size", batch_size, "--report", report, output=tmp_path / "together") == 3
    assert contents(tmp_path / "together") == contents(tmp_path / "one")
    told = [Path(photo["source"]).name for photo in json.loads(report.read_text())["photographs"]]
    assert told == sorted(told) and len(told) == 8


class SmallGPU(nn.Module):
    """A generator on a GPU that is out of memory above a number of pixels; on the CPU it is not."""

    def __init__(self, generator, pixels):
        super().__init__()
        self.generator, self.pixels, self.on_gpu, self.passed = generator, pixels, True, []
        self.trained_size, self.activations = generator.trained_size, weakref.WeakSet()

    def cpu(self):
        self.on_gpu = False
        return super().cpu()

    def to(self, device):
        self.on_gpu = True
        return super().to(device)

    def forward(self, L):
        activations = L.clone()
        self.activations.add(activations)  # also those of a forward that failed, for as long as anything holds them
        if self.on_gpu and sum(each.numel() for each in self.activations) > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.passed.append((len(L), self.on_gpu))
        return self.generator(L)


def test_what_is_too_large_for_the_gpu_is_coloured_on_the_cpu(colour, sizes, tmp_path, monkeypatch, capsys):
    assert colour(sizes, output=tmp_path / "one") == 3
    generator = SmallGPU(load_generator(colour.checkpoint).eval(), 64 * 32 * 2).eval()
    monkeypatch.setattr(folder, "load_generator", lambda *_: generator)
    capsys.readouterr()
    assert colour(sizes, "--batch-size", "8", output=tmp_path / "out") == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    # Four of one size were too many together; the panorama was too much alone.
    assert sorted(generator.passed) == [(1, False), *[(1, True)] * 4, (2, True)]
    said = capsys.readouterr()
    assert "1: too large for the GPU's memory: coloured on the CPU (3.png)" in said.out
    assert "out of memory" not in said.err


def test_what_is_too_large_for_the_cpu_too_fails_alone(colour, sizes, tmp_path, monkeypatch, capsys):
    generator = SmallGPU(load_generator(colour.checkpoint).eval(), 64 * 32)
    monkeypatch.setattr(generator, "cpu", lambda: generator)
    monkeypatch.setattr(folder, "load_generator", lambda *_: generator.eval())
    assert colour(sizes, output=tmp_path / "out") == 3
    said = capsys.readouterr().err
    assert "3.png: CUDA out of memory" in said and "lower --size" in said
    assert len(files(tmp_path / "out")) == 6


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


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_a_grey_photograph_keeps_its_lightness_in_the_file(colour, tmp_path, suffix):
    grey = Image.linear_gradient("L").resize((90, 70))
    grey.save(tmp_path / f"grey{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    assert colour(tmp_path / f"grey{suffix}") == 0
    written = photos.read_rgb(tmp_path / "out" / f"grey{suffix}")
    assert np.ptp(np.asarray(written), axis=2).max() > 0
    assert levels_of_lightness_off(written, grey) <= 1


def test_photographs_in_colour_are_left_out_on_request_and_counted(colour, tmp_path, capsys):
    draw_photo(1).save(tmp_path / "colour.png")
    draw_photo(1).convert("L").save(tmp_path / "grey.png")
    options = ["--skip-colored", "--report", tmp_path / "report.json"]
    assert colour(tmp_path / "colour.png", tmp_path / "grey.png", *options) == 0
    said = capsys.readouterr().out
    assert "coloured 1 of 2" in said and "1: it has colour already: left out (colour.png)" in said
    assert files(tmp_path / "out") == {"grey.png"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["coloured"], report["in colour"]) == (1, 1)
    assert [photo["result"] for photo in report["photographs"]] == ["in colour", "coloured"]


def test_compare_and_histogram_are_written_beside_each_output_and_added_later(colour, tree, tmp_path):
    assert colour(tree) == 0
    plain = contents(tmp_path / "out")
    assert colour(tree, "--compare", "--histogram") == 0
    now = contents(tmp_path / "out")
    assert {name: now[name] for name in plain} == plain
    assert set(now) == {name + end for name in plain for end in ("", ".compare.png", ".histogram.png")}


def test_an_output_that_was_cut_since_fails_alone(colour, tree, tmp_path, capsys):
    assert colour(tree) == 0
    cut = tmp_path / "out" / "top.jpg"
    photos.read_rgb(cut).crop((0, 0, 40, 30)).save(cut)
    before = cut.read_bytes()
    assert colour(tree, "--compare") == 3
    said = capsys.readouterr()
    assert f"gan-color: {cut} has another size than its input: --overwrite colours it anew\n" in said.err
    assert "added pictures beside 2 outputs" in said.out and cut.read_bytes() == before
    assert not cut.with_name("top.jpg.compare.png").exists()
    assert colour(tree / "top.jpg", "--compare", "--overwrite") == 0
    assert photos.read_rgb(cut).size == (80, 64)


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
    assert len(photos.find_photos(out)) == 40 and not list(out.glob(".*"))
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


def test_after_an_interrupt_it_is_said_what_was_done(pretrained, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(60):
        draw_photo(i, 600, 400).save(tmp_path / "in" / f"{i:02}.png")
    out, report = tmp_path / "out", tmp_path / "report.json"
    argv = [sys.executable, "-m", "gan_color", "colorize", tmp_path / "in", "--checkpoint", pretrained]
    argv = [*map(str, argv), "--output", str(out), "--device", "cpu", "--report", str(report)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(argv, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and len(list(out.glob("*.png"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130
    done = files(out)
    assert 5 <= len(done) < 60 and said.startswith(f"coloured {len(done)} of 60 into")
    told = json.loads(report.read_text())["photographs"]
    assert {Path(photo["target"]).name for photo in told} == done


# The shared odd files and old photographs


def test_every_nasty_and_legacy_file_is_coloured_or_named(colour, shared, tmp_path, capsys):
    data = shared / "data"
    known = json.loads((data / "nasty" / "index.json").read_text())["files"]
    report = tmp_path / "report.json"
    assert colour(data / "legacy", data / "nasty", "--size", "32", "--report", report) == 3
    said = capsys.readouterr()
    told = json.loads(report.read_text())
    assert [Path(path).name for path in told["left_out"]] == ["index.json"]
    assert (told["coloured"], told["failed"], told["skipped"]) == (56, 8, 0)
    assert len(photos.walk(data / "legacy")[0]) + len(photos.walk(data / "nasty")[0]) == 56 + 8 + 1
    for photo in told["photographs"]:
        name, target = Path(photo["source"]).name, Path(photo["target"])
        readable = name not in known or (known[name]["loads"] and known[name]["format"] != "AVIF")
        assert (photo["result"] == "coloured") == readable == target.is_file(), photo
        assert readable or f"{name}: " in said.err
        if readable:
            own, new = (photos.read_photo(file).rgb for file in (Path(photo["source"]), target))
            assert own.size == new.size
            if target.suffix.lower() in (".png", ".webp", ".tif"):
                assert levels_of_lightness_off(new, own) <= 1, name


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


def test_a_generator_whose_colours_are_no_numbers_is_named_in_one_line(diverged, tree, tmp_path, capsys):
    assert run(tree, "--checkpoint", diverged, "--output", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"gan-color: {diverged} is broken: it predicts colours that are no numbers")
    assert said.err.count("\n") == 1 and "coloured 0 of 3" in said.out and not (tmp_path / "out").exists()
