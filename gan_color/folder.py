"""Colours any number of photographs, and says what became of each: `gan-color colorize`."""

import dataclasses
import errno
import itertools
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from gan_color import pictures
from gan_color.checkpoint import load_generator
from gan_color.commands import ColorizeConfig
from gan_color.config import NEAR_GREY
from gan_color.data import encode, look, photos
from gan_color.data.photos import Photo
from gan_color.errors import GanColorError, PhotoError, SomeFailed, shown
from gan_color.inference import colorize_batch, device_of, padded_size
from gan_color.jobs import Job, is_file, plan
from gan_color.writing import remove_leftovers, require_writable, write_atomically

# Photographs that pass the network of a GPU together.
_BATCH_ON_GPU = 8
# Read and write while the network colours.
_THREADS = 4
# After these no other file can be written either.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Outcome:
    """What became of a photograph.

    Attributes:
        source: the photograph, or a folder that cannot be listed.
        target: its output.
        result: "coloured", "skipped" (the output exists), "added" (pictures beside an output that exists),
            "in colour" (left out by --skip-colored), "failed".
        notes: what is not as one might expect, each a short phrase.
        error: why it failed.
    """

    source: str
    target: str
    result: str
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class _Work:
    """A photograph between the steps.

    Attributes:
        job: what is asked for.
        wanted: which of its files are to be written.
        photo: what was read.
        in_colour: whether it has colour already.
        coloured: what became of it; None where that is there already.
        on_cpu: whether the GPU's memory did not suffice.
    """

    job: Job
    wanted: frozenset[str]
    photo: Photo
    in_colour: bool
    coloured: Image.Image | None = None
    on_cpu: bool = False


def run(config: ColorizeConfig) -> None:
    """Colour files and folders: `gan-color colorize`.

    Raises:
        UsageError: no input, or an output that is an input or has a suffix that is not written.
        SomeFailed: the others were coloured, or skipped.
    """
    asked = plan(config)
    targets = [job.files["coloured"] for job in asked.jobs]
    one_file = targets == [Path(os.path.expanduser(config.output))]
    require_writable(config.output.parent if one_file else config.output, "--output")
    if config.report:
        require_writable(config.report.parent, "--report")
    generator = load_generator(config.checkpoint, config.device)
    names: dict[Path, set[str]] = {}
    for file in (file for job in asked.jobs for file in job.files.values()):
        names.setdefault(file.parent, set()).add(file.name)
    for folder, written in names.items():
        remove_leftovers(folder, written)
    outcomes = {
        os.fspath(folder): Outcome(os.fspath(folder), "", "failed", error=str(error))
        for folder, error in asked.unlisted.items()
    }
    for outcome in outcomes.values():
        print(f"gan-color: {outcome.error}", file=sys.stderr)
    finished = colour_all(generator, asked.jobs, config, outcomes)
    try:
        for outcome in tqdm(finished, "colouring", len(asked.jobs), unit="photo", disable=None):
            if outcome.error:
                tqdm.write(f"gan-color: {outcome.error}", file=sys.stderr)
    finally:  # after an interrupt or on a full disk, too, it is said what was done
        order = [os.fspath(path) for path in [*asked.unlisted, *(job.source for job in asked.jobs)]]
        told = [outcomes[source] for source in order if source in outcomes]
        print(*_summary(told, len(asked.jobs), asked.left_out, config.output), sep="\n")
        if config.report:
            _write_report(config.report, told, asked.left_out)
    failed = sum(outcome.result == "failed" for outcome in told)
    if failed == len(told):
        raise GanColorError(f"none of {failed} photographs could be coloured")
    if failed:
        raise SomeFailed(f"{failed} of {len(told)} could not be coloured, each named above")


def colour_all(
    generator: nn.Module, jobs: Sequence[Job], config: ColorizeConfig, outcomes: dict[str, Outcome]
) -> Iterator[Outcome]:
    """Colour photographs and write what is asked for of each.

    Three steps, one behind the other: threads read the next photographs and write the last ones while the network
    colours those between. What is not to go on, because it failed or is there already, passes the later steps as
    its outcome.

    Args:
        generator: from `load_generator`, in evaluation mode.
        jobs: from `plan`.
        config: what is asked for of each.
        outcomes: by source; each is put here as soon as it is known, before it is its turn to be yielded.

    Yields:
        The outcomes in the order in which photographs are finished.

    Raises:
        GanColorError: what would fail for every other photograph as well, such as a full disk, or a generator that
            predicts colours that are no numbers.
    """
    batch_size = config.batch_size or (1 if device_of(generator).type == "cpu" else _BATCH_ON_GPU)

    def finish(step: _Work | Outcome) -> Outcome:
        outcome = step if isinstance(step, Outcome) else _write(step)
        outcomes[outcome.source] = outcome
        return outcome

    with ThreadPoolExecutor(_THREADS) as pool:
        read = _ahead(pool, lambda job: _read(job, config), jobs, batch_size)
        yield from _ahead(pool, finish, _coloured(generator, read, batch_size, config), batch_size)


def _ahead(pool: ThreadPoolExecutor, function: Callable, items: Iterable, count: int) -> Iterator[Any]:
    """What the function makes of each item, in order, begun in the pool up to `count` items ahead."""
    begun = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) > count:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _read(job: Job, config: ColorizeConfig) -> _Work | Outcome:
    """Read a photograph of which something is to be written."""
    wanted = frozenset(kind for kind, file in job.files.items() if config.overwrite or not is_file(file))
    if not wanted:
        return _outcome(job, "skipped")
    try:
        photo = photos.read_photo(job.source, keep_gps=not config.drop_gps)
        in_colour = look.mean_chroma(photo.on_white()) >= NEAR_GREY
    except (GanColorError, MemoryError) as error:
        return _failure(job, error)
    if in_colour and config.skip_colored:
        return _outcome(job, "in colour", ("it has colour already: left out",))
    return _Work(job, wanted, photo, in_colour)


def _coloured(
    generator: nn.Module, read: Iterator[_Work | Outcome], batch_size: int, config: ColorizeConfig
) -> Iterator[_Work | Outcome]:
    """Colour what was read, as many together as have one size to the network among `batch_size` photographs."""
    size = config.size or generator.trained_size
    while window := list(itertools.islice(read, batch_size)):
        alike: dict[tuple[int, int], list[_Work]] = {}
        for step in window:
            if isinstance(step, _Work) and "coloured" in step.wanted:
                alike.setdefault(padded_size(step.photo.rgb.size, size), []).append(step)
            else:
                yield step
        for batch in alike.values():
            yield from _colour(generator, batch, config)


def _colour(generator: nn.Module, batch: list[_Work], config: ColorizeConfig) -> list[_Work | Outcome]:
    """Colour photographs of one size to the network; on the CPU where the GPU's memory does not suffice."""
    photographs, name = [work.photo for work in batch], shown(config.checkpoint)
    try:
        together = colorize_batch(generator, photographs, config.size, config.saturation, name)
        return [dataclasses.replace(work, coloured=picture) for work, picture in zip(batch, together, strict=True)]
    except (MemoryError, RuntimeError) as error:  # torch on a CPU and onnxruntime have no word of their own for it
        failed = error.with_traceback(None)  # its frames hold what the network had made so far: the next try needs room
    if len(batch) > 1:
        return [step for work in batch for step in _colour(generator, [work], config)]
    (work,) = batch
    if not isinstance(failed, torch.OutOfMemoryError) or work.on_cpu:
        return [_failure(work.job, failed)]
    device = device_of(generator)
    try:
        return _colour(generator.cpu(), [dataclasses.replace(work, on_cpu=True)], config)
    finally:
        generator.to(device)


def _write(work: _Work) -> Outcome:
    """Write what is asked for of a photograph."""
    files, photo, notes = work.job.files, work.photo, list(work.photo.notes)
    if work.on_cpu:
        notes.append("too large for the GPU's memory: coloured on the CPU")
    if work.in_colour:
        notes.append("it has colour already: only its lightness is used")
    try:
        coloured = work.coloured
        if coloured is None:  # pictures of an output that exists are of that output
            coloured = photos.read_rgb(files["coloured"])
            if coloured.size != photo.rgb.size:
                raise PhotoError(
                    f"{shown(files['coloured'])} has another size than its input: --overwrite colours it anew"
                )
        else:
            data, lost = encode.encode(coloured, files["coloured"], photo.exif, photo.dpi)
            notes += lost
            write_atomically(files["coloured"], data)
        if "compare" in work.wanted:
            drawn = pictures.compare(photo.on_white(), coloured, work.in_colour)
            write_atomically(files["compare"], encode.encode(drawn, files["compare"])[0])
        if "histogram" in work.wanted:
            drawn = pictures.histogram(coloured)
            write_atomically(files["histogram"], encode.encode(drawn, files["histogram"])[0])
    except (GanColorError, MemoryError) as error:
        return _failure(work.job, error)
    return _outcome(work.job, "added" if work.coloured is None else "coloured", tuple(notes))


def _outcome(job: Job, result: str, notes: tuple[str, ...] = (), error: str | None = None) -> Outcome:
    return Outcome(os.fspath(job.source), os.fspath(job.files["coloured"]), result, notes, error)


def _failure(job: Job, error: Exception) -> Outcome:
    """The outcome of a photograph that failed; raises what would fail for every other one as well."""
    if getattr(error.__cause__, "errno", None) in _FATAL:
        raise error
    if isinstance(error, GanColorError):
        return _outcome(job, "failed", error=str(error))
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    return _outcome(job, "failed", error=f"{shown(job.source)}: {reason}; lower --size")


def _summary(outcomes: list[Outcome], asked: int, left_out: list[Path], output: Path) -> list[str]:
    """What the user reads at the end: counts, and the notes with the files that they are about."""
    counts = Counter(outcome.result for outcome in outcomes)
    lines = [f"coloured {counts['coloured']} of {asked} into {shown(output)}"]
    if counts["added"]:
        lines.append(f"added pictures beside {counts['added']} outputs that exist")
    if counts["skipped"]:
        lines.append(f"skipped {counts['skipped']}, whose outputs exist; --overwrite colours them again")
    about: dict[str, list[str]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            about.setdefault(note, []).append(outcome.source)
    if left_out:
        about["not named as a photograph: left out"] = [os.fspath(path) for path in left_out]
    for note, files in about.items():
        named = ", ".join(shown(Path(file).name) for file in files[:5])
        lines.append(f"{len(files)}: {note} ({named}{', ...' if len(files) > 5 else ''})")
    return lines


def _write_report(path: Path, outcomes: list[Outcome], left_out: list[Path]) -> None:
    counts = Counter(outcome.result for outcome in outcomes)
    report = {result: counts[result] for result in ("coloured", "added", "skipped", "in colour", "failed")}
    report["left_out"] = [os.fspath(file) for file in left_out]
    report["photographs"] = [dataclasses.asdict(outcome) for outcome in outcomes]
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
