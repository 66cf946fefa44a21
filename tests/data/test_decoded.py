import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_photo
from PIL import Image

from gan_color.data import decoded, lab
from gan_color.data.decoded import Decoded, keep
from gan_color.data.lab import LabDataset
from gan_color.data.photos import find_photos
from gan_color.errors import DataError, PhotoError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """20 photographs of several shapes, larger and smaller than what is kept; JPEG and PNG."""
    folder = tmp_path_factory.mktemp("shapes")
    for seed in range(20):
        name = f"{seed:02}.{'jpg' if seed % 2 else 'png'}"
        draw_photo(seed, 40 + 37 * (seed % 5), 50 + 29 * (seed % 4)).save(folder / name)
    return folder


def dataset(folder: Path, **options) -> LabDataset:
    return LabDataset(find_photos(folder), 32, **{"train": True, "seed": 3, "crops": 2} | options)


def built(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("options", [{}, {"resize": "squash"}, {"resize": "pad"}, {"train": False}])
def test_what_is_read_is_the_same_to_the_last_bit(folder, tmp_path, options):
    plain, kept = (dataset(folder, **options) for _ in range(2))
    keep(kept, tmp_path / "cache", "digest")
    items = [(epoch, index) for epoch in range(3) for index in range(0, 40, 3)]
    assert all(torch.equal(plain.rgb(item), kept.rgb(item)) for item in items)


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_not_read_again(folder, tmp_path, workers):
    shutil.copytree(folder, tmp_path / "photos")
    kept = dataset(tmp_path / "photos")
    keep(kept, tmp_path / "cache", "digest")
    plain = dataset(folder)
    shutil.rmtree(tmp_path / "photos")
    parts = [range(0, 20), range(20, 40)]
    batches = [lab.read_batches(lab.loader(data, parts, workers)) for data in (plain, kept)]
    for (L, ab), (kept_L, kept_ab) in zip(*batches, strict=True):
        assert torch.equal(L, kept_L) and torch.equal(ab, kept_ab)


def test_photographs_are_decoded_once_for_all_runs_that_need_them_so(folder, tmp_path, monkeypatch):
    for _ in range(2):
        keep(dataset(folder), tmp_path, "digest")
        monkeypatch.setattr(decoded, "_build", None)  # a second time it would be called
    assert len(built(tmp_path)) == 1


@pytest.mark.parametrize(
    "change", [{"resize": "pad"}, {"train": False}, {"min_crop": 0.5}], ids=["resize", "train", "min_crop"]
)
def test_other_settings_are_kept_apart(folder, tmp_path, change):
    keep(dataset(folder), tmp_path, "digest")
    keep(dataset(folder, **change), tmp_path, "digest")
    assert len(built(tmp_path)) == 2


@pytest.mark.parametrize("change", [{"seed": 8}, {"crops": 5}])
def test_settings_that_change_no_pixel_share_one(folder, tmp_path, change):
    keep(dataset(folder), tmp_path, "digest")
    keep(dataset(folder, **change), tmp_path, "digest")
    assert len(built(tmp_path)) == 1


def test_other_photographs_are_kept_apart_and_those_that_are_being_read_stay(folder, tmp_path):
    first = dataset(folder)
    keep(first, tmp_path, "digest")
    before = first.rgb(5)
    keep(dataset(folder), tmp_path, "another digest")
    assert len(built(tmp_path)) == 2
    shutil.rmtree(tmp_path)  # what is mapped stays, whatever becomes of the file
    assert torch.equal(first.rgb(5), before)


@pytest.mark.parametrize("harm", ["cut", "no shapes", "no pixels", "empty"])
def test_one_that_is_not_whole_is_built_anew(folder, tmp_path, harm):
    keep(dataset(folder), tmp_path, "digest")
    (its,) = built(tmp_path)
    if harm == "cut":
        os.truncate(its / "pixels", 1000)
    elif harm == "empty":
        os.truncate(its / "pixels", 0)
    else:
        (its / {"no shapes": "shapes.npy", "no pixels": "pixels"}[harm]).unlink()
    again = dataset(folder)
    keep(again, tmp_path, "digest")
    assert torch.equal(again.rgb(7), dataset(folder).rgb(7))


def test_a_process_that_is_handed_it_maps_the_file_itself(folder, tmp_path):
    kept = dataset(folder)
    keep(kept, tmp_path, "digest")
    assert len(pickle.dumps(kept.decoded)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(kept.decoded))[4], kept.decoded[4])
    assert not kept.decoded[4].flags.writeable


def test_what_a_killed_run_left_half_is_removed(folder, tmp_path):
    keep(dataset(folder), tmp_path, "digest")
    (its,) = built(tmp_path)
    (tmp_path / f".{its.name}.4711.tmp").mkdir()
    keep(dataset(folder), tmp_path, "digest")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_learns_the_same_whether_its_photographs_are_kept_or_not(train, tmp_path):
    """Begun without, resumed with."""
    steady = ["--warmup", "0", "--decay-from", "1", "--epochs", "9", "--val-every", "9"]
    whole = train("pretrain", tmp_path / "whole", *steady, "--max-steps", "6")
    cut = train("pretrain", tmp_path / "cut", *steady, "--max-steps", "3")
    train("pretrain", cut, *steady, "--max-steps", "6", "--resume", "--cache", str(tmp_path / "cache"))
    assert len(built(tmp_path / "cache")) == 2
    assert len(losses(whole)) == 6
    assert losses(cut) == losses(whole)


def test_a_run_is_judged_by_the_photographs_it_holds_out_also_where_there_are_as_many_to_train_on(train, tmp_path):
    """Without augmentation both sides are kept as middle squares."""
    steady = ["--no-augment", "--split", "6/6", "--max-steps", "1"]
    plain = train("pretrain", tmp_path / "plain", *steady)
    kept = train("pretrain", tmp_path / "kept", *steady, "--cache", str(tmp_path / "cache"))
    assert len(built(tmp_path / "cache")) == 2
    greys = [[line["val/l1_grey"] for line in lines(run) if "val/l1_grey" in line] for run in (plain, kept)]
    assert len(greys[0]) == 2 and greys[0] == greys[1]


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["loss/G_L1"] for line in lines(run) if "loss/G_L1" in line]


def _keep(folder: Path, cache: Path, said) -> None:
    def build(*of) -> None:
        said.put("built")
        time.sleep(0.5)
        building(*of)

    building, decoded._build = decoded._build, build
    keep(dataset(folder), cache, "digest")


def test_of_two_runs_one_builds_and_the_other_waits(folder, tmp_path):
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    runs = [fork.Process(target=_keep, args=(folder, tmp_path / "cache", said)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert said.get(timeout=5) == "built" and said.empty()
    assert len(built(tmp_path / "cache")) == 1


def test_a_photograph_that_vanished_ends_the_building_and_leaves_nothing_half(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "photos")
    data = dataset(tmp_path / "photos")
    (tmp_path / "photos" / "07.jpg").unlink()
    with pytest.raises(PhotoError, match=r"07\.jpg: No such file"):
        keep(data, tmp_path / "cache", "digest")
    assert built(tmp_path / "cache") == []


def test_too_little_room_is_refused_before_anything_is_decoded(folder, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    with pytest.raises(DataError, match=r"^--cache .* needs about .* MB, .* free: .*leave --cache out$"):
        keep(dataset(folder), tmp_path / "cache", "digest")
    assert built(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_written_is_one_line_with_the_cure(folder, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"^--cache .*file: .*leave --cache out$") as caught:
        keep(dataset(folder), tmp_path / "file", "digest")
    assert len(str(caught.value).splitlines()) == 1


def test_a_disk_that_is_full_halfway_is_one_line_and_leaves_nothing_half(folder, tmp_path):
    """A file system of 192 KiB of our own; needs the right to mount."""
    script = f"""
import shutil
from collections import namedtuple
from pathlib import Path
from gan_color.data.decoded import keep
from gan_color.data.lab import LabDataset
from gan_color.data.photos import find_photos
from gan_color.errors import one_line_errors
shutil.disk_usage = lambda _: namedtuple("usage", "free")(10**9)
cache = Path({str(tmp_path)!r})
with one_line_errors("program"):
    try:
        keep(LabDataset(find_photos(Path({str(folder)!r})), 64, train=True), cache, "digest")
    finally:
        print([path.name for path in cache.iterdir() if not path.name.endswith(".lock")])
"""
    alone = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=192k tmpfs {tmp_path} && exec "$@"', "-"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    ended = subprocess.run([*alone, sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


def test_what_is_to_come_is_said_and_is_nearly_what_comes(folder, tmp_path, capsys):
    for number in range(40):
        Image.new("RGB", (300, 200 + number)).save(tmp_path / f"{number}.png")
    data = LabDataset(find_photos(tmp_path), 96, train=True)
    keep(data, tmp_path / "cache", "digest")
    assert "decoding 40 photographs into" in capsys.readouterr().out
    (its,) = built(tmp_path / "cache")
    assert decoded._expected_bytes(data) == pytest.approx((its / "pixels").stat().st_size, rel=0.02)
    assert isinstance(data.decoded, Decoded) and len(data.decoded) == 40
