"""What is coloured, and where its outputs go."""

import io
import os
import sys
from pathlib import Path

import pytest
from conftest import draw_photo

from gan_color import jobs
from gan_color.commands import ColorizeConfig
from gan_color.errors import UsageError


def asked(*inputs, output="out", **options) -> jobs.Plan:
    return jobs.plan(ColorizeConfig(inputs=tuple(map(str, inputs)), checkpoint="c", output=Path(output), **options))


def targets(*inputs, **options) -> list[str]:
    return [str(job.files["coloured"]) for job in asked(*inputs, **options).jobs]


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


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """Three folders with an `x.jpg` each, the first two of one name; the third holds a photograph of its own, too."""
    made = [tmp_path / name for name in ("1/scans", "2/scans", "more")]
    for folder in made:
        folder.mkdir(parents=True)
        draw_photo(1).save(folder / "x.jpg")
    draw_photo(1).save(made[2] / "y.jpg")
    return made


def test_photographs_that_would_have_one_output_get_the_names_of_their_folders(folders):
    first, second, third = folders
    assert targets(first, third) == ["out/scans/x.jpg", "out/more/x.jpg", "out/y.jpg"]
    assert targets(first / "x.jpg", third / "x.jpg") == ["out/scans/x.jpg", "out/more/x.jpg"]
    assert targets(first, second) == ["out/1/scans/x.jpg", "out/2/scans/x.jpg"]
    assert targets(*folders) == ["out/1/scans/x.jpg", "out/2/scans/x.jpg", "out/more/x.jpg", "out/y.jpg"]


def test_outputs_follow_from_the_inputs_whatever_their_order_and_what_is_there(folders, tmp_path):
    expected = sorted(targets(*folders, output=tmp_path / "out"))
    for name in expected[:2]:
        Path(name).parent.mkdir(parents=True)
        Path(name).write_bytes(b"there")
    assert sorted(targets(*reversed(folders), output=tmp_path / "out")) == expected


def test_a_folder_name_in_front_may_itself_be_taken(folders, tmp_path):
    """`more/x.jpg` is the place of a photograph inside an input, and what another would be moved to."""
    inside = tmp_path / "all" / "more"
    inside.mkdir(parents=True)
    draw_photo(1).save(inside / "x.jpg")
    names = targets(*folders, tmp_path / "all")
    assert len(set(names)) == len(names) == 5 and "out/all/more/x.jpg" in names


def test_a_photograph_under_two_names_of_its_folder_is_coloured_once(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "more")
    assert targets(".", tmp_path / "more", "../more/x.jpg") == ["out/x.jpg", "out/y.jpg"]


def test_a_format_that_becomes_png_gives_way_to_a_photograph_of_that_name(tmp_path):
    for name in ("a.gif", "a.gif.png", "a.png"):
        draw_photo(1).save(tmp_path / name, format="PNG")
    assert targets(tmp_path) == ["out/a.gif.png.png", "out/a.gif.png", "out/a.png"]


def test_pictures_of_an_earlier_run_are_no_photographs_of_a_folder(tmp_path):
    for name in ("a.png", "a.png.compare.png", "a.png.histogram.png", "b.compare.png"):
        draw_photo(1).save(tmp_path / name)
    plan = asked(tmp_path, compare=True)
    assert [job.source.name for job in plan.jobs] == ["a.png", "b.compare.png"]
    assert [path.name for path in plan.left_out] == ["a.png.compare.png", "a.png.histogram.png"]


def test_two_outputs_that_would_be_one_under_any_folder_are_refused(tmp_path):
    for name in ("a.png", "a.png.compare.png"):
        draw_photo(1).save(tmp_path / name)
    both = (tmp_path / "a.png", tmp_path / "a.png.compare.png")
    assert targets(*both) == ["out/a.png", "out/a.png.compare.png"]
    with pytest.raises(UsageError, match="colour them in two commands"):
        asked(*both, compare=True)


def test_a_tilde_is_the_home_only_where_a_user_typed_it(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    draw_photo(1).save(home / "photo.png")
    Path("~").mkdir()
    draw_photo(1).save(Path("~") / "scan.png")
    sources = {given: asked(given).jobs[0].source for given in ("~/photo.png", "~/phot*.png", "~/scan.png")}
    assert sources["~/photo.png"] == sources["~/phot*.png"] == home / "photo.png"
    assert sources["~/scan.png"] == Path("~/scan.png")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"~/scan.png\n~/photo.png\n")))
    assert [job.source for job in asked("-").jobs] == [Path("~/scan.png"), Path("~/photo.png")]


def test_a_leading_dash_is_a_name_behind_a_dot_and_a_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_photo(1).save("-a.png")
    assert targets("./-a.png") == ["out/-a.png"]
