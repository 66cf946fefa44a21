import os
import pwd
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, draw_photo

from gan_color.data import kept_looks, scan
from gan_color.data.look import look_at


@pytest.fixture(autouse=True)
def own_table(monkeypatch, tmp_path):
    """An empty table, and files that count as settled once they are written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_looks, "_SETTLED", 0)


@pytest.fixture
def looked_at(monkeypatch) -> list[Path]:
    """The files that are opened, while few are looked at."""
    paths = []

    def look(path):
        paths.append(path)
        return look_at(path)

    monkeypatch.setattr(scan, "look_at", look)
    return paths


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        draw_photo(seed).save(path)
    return paths


def test_a_second_scan_opens_no_file_and_sees_the_same(paths, looked_at):
    first = scan.scan(paths, show_progress=False)
    assert looked_at == paths
    assert scan.scan(paths[::-1], show_progress=False) == first[::-1]
    assert looked_at == paths
    assert first == [look_at(path)[0] for path in paths]


def test_another_process_opens_no_file_either(paths, looked_at):
    script = "import sys; from pathlib import Path; from gan_color.data import kept_looks, scan\n"
    script += "kept_looks._SETTLED = 0; scan.scan([Path(path) for path in sys.argv[1:]])"
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], check=True, cwd=PROJECT, timeout=60)
    scan.scan(paths, show_progress=False)
    assert looked_at == []


@pytest.mark.parametrize("change", ["content", "content of the same size and date", "another file in its place"])
def test_a_file_that_changed_is_looked_at_again(paths, looked_at, tmp_path, change):
    before = scan.scan(paths, show_progress=False)
    looked_at.clear()
    at, data = paths[2].stat(), paths[2].read_bytes()
    if change == "content":
        draw_photo(9).save(paths[2])
    else:
        other = paths[2] if change.startswith("content") else tmp_path / "other"
        other.write_bytes(data[:-1] + b"!")
        os.utime(other, ns=(at.st_atime_ns, at.st_mtime_ns))
        other.replace(paths[2])
    after = scan.scan(paths, show_progress=False)
    assert looked_at == [paths[2]]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False, True, True]


def test_a_file_that_was_only_moved_is_known(paths, looked_at):
    before = scan.scan(paths, show_progress=False)
    moved = paths[0].rename(paths[0].with_name("moved.png"))
    looked_at.clear()
    (after,) = scan.scan([moved], show_progress=False)
    # A rename is a change on some file systems.
    assert looked_at in ([], [moved])
    assert (after.path, after.digest) == (moved, before[0].digest)


def test_files_that_are_one_by_hard_links_are_looked_at_once(paths, looked_at):
    links = [path.with_name(f"link{path.name}") for path in paths]
    for path, link in zip(paths, links, strict=True):
        link.hardlink_to(path)
    looks = scan.scan(paths + links, show_progress=False)
    assert looked_at == paths
    assert [look.path for look in looks] == paths + links
    assert [look.digest for look in looks[:5]] == [look.digest for look in looks[5:]]


def test_a_file_that_cannot_be_read_is_not_kept_and_each_of_its_names_is_told(paths, looked_at):
    paths[1].write_text("no photograph")
    link = paths[1].with_name("link.png")
    link.hardlink_to(paths[1])
    for _ in range(2):
        looked_at.clear()
        looks = scan.scan([*paths, link], show_progress=False)
        assert [look.error is None for look in looks] == [True, False, True, True, True, False]
        assert looks[1].error.startswith(f"{paths[1]}: ") and looks[5].error.startswith(f"{link}: ")
        assert set(looked_at) >= {paths[1], link}


def test_a_fresh_file_may_change_without_a_mark_and_is_not_kept(paths, looked_at, monkeypatch):
    monkeypatch.setattr(kept_looks, "_SETTLED", 3600)
    for _ in range(2):
        scan.scan(paths, show_progress=False)
    assert looked_at == paths * 2


def test_a_scan_that_was_broken_off_is_kept_as_far_as_it_came(paths, looked_at, monkeypatch):
    def stops(path):
        if path == paths[3]:
            raise KeyboardInterrupt
        return look_at(path)

    with monkeypatch.context() as patched:
        patched.setattr(scan, "look_at", stops)
        patched.setattr(scan, "_AT_A_TIME", 1)
        with pytest.raises(KeyboardInterrupt):
            scan.scan(paths, show_progress=False)
    scan.scan(paths, show_progress=False)
    assert looked_at == paths[3:]


@pytest.mark.parametrize("harm", ["no table", "no folder", "locked"])
def test_where_nothing_can_be_kept_files_are_looked_at_and_it_is_said_once(paths, looked_at, capsys, monkeypatch, harm):
    expected = scan.scan(paths, show_progress=False)
    (table,) = kept_looks.folder().glob("*.sqlite")
    monkeypatch.setattr(kept_looks, "_PATIENCE", 0)
    holder = sqlite3.connect(table)
    if harm == "locked":
        holder.execute("BEGIN EXCLUSIVE")
    else:
        table.write_text("no table" * 1000)
        if harm == "no folder":
            monkeypatch.setenv("XDG_CACHE_HOME", str(table))
    looked_at.clear()
    assert scan.scan(paths, show_progress=False) == expected
    assert looked_at == paths
    assert capsys.readouterr().out.count("looks at photographs are not kept") == 1
    holder.close()


def test_a_user_without_a_home_looks_at_files(paths, capsys, monkeypatch):
    def nobody(uid: int):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert [look.path for look in scan.scan(paths, show_progress=False)] == paths
    assert capsys.readouterr().out.count("looks at photographs are not kept in ~/.cache") == 1


def test_many_photographs_are_looked_at_by_several_processes_as_by_one(shared):
    from gan_color.data.photos import find_photos

    some = find_photos(shared / "data" / "photos" / "val")[:300]
    together = scan.scan(some, show_progress=False)
    assert together == [look_at(path)[0] for path in some]
