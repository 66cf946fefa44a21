"""Reads batches in background processes, and outlives them."""

import atexit
import itertools
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gan_color.errors import GanColorError, PhotoError, shown

# Seconds between looks at workers that let a batch wait, and until such a wait is an error.
_LOOK_EVERY, _PATIENCE = 5, 300


def loader(
    dataset: Dataset, batches: Iterable, workers: int, pin_memory: bool = False, collate: Callable | None = None
) -> DataLoader:
    """Load batches in the background; to be read by `read`.

    Args:
        dataset: `dataset[item]` is what is loaded of an item, `dataset.path_of(item)` the file it is read from.
        batches: yields the items of each batch, such as a `RunOrder`; each time it is iterated the same.
        workers: processes that load; 0 = this one.
        pin_memory: lay batches where a GPU copies them from without waiting.
        collate: makes a batch of the list of what was loaded; None = tensors are stacked.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        collate_fn=collate,
        worker_init_fn=_leave_signals_to_the_run,
        prefetch_factor=4 if workers else None,
        timeout=_LOOK_EVERY if workers else 0,
        # Its own, so that beginning to load draws nothing from the random numbers of training.
        generator=torch.Generator(),
    )


def _leave_signals_to_the_run(_: int) -> None:
    """A SIGTERM to every process of a run must not take the workers from under the last step."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def _end_workers(workers: list | None = None) -> None:
    """The interpreter would end them with SIGTERM, which they ignore, and wait for ever."""
    for child in multiprocessing.active_children() if workers is None else workers:
        if child.daemon:
            child.kill()


def read(batches: DataLoader) -> Iterator[Any]:
    """Iterate a loader. When a worker dies the loading begins anew, once, at the batch that is due.

    Raises:
        PhotoError: a photograph could be read before the run, but no longer.
        GanColorError: workers die again, or one has not read its batch in five minutes.
    """
    done, restarted = 0, False
    while True:
        # Batches are a function of their number, so that what is read again is what was lost.
        rest = itertools.islice(batches.batch_sampler, done, None)
        again = loader(batches.dataset, rest, batches.num_workers, batches.pin_memory, batches.collate_fn)
        before, handler = multiprocessing.active_children(), signal.getsignal(signal.SIGCHLD)
        iterator = iter(again)
        workers = [child for child in multiprocessing.active_children() if child not in before]
        if workers:
            # torch's own handler, which it sets in the main thread, would raise at once when a worker dies, in the
            # middle of a step.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, handler if callable(handler) else signal.SIG_DFL)
            # Once, and only now: before what torch registered for the workers it has just begun.
            atexit.unregister(_end_workers)
            atexit.register(_end_workers)
        try:
            while True:
                try:
                    batch = _wait_for(iterator, batches, done)
                except StopIteration:
                    return
                yield batch
                done += 1
        except _WorkerDied as error:
            _end_workers(workers)
            if restarted:
                raise GanColorError(
                    f"processes that load photographs die ({error}): memory or shared memory may be too small; take "
                    "fewer --workers, or --workers 0"
                ) from None
            restarted = True
            tqdm.write(f"a process that loads photographs died ({error}): loading begins anew at the same batch")


class _WorkerDied(Exception):
    """A loading process is no more."""


def _wait_for(iterator: Iterator, batches: DataLoader, done: int) -> Any:
    """The next batch, with torch's words for what can go wrong turned into ours."""
    for waited in itertools.count(_LOOK_EVERY, _LOOK_EVERY):
        try:
            return next(iterator)
        except PhotoError as error:
            # torch wraps a worker's error in its traceback, the message being the last line.
            last = str(error).strip().splitlines()[-1]
            raise PhotoError(last.removeprefix("gan_color.errors.PhotoError: ")) from None
        except RuntimeError as error:
            said = str(error)
            if "exited unexpectedly" in said or "killed by signal" in said:
                raise _WorkerDied(said.splitlines()[0]) from None
            if "/torch_" in said:  # the file in shared memory that a batch travels in
                raise GanColorError(
                    f"shared memory is full ({said.strip().splitlines()[-1]}): take --workers 0, or give the machine "
                    "more of /dev/shm"
                ) from None
            if "timed out" not in said:
                raise
            if waited >= _PATIENCE:
                (items,) = itertools.islice(batches.batch_sampler, done, done + 1)
                paths = dict.fromkeys(shown(batches.dataset.path_of(item)) for item in items)
                raise GanColorError(
                    f"no batch in {waited} seconds; its photographs are {', '.join(paths)}: see whether their drive "
                    "answers, then go on with --resume"
                ) from None
    raise AssertionError
