import hashlib
import http.server
import os
import socket
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest
from conftest import draw_photo

from gan_color.data import sources, split
from gan_color.data.photos import read_rgb
from gan_color.data.scan import scan
from gan_color.data.sources import default_crops, samples
from gan_color.data.split import Photographs
from gan_color.errors import DataError, GanColorError

NOWHERE = Path("no such data root")


def find(data: Path | str, data_root: Path = NOWHERE, **options) -> Photographs:
    return split.photographs(os.fspath(data), data_root, show_progress=False, **options)


def refusal(data: Path | str, data_root: Path = NOWHERE, **options) -> str:
    with pytest.raises(DataError) as caught:
        find(data, data_root, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def draw_folder(folder: Path, seeds: range, grey: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        photo = draw_photo(seed, 20, 16)
        (photo.convert("L") if grey else photo).save(folder / f"{'grey' if grey else 'photo'}{seed:02}.png")
    return folder


def contents(paths: list[Path]) -> set[bytes]:
    return {path.read_bytes() for path in paths}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def no_such_host(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    monkeypatch.setenv("FASTAI_HOME", str(tmp_path / "fastai"))


# The embedded samples


def test_there_are_seven_samples_all_readable_and_colourful():
    train, val = samples()
    assert (len(train), len(val)) == (5, 2)
    looks = scan(train + val, show_progress=False)
    assert [look.error for look in looks] == [None] * 7
    assert min(look.chroma for look in looks) > 8
    assert len({look.digest for look in looks}) == 7
    assert min(min(read_rgb(path).size) for path in train + val) >= 256


def test_the_samples_are_the_same_at_each_call_and_need_no_data_root():
    found = find("samples")
    assert found == find("samples")
    assert (found.train, found.val) == samples()
    assert found.report == []


def test_only_the_few_samples_are_cropped_many_times():
    assert default_crops("samples") > 1
    assert default_crops("flowers102") == 1
    assert default_crops("some/folder") == 1


# A list file


def test_a_list_file_gives_paths_from_its_own_folder_on(tmp_path, monkeypatch):
    far = draw_folder(tmp_path / "far", range(2))
    draw_folder(tmp_path / "lists" / "near", range(2, 4))
    lines = ["near/photo02.png", "", "../far/photo00.png\r", "   ", "near/photo03.png\r", str(far / "photo01.png"), ""]
    (tmp_path / "lists" / "list.txt").write_bytes("\n".join(lines).encode())
    monkeypatch.chdir(tmp_path / "far")
    for listed in (tmp_path / "lists" / "list.txt", Path("../lists/list.txt")):
        found = find(listed)
        assert contents(found.train + found.val) == contents([*far.iterdir(), *(tmp_path / "lists/near").iterdir()])
        assert found.report == []


def test_a_list_file_holds_names_that_are_no_text(tmp_path):
    draw_folder(tmp_path, range(2))
    odd = tmp_path / os.fsdecode(b"bytes \xff.png")
    try:
        (tmp_path / "photo00.png").rename(odd)
    except OSError:
        pytest.skip("this file system has no such names")
    (tmp_path / "list").write_bytes(b"bytes \xff.png\nphoto01.png\n")
    found = find(tmp_path / "list")
    assert {*found.train, *found.val} == {odd, tmp_path / "photo01.png"}


def test_a_line_that_is_there_twice_counts_once(tmp_path):
    draw_folder(tmp_path, range(2))
    (tmp_path / "list").write_text("photo01.png\nphoto00.png\nphoto01.png\n")
    found = find(tmp_path / "list")
    assert len(found.train) + len(found.val) == 2


def test_a_listed_file_that_is_missing_is_reported_as_unreadable(tmp_path):
    draw_folder(tmp_path, range(2))
    (tmp_path / "list").write_text("photo00.png\ngone.png\nphoto01.png\n")
    found = find(tmp_path / "list")
    assert len(found.train) + len(found.val) == 2
    assert found.report == [f"unreadable: {tmp_path / 'gone.png'}: No such file or directory"]


def test_a_photograph_is_no_list(tmp_path):
    draw_photo(0).save(tmp_path / "photo.jpg")
    assert f"{tmp_path / 'photo.jpg'} is no list of paths" in refusal(tmp_path / "photo.jpg")


@pytest.mark.parametrize("text", ["", "\n\r\n  \n"])
def test_a_list_of_nothing_is_refused(tmp_path, text):
    (tmp_path / "list").write_bytes(text.encode())
    assert "lists no photographs: write one path a line" in refusal(tmp_path / "list")


# What cannot be found


def test_an_unknown_source_names_the_nearest():
    assert "--data flower102 is no such folder or file; did you mean flowers102?" in refusal("flower102")
    assert "did you mean oxford_pets?" in refusal("oxford-pets")
    assert "one of samples, flowers102, oxford_pets, coco_sample" in refusal("/no/such/folder")


def test_a_folder_that_is_not_there_is_quoted_when_it_is_no_text():
    assert ascii("/no/such\nfolder") in refusal("/no/such\nfolder")


@pytest.mark.parametrize(
    "data", ["x" * 300, "~no-such-user/photos", "nul\0byte"], ids=["long", "no such user", "zero byte"]
)
def test_a_source_that_can_be_no_path_is_refused_in_one_line(data):
    assert "--data" in refusal(data)


def test_an_empty_folder_is_refused_with_a_cure(tmp_path):
    assert f"{tmp_path} holds no photographs: give a folder" in refusal(tmp_path)


def test_a_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    draw_folder(tmp_path / "pictures", range(3))
    assert find("~/pictures").digest == find(tmp_path / "pictures").digest


@pytest.mark.parametrize("data", ["samples", "flowers102", "some/folder"])
def test_a_breed_goes_with_the_pets_only(data):
    with pytest.raises(GanColorError, match=r"^--breed Bengal goes with --data oxford_pets"):
        find(data, breed="Bengal")


# Named sets


@pytest.mark.timeout(120)
@pytest.mark.parametrize("data", ["flowers102", "oxford_pets", "coco_sample"])
def test_a_named_set_that_cannot_be_downloaded_names_the_cure(tmp_path, offline, data):
    message = refusal(data, tmp_path / "root")
    assert f"is not in {tmp_path / 'root'} and could not be downloaded (" in message
    assert "--data-root" in message


def test_a_named_set_that_was_only_half_unpacked_is_refused_in_one_line(tmp_path, offline):
    for folder in ("images", "annotations"):
        (tmp_path / "oxford-iiit-pet" / folder).mkdir(parents=True)
    assert "--data-root" in refusal("oxford_pets", tmp_path)


def test_flowers102_keeps_its_own_splits(shared):
    found = find("flowers102", shared / "data" / "flowers102_layout")
    assert (len(found.train), len(found.val)) == (1020, 1020)
    assert found.report == []
    assert not set(found.train) & set(found.val)


def test_flowers102_as_a_whole_has_8189_photographs(shared):
    train, val = sources.find("flowers102", shared / "data" / "flowers102_layout", None, whole=True)
    assert len({*train, *val}) == len(train) + len(val) == 8189


@pytest.fixture
def pets(shared) -> Path:
    return shared / "data" / "oxford-iiit-pet"


def names_listed(pets: Path) -> set[str]:
    lines = (pets / "oxford-iiit-pet" / "annotations" / "trainval.txt").read_text().splitlines()
    return {line.split()[0] for line in lines}


def test_oxford_pets_gives_the_trainval_split_of_all_breeds(pets):
    found = find("oxford_pets", pets)
    assert {path.stem for path in found.train + found.val} == names_listed(pets)
    assert len(found.train) + len(found.val) == 232
    assert 8 <= len(found.val) <= 46


@pytest.mark.parametrize("breed", ["american_bulldog", "American Bulldog"])
def test_oxford_pets_gives_one_breed_however_it_is_written(pets, breed):
    found = find("oxford_pets", pets, breed=breed)
    listed = {name for name in names_listed(pets) if name.startswith("american_bulldog_")}
    assert {path.stem for path in found.train + found.val} == listed


def test_one_breed_is_split_to_train_validate_and_test(pets):
    """The sizes of a first project on one breed, 134/36/30, in proportion; the breed's test split is among them."""
    found = find("oxford_pets", pets, breed="american_bulldog", split="79/21/18", min_chroma=0)
    assert (len(found.train), len(found.val), len(found.test)) == (79, 21, 18)
    everything = {path.stem for path in (*found.train, *found.val, *found.test)}
    lines = (pets / "oxford-iiit-pet" / "annotations" / "list.txt").read_text().splitlines()
    assert everything == {line.split()[0] for line in lines if line.startswith("american_bulldog_")}


def draw_pets(root: Path, count: int) -> Path:
    """A set in the layout of Oxford-IIIT Pet: this many basset hounds, half of them in each split, and some beagles."""
    names = [f"basset_hound_{number}" for number in range(count)] + [f"beagle_{number}" for number in range(6)]
    draw_folder(root / "oxford-iiit-pet" / "images", range(len(names)))
    for path, name in zip(sorted((root / "oxford-iiit-pet" / "images").iterdir()), names, strict=True):
        path.rename(path.with_name(f"{name}.jpg"))
    (root / "oxford-iiit-pet" / "annotations").mkdir()
    for part, its in (("trainval", names[::2]), ("test", names[1::2])):
        lines = "".join(f"{name} 1 2 3\n" for name in its)
        (root / "oxford-iiit-pet" / "annotations" / f"{part}.txt").write_text(lines)
    return root


def test_two_hundred_basset_hounds_are_split_134_36_30(tmp_path):
    found = find("oxford_pets", draw_pets(tmp_path, 200), breed="basset_hound", split="134/36/30", min_chroma=0)
    assert (len(found.train), len(found.val), len(found.test)) == (134, 36, 30)
    assert {path.stem.rsplit("_", 1)[0] for path in (*found.train, *found.val, *found.test)} == {"basset_hound"}


def test_oxford_pets_names_the_nearest_breed_or_all_of_them(pets):
    assert "did you mean american_bulldog?" in refusal("oxford_pets", pets, breed="american_buldog")
    assert "there are abyssinian, american_bulldog, bengal" in refusal("oxford_pets", pets, breed="zzz")


def test_coco_sample_is_taken_from_where_it_lies_and_split_by_content(tmp_path, offline):
    folder = draw_folder(tmp_path / "coco_sample" / "train_sample", range(6))
    assert find("coco_sample", tmp_path) == find(folder)


# Downloads, from a server of this machine


@pytest.fixture
def server(tmp_path):
    """Serves a folder over HTTP and counts what it was asked for: (folder, address, requests)."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def pack(folder: Path, archive: Path) -> str:
    """Write a folder into an archive under its own name; returns the archive's md5."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return hashlib.md5(archive.read_bytes()).hexdigest()


def test_oxford_pets_is_downloaded_once_and_checked(server, tmp_path, monkeypatch, capsys):
    from torchvision.datasets import OxfordIIITPet

    folder, address, asked = server
    drawn = draw_pets(tmp_path / "drawn", 10) / "oxford-iiit-pet"
    resources = [(f"{address}/{n}.tgz", pack(drawn / n, folder / f"{n}.tgz")) for n in ("images", "annotations")]
    root = tmp_path / "root"
    monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", (resources[0], (resources[1][0], "0" * 32)))
    assert "corrupted" in refusal("oxford_pets", root)
    monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", tuple(resources))
    found = find("oxford_pets", root, breed="basset_hound")
    assert len(found.train + found.val) == 5
    assert f"Oxford-IIIT Pet is not in {root}: downloading it" in capsys.readouterr().out
    before = len(asked)
    assert find("oxford_pets", root, breed="basset_hound") == found and len(asked) == before > 0


def test_coco_sample_is_downloaded_once_and_moved_to_its_place_whole(server, tmp_path, monkeypatch, capsys):
    from fastai.data.external import URLs

    folder, address, asked = server
    draw_folder(tmp_path / "drawn" / "coco_sample" / "train_sample", range(10))
    monkeypatch.setattr(URLs, "COCO_SAMPLE", f"{address}/coco_sample.tgz")
    monkeypatch.setenv("FASTAI_HOME", str(tmp_path / "fastai"))
    root = tmp_path / "root"
    assert "could not be downloaded" in refusal("coco_sample", root)  # nothing is served yet
    (root / "unpacking" / "coco_sample" / "train_sample").mkdir(parents=True)  # cut off while it was unpacked
    pack(tmp_path / "drawn" / "coco_sample", folder / "coco_sample.tgz")
    found = find("coco_sample", root, split="8/2")
    assert (len(found.train), len(found.val)) == (8, 2)
    assert {path.name for path in root.iterdir()} == {"archive", "coco_sample"}
    before = len(asked)
    assert find("coco_sample", root, split="8/2") == found and len(asked) == before > 0
