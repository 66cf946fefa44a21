"""What one visitor of the browser page has here: uploads, results and pictures of them, gone when the visit ends."""

import contextlib
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import ImageOps
from torch import nn

from gan_color import inference, pictures
from gan_color.commands import ColorizeConfig
from gan_color.data import encode, photos
from gan_color.errors import GanColorError, UsageError
from gan_color.folder import Outcome, colour_all
from gan_color.jobs import plan

# Longest side of a picture in the page, pixels: what browsers show. The file to download is never shrunk.
_LONGEST_SHOWN = 16_384
_THUMBNAIL = 480


@dataclass(frozen=True)
class Result:
    """A photograph that was coloured.

    Attributes:
        generator: the name it has in the page.
        source: the photograph.
        target: its coloured version, as `gan-color colorize` writes it.
        thumbnail: a small version for the page.
    """

    generator: str
    source: Path
    target: Path
    thumbnail: Path

    @property
    def name(self) -> str:
        """What it is called in the page."""
        return f"{self.source.name} · {self.generator}"


@dataclass
class Visit:
    """One open page.

    Attributes:
        folder: its own, for everything that came from it and is made for it; its name cannot be guessed.
        results: of the last click.
        clicks: so far; each has a folder of its own, so that no browser shows an older picture of the same name.
        ended: whether the page was closed.
    """

    folder: Path
    results: list[Result] = field(default_factory=list)
    clicks: int = 0
    ended: bool = False

    @property
    def outputs(self) -> Path:
        """The folder of the last click's results."""
        return self.folder / str(self.clicks)

    def delete_if_ended(self) -> None:
        """Delete everything once the page is closed; work that this overtakes asks again when it has written."""
        if self.ended:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.results = []


class Visits:
    """Every open page by its session.

    Args:
        folder: where the page's server puts uploads, each in a folder named by its content's SHA-256.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.open: dict[str, Visit] = {}

    def of(self, session: str) -> Visit:
        """The visit of a session, which begins with its first question."""
        return self.open.setdefault(session, Visit(self.folder / "visits" / secrets.token_hex(16)))

    def take(self, session: str, files: list[dict] | None) -> list[Path]:
        """Move what a visitor uploaded to the visitor's own folder, and refuse what is not the visitor's.

        Args:
            session: the page they came from.
            files: as the page names them: just uploaded, or taken before.

        Returns:
            Their paths in the visitor's folder, in the order of the page, each once.

        Raises:
            UsageError: a file is not there, or not this visitor's; a request made by hand may name any.
        """
        mine, taken = self.of(session).folder / "uploads", []
        for path in (Path(file["path"]).resolve() for file in files or []):
            target = mine / path.parent.name / path.name
            if path.parent.parent == self.folder and path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):  # the click took it meanwhile, or another visitor's has come
                    path.replace(target)
                    path.parent.rmdir()
            if not target.is_file():
                raise UsageError("a photograph is not here any more: upload it again")
            taken.append(target)
        return list(dict.fromkeys(taken))

    def add(self, session: str, photograph: Path) -> Path:
        """Copy a photograph of the page's own to where a visitor's uploads are; returns the copy."""
        target = self.of(session).folder / "uploads" / photograph.parent.name / photograph.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photograph, target)
        return target

    def end(self, session: str) -> None:
        """Delete what a visit has here."""
        if visit := self.open.pop(session, None):
            visit.ended = True
            visit.delete_if_ended()

    def told(self, outcomes: list[Outcome]) -> list[str]:
        """What became of photographs, for the page: a count, then a line for each that is not as one might expect."""
        lines = [f"coloured {sum(outcome.result == 'coloured' for outcome in outcomes)} of {len(outcomes)}"]
        lines += [self.without_folders(outcome.error) for outcome in outcomes if outcome.error]
        lines += [f"{Path(outcome.source).name}: {note}" for outcome in outcomes for note in outcome.notes]
        return list(dict.fromkeys(lines))

    def without_folders(self, sentence: str) -> str:
        """A sentence with the visitors' files by their own names alone."""
        return re.sub(rf"{re.escape(str(self.folder))}/(?:\S+/)?", "", sentence)


def colour(
    visit: Visit,
    uploads: list[Path],
    generators: dict[str, nn.Module],
    size: int | None = None,
    saturation: float = 1.0,
    drop_gps: bool = False,
) -> Iterator[Outcome]:
    """Colour uploads with each generator, by the steps of `gan-color colorize`; the results are the visit's.

    Args:
        visit: whose they are; its earlier results are deleted.
        uploads: photographs, or what was taken for such.
        generators: by the name that each has in the page, in evaluation mode.
        size: short side the network sees, pixels; None = the size each was trained at.
        saturation: factor on chroma.
        drop_gps: whether to leave out where a photograph was taken.

    Yields:
        What became of each, until the visit ends.

    Raises:
        GanColorError: nothing can be written, as on a full disk.
    """
    shutil.rmtree(visit.outputs, ignore_errors=True)
    visit.results, visit.clicks = [], visit.clicks + 1
    try:
        for name, generator in generators.items():
            config = ColorizeConfig(
                inputs=tuple(map(str, uploads)),
                checkpoint=name,
                output=visit.outputs / _as_folder(name),
                size=size,
                saturation=saturation,
                drop_gps=drop_gps,
            )
            jobs = plan(config).jobs
            targets = {str(job.source): job.files["coloured"] for job in jobs}
            for outcome in colour_all(generator, jobs, config, {}):
                if outcome.result == "coloured":
                    target = targets[outcome.source]
                    visit.results.append(Result(name, Path(outcome.source), target, _thumbnail(target)))
                yield outcome
                if visit.ended:
                    return
        visit.results.sort(key=lambda result: uploads.index(result.source))  # a photograph's versions side by side
    except (OSError, GanColorError):
        if not visit.ended:
            raise
    finally:
        visit.delete_if_ended()


def grey_and_coloured(result: Result) -> tuple[Path, Path]:
    """A photograph's two versions for the slider, at its full size, as JPEG beside the result."""
    paths = tuple(result.target.with_name(f"{result.target.name}.{kind}.jpg") for kind in ("grey", "coloured"))
    if not all(path.is_file() for path in paths):
        versions = inference.grey(photos.read_photo(result.source)), photos.read_rgb(result.target)
        for path, version in zip(paths, versions, strict=True):
            if max(version.size) > _LONGEST_SHOWN:
                version = ImageOps.contain(version, (_LONGEST_SHOWN, _LONGEST_SHOWN))
            path.write_bytes(encode.encode(version, path)[0])
    return paths


def histogram(result: Result) -> Path:
    """The histogram that `gan-color colorize --histogram` draws."""
    path = result.target.with_name(f"{result.target.name}.histogram.png")
    if not path.is_file():
        path.write_bytes(encode.encode(pictures.histogram(photos.read_rgb(result.target)), path)[0])
    return path


def bundle(visit: Visit) -> Path:
    """All results in one archive, a folder for each generator where there are several."""
    path = visit.outputs / "coloured.zip"
    several = len({result.generator for result in visit.results}) > 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for result in visit.results:
            inside = result.target.relative_to(visit.outputs)
            archive.write(result.target, inside if several else Path(*inside.parts[1:]))
    return path


def _thumbnail(target: Path) -> Path:
    """A small version of a result, beside it."""
    path = target.with_name(f"{target.name}.thumbnail.jpg")
    small = ImageOps.contain(photos.read_rgb(target, _THUMBNAIL), (_THUMBNAIL, _THUMBNAIL))
    path.write_bytes(encode.encode(small, path)[0])
    return path


def _as_folder(name: str) -> str:
    """A generator's name as that of one folder."""
    return "-".join(part for part in Path(name).parts if part not in ("/", "..", ".")).replace(".", "_")
