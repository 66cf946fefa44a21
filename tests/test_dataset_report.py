"""The command that shows what a training would see, against what a training sees."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photo
from PIL import Image

from gan_color.__main__ import main
from gan_color.data import split


def run(*argv) -> int:
    try:
        main(["data", *map(str, argv)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def collection(tmp_path) -> Path:
    """10 colour photographs, two grey ones, a copy, a smaller version, a broken file and a stray one."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for seed in range(10):
        draw_photo(seed, 120 + seed, 90).save(folder / f"{seed}.jpg", quality=92)
    for seed in (20, 21):
        draw_photo(seed).convert("L").save(folder / f"grey{seed}.png")
    shutil.copy(folder / "3.jpg", folder / "more" / "copy of 3.jpg")
    Image.open(folder / "4.jpg").resize((60, 45)).save(folder / "more" / "small 4.webp")
    (folder / "broken.jpg").write_bytes((folder / "5.jpg").read_bytes()[:400])
    (folder / "notes.txt").write_text("not looked at")
    return folder


def test_it_sees_what_a_training_sees(collection, tmp_path, capsys):
    assert run(collection, "--out", tmp_path / "out", "--json", tmp_path / "found.json", "--val-share", "0.3") == 3
    found = json.loads((tmp_path / "found.json").read_text())
    assert (tmp_path / "out" / "data.json").read_bytes() == (tmp_path / "found.json").read_bytes()
    trained = split.photographs(str(collection), Path(), val_share=0.3, show_progress=False)
    assert (found["train"], found["val"], found["digest"]) == (len(trained.train), len(trained.val), trained.digest)
    assert found["files"] == 15 and found["train"] + found["val"] == 12
    assert len(found["unreadable"]) == 1 and found["unreadable"][0].startswith(f"{collection / 'broken.jpg'}: ")
    assert [Path(path).name for path in found["near_grey"]] == ["grey20.png", "grey21.png"]
    assert found["formats"] == {"JPEG": 11, "PNG": 2, "WEBP": 1}
    assert (found["short_side"]["least"], found["short_side"]["most"]) == (45, 90)
    assert found["long_side"]["most"] == 129
    names = [[Path(path).name for path, _ in group] for group in found["exact_duplicates"]]
    assert names == [["3.jpg", "copy of 3.jpg"]]
    names = [[Path(path).name for path, _ in group] for group in found["look_alikes"]]
    assert names == [["4.jpg", "small 4.webp"]]
    said = capsys.readouterr()
    assert "broken.jpg" in said.out and "small 4.webp" in said.out
    assert said.err == "gan-color: 1 file(s) cannot be read, each named above; a training skips them\n"


def test_leaks_between_train_and_val_are_named_first(tmp_path, capsys):
    for side, seeds in (("train", (0, 1, 2, 3, 4)), ("val", (5, 6))):
        (tmp_path / "set" / side).mkdir(parents=True)
        for seed in seeds:
            draw_photo(seed, 100, 80).save(tmp_path / "set" / side / f"{seed}.png")
    train, val = tmp_path / "set" / "train", tmp_path / "set" / "val"
    shutil.copy(train / "0.png", train / "a copy.png")
    shutil.copy(train / "1.png", val / "leak.png")
    draw_photo(2, 100, 80).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(val / "mirrored.png")
    assert run(tmp_path / "set", "--json", tmp_path / "found.json") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["train"], found["val"], found["on_no_side"]) == (5, 4, 1)
    said = capsys.readouterr().out
    assert "2 groups, 0 of them on two sides of the split" in said  # training leaves the byte-exact leak out itself
    assert "1 pairs, 1 of them on two sides of the split" in said
    assert [[Path(path).name, side] for path, side in found["look_alikes"][0]] == [
        ["2.png", "train"],
        ["mirrored.png", "val"],
    ]


def test_the_mean_histogram_is_that_of_the_photographs(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for name, colour in (("a", (200, 40, 0)), ("b", (100, 40, 60)), ("c", (30, 160, 200))):
        Image.new("RGB", (30, 30), colour).save(folder / f"{name}.png")
    assert run(folder, "--out", tmp_path / "out") == 0
    mean = (110, 80, 87)
    drawn = np.asarray(Image.open(tmp_path / "out" / "colours.png"))
    assert (drawn == mean).all(axis=2).sum() > 1000  # the band of the mean colour
    sheet = Image.open(tmp_path / "out" / "contact_sheet.png").convert("RGB")
    assert {(200, 40, 0), (100, 40, 60), (30, 160, 200)} <= {colour for _, colour in sheet.getcolors(1 << 24)}


def test_what_a_training_refuses_is_shown_and_said(tmp_path, capsys):
    folder = tmp_path / "grey"
    folder.mkdir()
    for seed in range(3):
        draw_photo(seed).convert("L").save(folder / f"{seed}.png")
    assert run(folder, "--json", tmp_path / "found.json") == 1
    assert "near-grey          3 (100.0 %)" in capsys.readouterr().out
    assert "there is no colour to learn" in json.loads((tmp_path / "found.json").read_text())["refused"]


def test_earlier_reports_are_not_written_over(collection, tmp_path, capsys):
    (tmp_path / "found.json").write_text("{}")
    assert run(collection, "--json", tmp_path / "found.json") == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "found.json").read_text() == "{}"
    assert run(collection, "--json", tmp_path / "found.json", "--overwrite") == 3
    assert json.loads((tmp_path / "found.json").read_text())["files"] == 15
