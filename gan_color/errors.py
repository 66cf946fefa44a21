"""Errors that a user can mend: one line that says what, where, and the cure."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


class GanColorError(Exception):
    """Something the user can mend. Shown as one line; the process ends with code 1."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (a hook of IPython): the one line, too."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(GanColorError):
    """Options that are unknown, out of range or contradict each other (exit code 2)."""

    exit_code = 2


class PhotoError(GanColorError):
    """A file that cannot be read as a photograph; the message begins with its path."""


class DataError(GanColorError):
    """A data set that is missing, empty or unfit to train on."""


class CheckpointError(GanColorError):
    """A generator or a training state that cannot be loaded; says which file and the cure."""


class WriteError(GanColorError):
    """A file that cannot be written now, as on a full disk; what was there before still is."""


class SomeFailed(GanColorError):
    """The work was finished, but some of its inputs failed (exit code 3)."""

    exit_code = 3


class Stopped(GanColorError):
    """A signal ended the run after its state was saved (exit code 128 + signal)."""

    def __init__(self, signum: int, message: str):
        super().__init__(signum, message)
        self.exit_code = 128 + signum

    def __str__(self) -> str:
        return self.args[1]


def shown(path: os.PathLike | str) -> str:
    """A path as it may stand in one line: quoted when it holds newlines or bytes that are no text."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


@contextlib.contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """End the process with one line on stderr and the right exit code instead of a traceback.

    Args:
        program: name that begins the line, such as `train_gan.py`.
    """
    try:
        yield
    except GanColorError as error:
        line = str(error).replace("\r", "\\r").replace("\n", "\\n")  # an option's value may hold them
        print(f"{program}: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would fall into the ending of the process
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is left to say, nor anywhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
