"""Files that are whole or not there: written beside their place, flushed to the disk, and renamed."""

import contextlib
import os
import re
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from gan_color.errors import UsageError, WriteError, shown

# What the user takes away from new files' permissions; to read it is to set it.
_UMASK = os.umask(0o022)
os.umask(_UMASK)

# A file that is being written: so much of its name, the process that writes it, and what mkstemp adds.
_NAME = 40
_TEMPORARY = re.compile(rf"\.(.{{1,{_NAME}}})\.(\d{{1,9}})\.[a-z0-9_]{{8}}\.tmp", re.DOTALL)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old one or the new one, whole.

    Args:
        path: where to; its folder is made if missing.
        data: the whole content.

    Raises:
        WriteError: it cannot be written; what was there before still is.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(
            prefix=f".{path.name[:_NAME]}.{os.getpid()}.", suffix=".tmp", dir=path.parent
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_UMASK)  # mkstemp makes files that only their owner can read
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        temporary = None
        _flush_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{shown(path)} cannot be written: {error.strerror}") from error
    finally:  # also when a signal ended the writing
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a crash. FUSE and SMB may refuse; the file is there all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append_whole(path: Path, data: bytes) -> None:
    """Add to the end of a file all of the data or nothing of it.

    Args:
        path: made if missing; the folder is not.
        data: what is added, in one piece.

    Raises:
        WriteError: it cannot be added; the file is as it was.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError:
                os.ftruncate(descriptor, size)  # half a record would hide all that come after it
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WriteError(f"{shown(path)} cannot be written: {error.strerror}") from error


def remove_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what processes left in a folder that were killed while they wrote a file there.

    Args:
        folder: need not be there. Nothing in it that another running process writes is touched.
        names: of the files that may be removed half written; None = any.
    """
    starts = None if names is None else {name[:_NAME] for name in names}
    try:
        paths = list(folder.iterdir())
    except OSError:
        return
    for path in paths:
        temporary = _TEMPORARY.fullmatch(path.name)
        if temporary and (starts is None or temporary[1] in starts) and not _is_running(int(temporary[2])):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_running(pid: int) -> bool:
    """Whether another process has this id; this one may well have a dead one's: a container's ids begin anew."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def require_writable(folder: Path, option: str) -> None:
    """Find out before long work whether files can be made in a folder to be, leaving nothing there.

    Args:
        folder: it, or the nearest folder above it that exists, is tried.
        option: the option that named it, for the message.

    Raises:
        UsageError: no file can be made there.
    """
    there = folder.absolute()
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"{option} {shown(folder)} cannot be written ({reason}): give another place") from error


def require_new(out: Path | None, names: Sequence[str], json: Path | None, overwrite: bool) -> None:
    """Find out before long work whether a report's files can be written, and stand in no other's place.

    Args:
        out: what `--out` names, a folder; None = nothing is written there.
        names: of the files that go into it.
        json: what `--json` names, a file; None = it is not written.
        overwrite: whether files that exist may be written over.

    Raises:
        UsageError: a file is there already, or cannot be written.
    """
    files = [("--out", out / name) for name in names] if out else []
    files += [("--json", json)] if json else []
    for option, file in files:
        require_writable(file.parent, option)
        if os.path.lexists(file) and not overwrite:
            raise UsageError(f"{option}: {shown(file)} is there already: name another place, or give --overwrite")
