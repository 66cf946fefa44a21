"""What one visitor of the browser page has here: uploads, results and pictures of them, gone when the visit ends."""

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import ImageOps
from torch import nn

from gan_color import inference, pictures
from gan_color.config import ColorizeConfig
from gan_color.data import encode, photos
from gan_color.errors import UsageError
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
        folder: its own, for everything that is made for it.
        uploads: files that came from it.
        results: of the last click.
        runs: clicks so far; each has a folder of its own, so that no browser shows an older picture of the same name.
    """

    folder: Path
    uploads: set[Path] = field(default_factory=set)
    results: list[Result] = field(default_factory=list)
    runs: int = 0


class Visits:
    """Every open page by its session.

    Args:
        folder: where uploads lie and visits get their folders.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.open: dict[str, Visit] = {}

    def of(self, session: str) -> Visit:
        """The visit of a session, which begins with its first question."""
        return self.open.setdefault(session, Visit(self.folder / f"visit-{session}"))

    def take(self, session: str, files: list[dict] | None) -> list[Path]:
        """Note whose uploads these are.

        Args:
            session: the page they came from.
            files: as the page names them.

        Returns:
            Their paths, in the order of the page.

        Raises:
            UsageError: one is no upload; only a request made by hand names such.
        """
        paths = [Path(file["path"]).resolve() for file in files or []]
        if not all(path.is_relative_to(self.folder) for path in paths):
            raise UsageError("that is no uploaded file")
        self.of(session).uploads.update(path for path in paths if path.parent.parent == self.folder)
        return paths

    def end(self, session: str) -> None:
        """Delete what a visit has here. An upload that another visitor sent too stays until that one has left."""
        visit = self.open.pop(session, None)
        if visit is None:
            return
        shutil.rmtree(visit.folder, ignore_errors=True)
        for upload in visit.uploads.difference(*(other.uploads for other in self.open.values())):
            shutil.rmtree(upload.parent, ignore_errors=True)  # each has a folder of its own, named by its content


def colour(
    visit: Visit, uploads: list[Path], generator: nn.Module, name: str, config: ColorizeConfig
) -> Iterator[Outcome]:
    """Colour uploads with one generator, by the steps of `gan-color colorize`, and add to the visit's results.

    Args:
        visit: whose they are.
        uploads: photographs, or what was taken for such.
        generator: in evaluation mode.
        name: the generator's, in the page.
        config: what `gan-color colorize` would be told; its output is a folder of the visit.

    Yields:
        What became of each.
    """
    jobs = plan(config).jobs
    targets = {str(job.source): job.files["coloured"] for job in jobs}
    for outcome in colour_all(generator, jobs, config, {}):
        if outcome.result == "coloured":
            target = targets[outcome.source]
            thumbnail = target.with_name(f"{target.name}.thumbnail.jpg")
            small = ImageOps.contain(photos.read_rgb(target, _THUMBNAIL), (_THUMBNAIL, _THUMBNAIL))
            thumbnail.write_bytes(encode.encode(small, thumbnail)[0])
            visit.results.append(Result(name, Path(outcome.source), target, thumbnail))
        yield outcome


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
    path = visit.folder / str(visit.runs) / "coloured.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for result in visit.results:
            inside = result.target.relative_to(visit.folder / str(visit.runs))
            several = len({each.generator for each in visit.results}) > 1
            archive.write(result.target, inside if several else Path(*inside.parts[1:]))
    return path
