"""Colours any number of photographs: finds them, pairs each with its output, and says what became of each."""

import dataclasses
import errno
import json
import os
import stat
import sys
from collections import Counter
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from torch import nn
from tqdm import tqdm

from gan_color import pictures
from gan_color.checkpoint import load_generator, require_writable, write_atomically
from gan_color.config import ColorizeConfig
from gan_color.data import encode, photos, scan, sources
from gan_color.errors import GanColorError, PhotoError, SomeFailed, UsageError, shown
from gan_color.inference import colorize

# Mean chroma, Lab units, from which a photograph counts as one in colour; training leaves out those below.
_IN_COLOUR = 4.0
# Written beside an output, behind its name.
_COMPARE, _HISTOGRAM = ".compare.png", ".histogram.png"
# After these no other file can be written either.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Job:
    """A photograph and the file that its coloured version is written to."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a photograph.

    Attributes:
        source: the photograph.
        target: its output.
        result: "coloured", "skipped" (the output exists), "added" (pictures beside an output that exists), "failed".
        notes: what is not as one might expect, each a short phrase.
        error: why it failed.
    """

    source: str
    target: str
    result: str
    notes: tuple[str, ...] = ()
    error: str | None = None


def run(config: ColorizeConfig) -> None:
    """Colour files and folders: `gan-color colorize`.

    One photograph at a time: they rarely have one size, and on a CPU a batch is hardly faster.

    Raises:
        UsageError: no input, or an output that is an input or has a suffix that is not written.
        SomeFailed: the others were coloured, or skipped.
    """
    jobs, left_out = plan(config)
    one_file = len(jobs) == 1 and jobs[0].target == Path(os.path.expanduser(config.output))
    require_writable(config.output.parent if one_file else config.output, "--output")
    if config.report:
        require_writable(config.report.parent, "--report")
    generator = load_generator(config.checkpoint, config.device)
    outcomes = []
    try:
        for job in tqdm(jobs, "colouring", unit="photo", disable=None):
            outcome = _colour(generator, job, config)
            if outcome.error:
                tqdm.write(f"gan-color: {outcome.error}", file=sys.stderr)
            outcomes.append(outcome)
    finally:  # after an interrupt or on a full disk, too, it is said what was done
        print(*_summary(outcomes, len(jobs), left_out, config.output), sep="\n")
        if config.report:
            _write_report(config.report, outcomes, left_out)
    counts = Counter(outcome.result for outcome in outcomes)
    if counts["failed"] == len(outcomes):
        raise GanColorError(f"none of {len(outcomes)} photographs could be coloured")
    if counts["failed"]:
        raise SomeFailed(f"{counts['failed']} of {len(outcomes)} photographs could not be coloured, each named above")


def plan(config: ColorizeConfig) -> tuple[list[Job], list[Path]]:
    """Pair each photograph with an output of its own, before anything is coloured.

    A file's output has its name; a folder's outputs have their paths inside it. A format that is not written gets
    .png behind its name (`a.gif` becomes `a.gif.png`), and where two photographs of different folders would have
    one output, the later one gets a number (`a-2.jpg`).

    Args:
        config: its inputs, output, compare and histogram are read.

    Returns:
        The jobs in the order of the inputs, and the files in folders that are not named as photographs.

    Raises:
        UsageError: nothing to colour, an output that is one of the inputs, or a suffix that is not written.
        DataError: a folder cannot be listed or holds no photograph.
    """
    output = Path(os.path.expanduser(config.output))
    found, left_out = _find(_listed(config.inputs), output)
    if not found:
        raise UsageError("nothing to colour: give photographs, a folder, or `samples`")
    companions = _companions(config)
    is_one_file = len(found) == 1 and not _is_folder(Path(os.path.expanduser(config.inputs[0])))
    if is_one_file and output.suffix and not _is_folder(output):
        encode.format_of(output)
        jobs = [Job(next(iter(found)), output)]
    elif output.suffix.lower() in photos.SUFFIXES and not _is_folder(output):
        raise UsageError(f"--output {shown(config.output)} is the name of one picture: name a folder for several")
    else:
        jobs = _distinct([Job(source, output / place) for source, place in found.items()], companions)
    inputs = [status for job in jobs if (status := _status(job.source))]
    inodes = {(status.st_dev, status.st_ino) for status in inputs}
    written = [file for job in jobs for file in _files(job.target, companions)]
    for option, file in [("--output", file) for file in written] + [("--report", config.report)] * bool(config.report):
        status = _status(file)
        if status and (status.st_dev, status.st_ino) in inodes:
            raise UsageError(f"{option}: {shown(file)} is an input itself; write elsewhere")
    if config.report and (config.report in written or (config.report.suffix != ".json" and _status(config.report))):
        raise UsageError(f"--report {shown(config.report)} is another file: name one that ends in .json")
    return jobs, left_out


def _companions(config: ColorizeConfig) -> list[str]:
    """What is asked for beside each output, as what its name gets behind it."""
    return [_COMPARE] * config.compare + [_HISTOGRAM] * config.histogram


def _listed(inputs: tuple[str, ...]) -> list[str]:
    """The inputs, with `-` replaced by the paths on standard input and patterns by what they match."""
    listed = []
    for given in inputs:
        if given == "-":
            data = sys.stdin.buffer.read()
            lines = data.split(b"\0") if b"\0" in data else data.splitlines()
            listed += [os.fsdecode(line) for line in lines if line]
        elif has_magic(given) and not os.path.lexists(given):
            pattern = os.path.expanduser(given)
            matches = sorted(glob(pattern, recursive=True), key=os.fsencode)  # noqa: PTH207 (takes absolute patterns)
            if not matches:
                raise UsageError(f"{shown(given)} matches no file")
            listed += matches
        else:
            listed.append(given)
    return listed


def _find(inputs: list[str], output: Path) -> tuple[dict[Path, Path], list[Path]]:
    """Each photograph with its place inside the output folder, once; and the other files of folders."""
    found, left_out = {}, []
    for given in inputs:
        path = Path(os.path.expanduser(given))
        if given == "samples" and not _status(path):
            train, val = sources.samples()
            found |= {photo: Path(f"{photo.stem}.png") for photo in train + val}
        elif _is_folder(path):
            # Outputs of an earlier run that lie inside the input are no inputs.
            earlier, here = os.path.realpath(output), os.path.realpath(path)
            inside = earlier != here and Path(earlier).is_relative_to(here)
            files = [
                file
                for file in photos.walk(path)
                if not (inside and Path(os.path.realpath(file)).is_relative_to(earlier))
            ]
            chosen = [file for file in files if file.suffix.lower() in photos.SUFFIXES]
            if not chosen:
                photos.find_photos(path)  # says what a folder should hold
                raise UsageError(f"{shown(path)} holds no photographs but those in --output {shown(output)}")
            left_out += sorted(set(files) - set(chosen), key=os.fsencode)
            for file in chosen:
                found.setdefault(file, file.relative_to(path))
        else:
            found.setdefault(path, Path(path.name))
    return {source: place.with_name(encode.writable_name(place.name)) for source, place in found.items()}, left_out


def _distinct(jobs: list[Job], companions: list[str]) -> list[Job]:
    """Give a number to each target that an earlier job has; a job's companions are targets of its own."""
    natural = Counter(job.target for job in jobs)
    taken, distinct = set(), []
    for job in jobs:
        target, number = job.target, 1
        while not taken.isdisjoint(_files(target, companions)) or (number > 1 and target in natural):
            number += 1
            target = job.target.with_stem(f"{job.target.stem}-{number}")
        taken.update(_files(target, companions))
        distinct.append(Job(job.source, target))
    return distinct


def _files(target: Path, companions: list[str]) -> list[Path]:
    return [target, *(target.with_name(target.name + companion) for companion in companions)]


def _status(path: Path) -> os.stat_result | None:
    """What the file system says of a path; None where nothing can be found out."""
    try:
        return path.stat()
    except OSError:
        return None


def _is_folder(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _is_file(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def _colour(generator: nn.Module, job: Job, config: ColorizeConfig) -> Outcome:
    """Colour one photograph and write what is asked for and not yet there."""
    source, target = os.fspath(job.source), os.fspath(job.target)
    wanted = [file for file in _files(job.target, _companions(config)) if config.overwrite or not _is_file(file)]
    if not wanted:
        return Outcome(source, target, "skipped")
    try:
        photo = photos.read_photo(job.source, keep_gps=not config.drop_gps)
        if job.target in wanted:
            coloured = colorize(generator, photo, config.size, config.saturation)
        else:  # pictures of an output that exists are of that output
            coloured = photos.read_rgb(job.target)
        notes, seen = list(photo.notes), photo.on_white()
        in_colour = scan.mean_chroma(seen) >= _IN_COLOUR
        if in_colour:
            notes.append("it has colour already: only its lightness is used")
        if job.target in wanted:
            data, lost = encode.encode(coloured, job.target, photo.exif)
            notes += lost
            write_atomically(job.target, data)
        for file in wanted:
            if file != job.target:
                is_comparison = file.name.endswith(_COMPARE)
                drawn = pictures.compare(seen, coloured, in_colour) if is_comparison else pictures.histogram(coloured)
                write_atomically(file, encode.encode(drawn, file)[0])
    except PhotoError as error:
        return Outcome(source, target, "failed", error=str(error))
    except (MemoryError, RuntimeError) as error:  # torch on a CPU and onnxruntime have no word of their own for it
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        return Outcome(source, target, "failed", error=f"{shown(source)}: {reason}; lower --size")
    except GanColorError as error:
        if getattr(error.__cause__, "errno", None) in _FATAL:
            raise
        return Outcome(source, target, "failed", error=str(error))
    return Outcome(source, target, "coloured" if job.target in wanted else "added", tuple(notes))


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
    report = {result: counts[result] for result in ("coloured", "added", "skipped", "failed")}
    report["left_out"] = [os.fspath(file) for file in left_out]
    report["photographs"] = [dataclasses.asdict(outcome) for outcome in outcomes]
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
