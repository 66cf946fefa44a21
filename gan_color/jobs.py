"""What `colorize` is asked for: finds the photographs, and pairs each with outputs of its own."""

import os
import stat
import sys
from collections import Counter
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from gan_color.commands import ColorizeConfig
from gan_color.data import encode, photos, sources
from gan_color.errors import DataError, UsageError, shown

# What stands behind an output's name in the name of a picture beside it.
_BESIDE = {"compare": ".compare.png", "histogram": ".histogram.png"}


@dataclass(frozen=True)
class Job:
    """A photograph and what is written of it.

    Attributes:
        source: the photograph.
        files: where its "coloured" version goes, and the pictures asked for beside it, "compare" and "histogram".
    """

    source: Path
    files: dict[str, Path]


@dataclass(frozen=True)
class Plan:
    """What a command is to do.

    Attributes:
        jobs: in the order of the inputs.
        left_out: files in folders that are not named as photographs, and pictures of an earlier run beside theirs.
        unlisted: subfolders that cannot be listed, with the reason.
    """

    jobs: list[Job]
    left_out: list[Path]
    unlisted: dict[Path, DataError]


def plan(config: ColorizeConfig) -> Plan:
    """Pair each photograph with outputs of its own, before anything is coloured.

    A file's output has its name; a folder's outputs have their paths inside it. A format that is not written gets
    .png behind its name (`a.gif` becomes `a.gif.png`). Photographs of several inputs that would have one output
    all get the name of their folder in front (`a/x.jpg`, `b/x.jpg`), and more of its path where that is equal too.
    What comes where follows from the inputs alone.

    Args:
        config: its inputs, output, compare, histogram and report are read.

    Raises:
        UsageError: nothing to colour, an output that is one of the inputs, or a suffix that is not written.
        DataError: a folder cannot be listed or holds no photograph.
    """
    output = Path(os.path.expanduser(config.output))
    inputs = _listed(config.inputs)
    found, left_out, unlisted = _find(inputs, output)
    if not found and not unlisted:
        raise UsageError("nothing to colour: give photographs, a folder, or `samples`")
    is_one_file = len(found) == 1 and not any(_is_folder(path) for path in inputs)
    if is_one_file and output.suffix and not _is_folder(output):
        encode.format_of(output)
        jobs = [Job(next(iter(found)), _files(output, config))]
    elif output.suffix.lower() in photos.SUFFIXES and not _is_folder(output):
        raise UsageError(f"--output {shown(config.output)} is the name of one picture: name a folder for several")
    else:
        jobs = _distinct(found, output, config)
    _require_apart(jobs, config)
    return Plan(jobs, left_out, unlisted)


def is_file(path: Path) -> bool:
    """Whether there is a regular file of this name, however odd the name."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def _listed(inputs: tuple[str, ...]) -> list[Path]:
    """The inputs, with `samples`, patterns and `-` (paths on standard input) replaced by what they stand for."""
    listed = []
    for given in inputs:
        if given == "-":
            data = sys.stdin.buffer.read()
            lines = data.split(b"\0") if b"\0" in data else data.splitlines()
            listed += [Path(os.fsdecode(line)) for line in lines if line]
        elif os.path.lexists(given):
            listed.append(Path(given))
        elif given == "samples":
            listed += [photo for part in sources.samples() for photo in part]
        elif has_magic(given):
            pattern = os.path.expanduser(given)
            matches = sorted(glob(pattern, recursive=True), key=os.fsencode)  # noqa: PTH207 (takes absolute patterns)
            if not matches:
                raise UsageError(f"{shown(given)} matches no file")
            listed += map(Path, matches)
        else:
            listed.append(Path(os.path.expanduser(given)))
    return listed


def _find(inputs: list[Path], output: Path) -> tuple[dict[Path, Path], list[Path], dict[Path, DataError]]:
    """Each photograph once, with the folder that its place is seen from; the other files; what cannot be listed."""
    found, left_out, unlisted, seen = {}, [], {}, set()
    for path in inputs:
        chosen, root = [path], path.parent
        if _is_folder(path):
            root = path
            files, refused = photos.walk(path)
            # Outputs of an earlier run that lie inside the input are no inputs.
            earlier, here = os.path.realpath(output), os.path.realpath(path)
            if earlier != here and Path(earlier).is_relative_to(here):
                files = [file for file in files if not Path(os.path.realpath(file)).is_relative_to(earlier)]
            chosen = _photographs(files)
            if not chosen and not refused:
                photos.find_photos(path)  # says what a folder should hold
                raise UsageError(f"{shown(path)} holds no photographs but those in --output {shown(output)}")
            left_out += sorted(set(files) - set(chosen), key=os.fsencode)
            unlisted |= refused
        for source in chosen:
            entry = Path(os.path.realpath(source.parent)) / source.name
            if entry not in seen:
                seen.add(entry)
                found[source] = root
    return found, left_out, unlisted


def _photographs(files: list[Path]) -> list[Path]:
    """Those named as photographs, without the pictures that an earlier run drew beside one of them."""
    there = set(files)
    drawn = {file.with_name(file.name + ending) for file in files for ending in _BESIDE.values()} & there
    suffixes = photos.SUFFIXES | photos.SUFFIXES_TO_CONVERT
    return [file for file in files if file.suffix.lower() in suffixes and file not in drawn]


def _distinct(found: dict[Path, Path], output: Path, config: ColorizeConfig) -> list[Job]:
    """Give each photograph files that no other has, by as much of its folder's path as that takes."""
    above = dict.fromkeys(found, 0)
    paths = {root: Path(os.path.realpath(root)).parts[1:] for root in set(found.values())}
    while True:
        jobs = []
        for source, root in found.items():
            place = source.relative_to(root)
            name = encode.writable_name(place.name)
            while name != place.name and source.with_name(name) in found:
                name += ".png"  # a.gif beside an a.gif.png
            folder = output.joinpath(*paths[root][len(paths[root]) - above[source] :])
            jobs.append(Job(source, _files(folder / place.with_name(name), config)))
        owners = Counter(file for job in jobs for file in job.files.values())
        meeting = [job.source for job in jobs if any(owners[file] > 1 for file in job.files.values())]
        if not meeting:
            return jobs
        for source in meeting:
            above[source] += 1
            if above[source] > len(paths[found[source]]):
                raise UsageError(f"{shown(source)} and another would have one output: colour them in two commands")


def _files(target: Path, config: ColorizeConfig) -> dict[str, Path]:
    asked = {"compare": config.compare, "histogram": config.histogram}
    beside = {kind: target.with_name(target.name + ending) for kind, ending in _BESIDE.items() if asked[kind]}
    return {"coloured": target, **beside}


def _require_apart(jobs: list[Job], config: ColorizeConfig) -> None:
    """Refuse to write over an input, or the report over any other file."""
    inputs = [status for job in jobs if (status := _status(job.source))]
    inodes = {(status.st_dev, status.st_ino) for status in inputs}
    written = [file for job in jobs for file in job.files.values()]
    for option, file in [("--output", file) for file in written] + [("--report", config.report)] * bool(config.report):
        status = _status(file)
        if status and (status.st_dev, status.st_ino) in inodes:
            raise UsageError(f"{option}: {shown(file)} is an input itself; write elsewhere")
    if config.report and (config.report in written or (config.report.suffix != ".json" and _status(config.report))):
        raise UsageError(f"--report {shown(config.report)} is another file: name one that ends in .json")


def _status(path: Path) -> os.stat_result | None:
    """What the file system says of a path; None where nothing can be found out."""
    try:
        return path.stat()
    except OSError:
        return None


def _is_folder(path: Path) -> bool:
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)
