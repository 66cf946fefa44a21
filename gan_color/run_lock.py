"""One run at a time in a run folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gan_color.errors import UsageError, shown


@contextlib.contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold a run folder, so that no second run writes into it.

    The kernel frees the lock when this process ends, however it ends; a POSIX lock, so that loading processes that
    outlive a killed run for a moment do not hold it. Where the file system knows no locks there is none.

    Args:
        run: the run folder; made if missing, and removed again if nothing was written.

    Raises:
        UsageError: another process holds it; says which.
    """
    path = run / ".lock"
    with _locked(path) as file:
        with contextlib.suppress(OSError):  # a full disk
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                run.rmdir()


def _locked(path: Path) -> BinaryIO:
    """Open the lock file of a run folder and lock it."""
    run = path.parent
    while True:
        try:
            run.mkdir(parents=True, exist_ok=True)
            file = path.open("ab+", buffering=0)
        except OSError as error:
            raise UsageError(f"--out {shown(run)} cannot be written ({error.strerror}): give another place") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            with file:
                file.seek(0)
                holder = file.read().decode(errors="replace").strip() or "another process"
            raise UsageError(f"{shown(run)} is in use by {holder}: wait for it, or give another --out") from error
        except OSError:
            return file
        # A run that ended in between has removed the file it was opened as: a third one would make its own.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
