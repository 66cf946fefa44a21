"""Two runs in one folder: the second is refused, a dead one's lock is free."""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from gan_color.errors import UsageError
from gan_color.run_lock import run_lock

HOLD = """
import os, sys, time
from pathlib import Path
from gan_color.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    if not os.fork():  # as a process that loads photographs
        time.sleep(30)
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_holds_it_and_a_killed_one_holds_nothing(tmp_path, train, capsys):
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(SystemExit) as end:
                train("pretrain", out, "--max-steps", "1")
            assert end.value.code == 2
            error = capsys.readouterr().err
            assert f"is in use by process {holder.pid} on {socket.gethostname()}" in error and error.count("\n") == 1
            assert [path.name for path in out.iterdir()] == [".lock"]
            holder.kill()
            holder.wait()
            with run_lock(out):  # though its child lives
                pass
        finally:
            os.killpg(holder.pid, signal.SIGKILL)
    assert not out.exists()


def test_a_lock_that_was_opened_before_its_holder_removed_it_is_taken_anew(tmp_path, monkeypatch):
    lock, path = fcntl.lockf, tmp_path / ".lock"

    def lock_after_the_holder_ended(file, how):
        monkeypatch.undo()
        path.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "lockf", lock_after_the_holder_ended)
    with run_lock(tmp_path):
        third = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert f"is in use by process {os.getpid()}" in third.stderr.splitlines()[-1]


def test_it_leaves_a_run_as_it_was(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    for _ in range(2):
        with run_lock(tmp_path):
            assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_full_disk_is_no_hindrance(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with run_lock(tmp_path):
            assert (tmp_path / ".lock").read_bytes() == b""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_lock_that_may_not_be_opened_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UsageError, match="cannot be written"), run_lock(tmp_path):
        pass
