"""Copies of a run in a second place, such as Google Drive, for machines that vanish.

A copy is a folder of its own, `0007-step-00001234`: numbered, so that no name is ever written twice (a drive that
synchronises in the background makes `name (1)` of such), and complete once its `manifest.json`, written last, names
every file with a SHA-256 that fits. Everything else in the target is left alone.
"""

import codecs
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from gan_color import checkpoint
from gan_color.errors import GanColorError, shown
from gan_color.writing import write_atomically

# Whole copies that stay: the newest may not have reached the other side yet.
_KEEP = 2
_COPY_NAME = re.compile(r"(\d{4,})-step-(\d{8,})")
# What a manifest may name: files of the run folder and of these folders in it, and none outside.
_FILE_NAME = re.compile(r"((generator|best|snapshots/step-\d+|samples|state)/)?[^./][^/]*")


def copy_run(run: Path, target: Path) -> Path | None:
    """Copy what a run needs to go on, read the copy back, then drop all but the two newest whole copies.

    Of the sample grids only the newest go along: the event files hold them all. A run may be copied while it trains.

    Args:
        run: the run folder.
        target: folder of this run's copies; it is made if missing, the folder it lies in is not.

    Returns:
        The new copy; None when there is no saved state yet, or its copy is there and whole.

    Raises:
        GanColorError: the target's folder is not there, or the copy cannot be written or does not read back; the
            earlier copies are still there.
    """
    require_reachable(target)
    with _one_line_errors(f"{shown(run)} cannot be copied to {shown(target)}"):
        state, data = next(checkpoint.whole_states(run), (None, None))
        if state is None:
            return None
        copies = _copies(target)
        if copies and _whole_files(copies[-1]).get(f"state/{state.name}") == hashlib.sha256(data).hexdigest():
            return None
        number = int(_COPY_NAME.fullmatch(copies[-1].name)[1]) + 1 if copies else 1
        copy = target / f"{number:04d}-{state.stem}"
        # The state's digest comes last, here and when it is brought back: with it the rest is there.
        grids = {grid.name.rsplit("-")[0]: grid for grid in sorted((run / "samples").glob("[!.]*.png"))}
        generators = [run / "generator", run / "best", *sorted((run / "snapshots").glob("step-*"))]
        sources = [*run.glob("[!.]*"), *(path for folder in generators for path in folder.glob("[!.]*"))]
        sources += grids.values()
        sources += [state, checkpoint.digest_path(state)]
        names = [path.relative_to(run).as_posix() for path in sources if path.is_file()]
        digests = {name: _copy_file(run / name, copy / name) for name in names}
        write_atomically(copy / "manifest.json", (json.dumps({"files": digests}, indent=2)).encode())
        if not _whole_files(copy):
            raise GanColorError(f"{shown(copy)} does not read back as it was written: the earlier copies are kept")
        _prune(target, _step(copy))
        return copy


def restore_run(target: Path, run: Path) -> Path | None:
    """Bring the newest whole copy back, unless the run folder itself is as far.

    Args:
        target: folder of this run's copies.
        run: the run folder; made if missing.

    Returns:
        The copy that was brought back; None when nothing was to be done.

    Raises:
        GanColorError: there are copies and none is whole, or the run folder cannot be written.
    """
    require_reachable(target)
    here = next(checkpoint.whole_states(run), None)
    with _one_line_errors(f"{shown(run)} cannot be brought back from {shown(target)}"):
        copies = [copy for copy in reversed(_copies(target)) if (copy / "manifest.json").is_file()]
        for copy in copies:
            if here and int(here[0].stem.removeprefix("step-")) >= _step(copy):
                return None
            files = _whole_files(copy)
            for name in files:
                _copy_file(copy / name, run / name)
            if files:
                return copy
    if copies and not here:
        raise GanColorError(
            f"none of the {len(copies)} copies in {shown(target)} is whole: wait until the drive has caught up, or "
            "give the run another name to start anew"
        )
    return None


def continue_run(run: Path, target: Path) -> list[str]:
    """Make ready to start a run or to go on with it, whatever was cut off before.

    Args:
        run: the run folder. Left without a saved state by a run that died early, it is put aside under another name.
        target: folder of this run's copies.

    Returns:
        Options for the stage: `["--resume"]`, or none for a new run.

    Raises:
        GanColorError: as `restore_run`.
    """
    copy = restore_run(target, run)
    if copy:
        print(f"brought back {shown(copy)}")
    if next(checkpoint.whole_states(run), None):
        return ["--resume"]
    if run.is_dir() and any(run.iterdir()):
        number = next(i for i in range(1, 10**6) if not run.with_name(f"{run.name}.unsaved-{i}").exists())
        run.rename(run.with_name(f"{run.name}.unsaved-{number}"))
    return []


@contextlib.contextmanager
def keep_copying(run: Path, target: Path, every: float = 1800) -> Iterator[None]:
    """Copy a run from time to time while the body trains it, and once more at its end, however it ends.

    A copy that fails on the way is said and tried again later: training goes on.

    Args:
        run: the run folder; it need not be there yet.
        target: folder of this run's copies.
        every: seconds between copies.

    Raises:
        GanColorError: the target's folder is not there, or the last copy failed.
    """
    require_reachable(target)
    ended = threading.Event()

    def copy_from_time_to_time() -> None:
        while not ended.wait(every):
            try:
                copy_run(run, target)
            except GanColorError as error:
                print(f"no copy this time, the next in {every:.0f} s: {error}")

    copying = threading.Thread(target=copy_from_time_to_time, daemon=True)
    copying.start()
    try:
        yield
    finally:
        ended.set()
        copying.join()
        copy = copy_run(run, target)
        if copy:
            print(f"copied to {shown(copy)}")


@contextlib.contextmanager
def _one_line_errors(what: str) -> Iterator[None]:
    """What a drive refuses, as a line that a user can read."""
    try:
        yield
    except OSError as error:
        raise GanColorError(f"{what}: {error.strerror or error}") from error


def train(stage: str, options: list[str], run: Path, target: Path, every: float = 1800) -> None:
    """Train a stage from a notebook: go on with its run if there is one, show its output, copy it meanwhile.

    The stage is a process with a terminal of its own. An interrupt is handed on to it, and waited for while it saves;
    when the notebook's kernel dies, the terminal hangs up, which makes it save and end, too.

    Args:
        stage: `pretrain` or `gan`.
        options: of the stage, without `--out` and `--resume`.
        run: the run folder.
        target: folder of this run's copies.
        every: seconds between copies.

    Raises:
        GanColorError: the stage did not finish, or as `continue_run` and `keep_copying`.
    """
    import fcntl
    import pty
    import termios

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)  # a notebook in the background ignores them, the stage must not

    command = [sys.executable, "-m", "gan_color", stage, *options, "--out", str(run), *continue_run(run, target)]
    with keep_copying(run, target, every):
        ours, its = pty.openpty()
        termios.tcsetwinsize(ours, (24, 100))
        process = subprocess.Popen(
            command,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(its)
        with open(ours, "rb", buffering=0) as output:  # noqa: PTH123
            try:
                _show(output)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                _show(output)
            code = process.wait()
    if code:
        raise GanColorError(f"{stage} has not finished: the lines above say why; run it again to go on")


def _show(output: io.RawIOBase) -> None:
    """Print what a process writes to its terminal until it ends."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with contextlib.suppress(OSError):  # Linux's word for a terminal that nobody writes to any more
        while data := output.read(4096):
            print(decoder.decode(data).replace("\r\n", "\n"), end="", flush=True)


def require_reachable(target: Path) -> None:
    """Refuse a target whose parent is missing: a drive that is not mounted must not become a folder of that name.

    Raises:
        GanColorError: it is missing.
    """
    if not target.parent.is_dir():
        raise GanColorError(f"there is no folder {shown(target.parent)} for the copies: mount the drive, or make it")


def _copies(target: Path) -> list[Path]:
    """The copies in the target, whole or not, oldest first."""
    if not target.is_dir():
        return []
    found = [path for path in target.iterdir() if _COPY_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(_COPY_NAME.fullmatch(path.name)[1]))


def _step(copy: Path) -> int:
    return int(_COPY_NAME.fullmatch(copy.name)[2])


def _whole_files(copy: Path) -> dict[str, str]:
    """The files of a copy and their SHA-256, in the order they were written; none unless all are as they were."""
    try:
        files = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))["files"]
        for name, digest in files.items():
            if not _FILE_NAME.fullmatch(name):
                return {}
            with (copy / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return files


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file whole; returns its SHA-256, hex."""
    data = source.read_bytes()
    write_atomically(target, data)
    return hashlib.sha256(data).hexdigest()


def _prune(target: Path, step: int) -> None:
    """Delete copies beyond the newest whole ones, but none that is further than the one just made."""
    kept = 0
    for copy in reversed(_copies(target)):
        if _step(copy) > step:
            continue
        if kept < _KEEP and _whole_files(copy):
            kept += 1
        else:
            shutil.rmtree(copy, ignore_errors=True)
