"""What a user sees when something fails: one line and an exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan_color import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.GanColorError("the disk is full"), 1),
        (errors.PhotoError("cat.jpg: no photograph"), 1),
        (errors.DataError("no photographs in photos"), 1),
        (errors.CheckpointError("checkpoints/gan: no generator"), 1),
        (errors.UsageError("--size 7: take a multiple of 32"), 2),
        (errors.SomeFailed("2 of 9 photographs failed"), 3),
        (errors.Stopped(signal.SIGTERM, "saved at step 40"), 143),
        (errors.Stopped(signal.SIGINT, "saved at step 41"), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_is_one_line_and_its_exit_code(capsys, error, code):
    with pytest.raises(SystemExit) as ended, errors.one_line_errors("train_gan.py"):
        raise error
    out, err = capsys.readouterr()
    assert ended.value.code == code
    assert out == ""
    assert err == f"train_gan.py: {'interrupted' if isinstance(error, KeyboardInterrupt) else error}\n"


@pytest.fixture(autouse=True)
def hear_interrupts_again():
    """An interrupted process listens to no more of them."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_value_with_a_newline_in_it_does_not_break_the_line(capsys):
    with pytest.raises(SystemExit), errors.one_line_errors("gan-color"):
        raise errors.UsageError("--breed a\nb is none")
    assert capsys.readouterr().err == "gan-color: --breed a\\nb is none\n"


def test_a_second_interrupt_does_not_fall_into_the_ending():
    code = "import atexit; atexit.register(os.kill, os.getpid(), signal.SIGINT); raise KeyboardInterrupt"
    ended = run(f"import os, signal; {code}")
    assert (ended.returncode, ended.stderr) == (130, "gan-color: interrupted\n")


def test_errors_a_user_cannot_mend_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), errors.one_line_errors("train_gan.py"):
        _ = 1 / 0


def test_nothing_is_said_when_nothing_fails(capsys):
    with errors.one_line_errors("train_gan.py"):
        print("coloured")
    assert capsys.readouterr() == ("coloured\n", "")


def run(code: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess:
    """Run code in a process of its own, inside `one_line_errors`."""
    program = f"from gan_color.errors import *\nwith one_line_errors('gan-color'):\n    {code}"
    return subprocess.run(
        [sys.executable, "-c", program], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )


def test_a_process_ends_with_one_line_and_no_traceback():
    ended = run("raise SomeFailed('2 of 9 photographs failed')")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == "gan-color: 2 of 9 photographs failed\n"


@pytest.mark.parametrize("code", ["print('x', flush=True)", "print('x')"], ids=["at once", "at the end"])
def test_a_reader_that_goes_away_is_no_error(code):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = run(code, stdout=writer)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("path", ["photos/cat.jpg", "photos/chat d'été 写真.jpg", "a b.png"])
def test_ordinary_paths_are_shown_as_they_are(path):
    assert errors.shown(path) == path
    assert errors.shown(Path(path)) == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("two\nlines.jpg", r"'two\nlines.jpg'"),
        ("back\rover.jpg", r"'back\rover.jpg'"),
        ("caf\udce9.jpg", r"'caf\udce9.jpg'"),
        ("line\u2028separator.jpg", r"'line\u2028separator.jpg'"),
        ("\x1b[31mred.jpg", r"'\x1b[31mred.jpg'"),
    ],
)
def test_paths_that_would_break_the_line_are_quoted(path, expected):
    assert errors.shown(path) == errors.shown(Path(path)) == expected
    assert len(errors.shown(path).splitlines()) == 1


def test_bytes_that_are_no_text_can_be_shown_and_encoded():
    path = os.fsdecode(b"caf\xe9.jpg")
    assert errors.shown(path).encode("utf-8").decode() == r"'caf\udce9.jpg'"
