"""Where a generator's files are: in a folder, among those that come with gan_color, or on the Hugging Face Hub."""

import difflib
import os
import re
from pathlib import Path

from huggingface_hub import snapshot_download

from gan_color.errors import CheckpointError, shown

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
# `checkpoints/<name>` of the project; setup.cfg puts these, and no run, into the wheel.
SHIPPED = ("general", "flowers")
_PACKAGE = Path(__file__).resolve().parent.parent
# Where a checkout has them, and where an installed wheel has them, which goes before.
_SHIPPED_IN = (_PACKAGE.parent / "checkpoints", _PACKAGE / "checkpoints")


def generator_folder(folder: str | Path) -> Path:
    """The folder that holds `config.json`, wherever a generator is asked for.

    Args:
        folder: that folder, or a run folder with `generator` in it; else the name of a generator that comes with
            gan_color; else the id of a repository on the Hub, which is downloaded.

    Raises:
        CheckpointError: there is no generator in any.
    """
    path = Path(os.path.expanduser(folder))
    for candidate in (path, path / "generator"):
        if os.path.isfile(candidate / CONFIG):
            return candidate
    named = shipped()
    if str(folder) in named:
        return named[str(folder)]
    # Beside other local folders a name with a slash is a slip of the pen, and nothing to ask the hub for.
    if re.fullmatch(r"(?!checkpoints/)\w[\w.-]*/[\w.-]+", str(folder)) and not os.path.exists(path.parent):
        return download(str(folder))
    near = difflib.get_close_matches(str(folder), named, n=1)
    cure = f"did you mean {near[0]}? Else " if near else ""
    raise CheckpointError(
        f"there is no generator in {shown(path)}: {cure}give a run folder, such as checkpoints/pretrain, a folder "
        f"with {CONFIG} and {WEIGHTS}, or one that comes with gan_color ({', '.join(named)})"
    )


def shipped() -> dict[str, Path]:
    """Names of the generators that come with gan_color, and their folders."""
    places = [place / name for name in SHIPPED for place in _SHIPPED_IN]
    return {place.name: place for place in places if os.path.isfile(place / CONFIG)}


def download(repo_id: str, **options) -> Path:
    """The local copy of a repository's files; the hub is asked only for what is not there yet."""
    try:
        return Path(snapshot_download(repo_id, allow_patterns=[CONFIG, WEIGHTS, CARD], **options))
    except Exception as error:  # offline, blocked, no such repository, no such revision
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise CheckpointError(
            f"there is no generator in {repo_id}, nor can it be had from the Hugging Face Hub ({reason}): connect to "
            "the internet once, or give a run folder"
        ) from error
