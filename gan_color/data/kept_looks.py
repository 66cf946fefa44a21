"""What was seen of files that have not changed since, kept between runs: a look at each costs milliseconds."""

import os
import sqlite3
import struct
from pathlib import Path

import PIL
from tqdm import tqdm

from gan_color.data.look import Look

# Raised when what is seen of a file changes; another Pillow may see something else as well.
_VERSION = 1
# Seconds for which a file must have been left alone: a second change within one tick of the clock leaves no mark.
_SETTLED = 2
# Looks that are written together, and seconds to wait for another run that writes.
_TOGETHER, _PATIENCE = 2000, 30

# What tells a file from any other, and what no change of it leaves as it is.
Mark = tuple[bytes, bytes]


def folder() -> Path:
    """Where this machine keeps them: `gan_color` in $XDG_CACHE_HOME, which is ~/.cache where it is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gan_color"


def mark(file: bytes, now: int) -> Mark | None:
    """The device and inode of a file; its size and its times of change. None where there is no file, or a fresh one.

    Args:
        file: its path.
        now: nanoseconds since 1970, before it is looked at.
    """
    try:
        at = os.stat(file)  # noqa: PTH116 (bytes)
    except (OSError, ValueError):
        return None
    if now - at.st_ctime_ns < _SETTLED * 10**9:
        return None
    return struct.pack("<QQ", at.st_dev, at.st_ino), struct.pack("<qqq", at.st_size, at.st_mtime_ns, at.st_ctime_ns)


class KeptLooks:
    """A table of looks by mark. An aid and no more: where it cannot be read or written, files are looked at."""

    def __init__(self):
        self._table, self._waiting, self._place = None, [], "~/.cache"
        try:
            self._place = folder()
            self._place.mkdir(parents=True, exist_ok=True)
            path = self._place / f"looks-{_VERSION}-pillow-{PIL.__version__}.sqlite"
            self._table = sqlite3.connect(path, timeout=_PATIENCE)
            self._table.execute(
                "CREATE TABLE IF NOT EXISTS looks (file BLOB PRIMARY KEY, state BLOB, digest BLOB, chroma REAL, "
                "format TEXT, width INT, height INT) WITHOUT ROWID"
            )
        except (OSError, RuntimeError, sqlite3.Error) as error:  # RuntimeError: this user has no home
            self._give_up(error)

    def find(self, file: bytes, its: Mark) -> Look | None:
        """The look at a file that has this mark; all are found before any is kept."""
        if self._table is None:
            return None
        try:
            if not self._table.in_transaction:
                self._table.execute("BEGIN")  # one lock for all
            row = self._table.execute(
                "SELECT digest, chroma, format, width, height FROM looks WHERE file = ? AND state = ?", its
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return row and Look(file, row[0].hex(), row[1], stored=row[2:])

    def keep(self, look: Look, its: Mark) -> None:
        """Keep the look at a file that had this mark before it was looked at; errors may pass, and are not kept."""
        if not look.error:
            self._waiting.append((*its, bytes.fromhex(look.digest), look.chroma, *look.stored))
            if len(self._waiting) >= _TOGETHER:
                self.flush()

    def flush(self) -> None:
        """Write what is still to be written, and let others write."""
        if self._table is not None:
            try:
                with self._table:
                    self._table.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?, ?)", self._waiting)
            except sqlite3.Error as error:
                self._give_up(error)
        self._waiting.clear()

    def close(self) -> None:
        """Flush, and close the file."""
        self.flush()
        if self._table is not None:
            self._table.close()

    def _give_up(self, error: Exception) -> None:
        self._table = None
        tqdm.write(f"looks at photographs are not kept in {self._place} ({error}): every start looks at each file anew")
