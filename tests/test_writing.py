"""Files are whole or not there, and what a killed process left of one is cleared away."""

import errno
import os
import stat
import subprocess
import sys

import pytest
from conftest import PROJECT

from gan_color import writing
from gan_color.errors import GanColorError


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    writing.write_atomically(path, b"old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", no_space)
    with pytest.raises(GanColorError, match="No space left"):
        writing.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch):
    """As on FUSE and SMB: the file itself is there, whole."""
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(writing.os, "fsync", refuse_folders)
    writing.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_a_killed_process_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    files = [tmp_path / "out" / name for name in ("a.png", "new\nline.png", "x" * 200 + ".png")]
    dies = (
        "import os, sys\nfrom pathlib import Path\nfrom gan_color.writing import write_atomically\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "for file in sys.argv[1:]:\n if not os.fork(): write_atomically(Path(file), b'half')\n os.wait()"
    )
    argv = [sys.executable, "-c", dies, *files, tmp_path / "out" / "other.png"]
    subprocess.run(argv, cwd=PROJECT, check=True)
    left = list((tmp_path / "out").iterdir())
    assert len(left) == 4
    (of_another,) = [path for path in left if path.name.startswith(".other.png.")]
    (of_a,) = [path for path in left if path.name.startswith(".a.png.")]
    pid = of_a.name.split(".")[3]
    users = [".a.png.tmp", f".a.png.{pid}.backup", f".a.png.{os.getppid()}.abcdefgh.tmp", f"a.png.{pid}.abcdefgh.tmp"]
    for name in users:
        (tmp_path / "out" / name).write_bytes(b"mine")
    # As of the run before in a container, where the ids begin anew.
    (tmp_path / "out" / f".a.png.{os.getpid()}.abcdefgh.tmp").write_bytes(b"half")
    writing.remove_leftovers(tmp_path / "nowhere", ["a.png"])
    writing.remove_leftovers(tmp_path / "out", [file.name for file in files])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {of_another.name, *users}
    writing.remove_leftovers(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(users)
