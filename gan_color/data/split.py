"""Which photographs a run trains on: those that can be used, split to train, to validate and for a test."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_color.config import NEAR_GREY
from gan_color.data import sources
from gan_color.data.look import Look
from gan_color.data.paths import Paths
from gan_color.data.scan import scan
from gan_color.errors import DataError


@dataclass(frozen=True)
class Photographs:
    """The photographs of a run, after those that cannot be used were left out."""

    train: Sequence[Path]
    val: Sequence[Path]
    # Kept from both for a test; empty unless the split asks for it.
    test: Sequence[Path]
    # SHA-256 over the contents of train and val, hex: a run is continued on the same photographs.
    digest: str
    # What was left out and why, one line each.
    report: list[str]


def photographs(
    data: str,
    data_root: Path,
    *,
    breed: str | None = None,
    val_share: float = 0.1,
    split: str | None = None,
    min_chroma: float = NEAR_GREY,
    max_unreadable: float = 0.01,
    show_progress: bool = True,
) -> Photographs:
    """Find photographs, look at each, leave out what cannot be trained on, and split.

    Args:
        data: samples, flowers102, oxford_pets, coco_sample, a folder, or a text file of paths. A folder with
            `train` and `val` in it is split by them; other folders, lists and coco_sample by content: the
            same file falls on the same side whatever its name or place.
        data_root: where named sets lie or are downloaded to.
        breed: one breed of oxford_pets; None = all.
        val_share: share held out where the set brings no split of its own.
        split: how many to train on, to validate on and, as a third number, to leave for a test, such as "134/36/30",
            chosen by content out of all photographs of the set, whatever its own split; of copies one is taken.
        min_chroma: photographs with a lower mean chroma (Lab units) are left out as near-grey.
        max_unreadable: share of files that may be unreadable; 10 are always allowed.
        show_progress: draw a bar where the output is a terminal.

    Returns:
        The split photographs and the report of what was left out.

    Raises:
        DataError: nothing found, nothing left or fewer than the split asks for, too many unreadable, a set that cannot
            be had.
        UsageError: a breed is given with another set than oxford_pets.
    """
    train, val = sources.find(data, data_root, breed, whole=split is not None)
    looks = scan(train + (val or []), show_progress)
    return choose(data, looks, val, val_share, split, min_chroma, max_unreadable)


def choose(
    data: str,
    looks: list[Look],
    val: Sequence[Path] | None,
    val_share: float,
    split: str | None,
    min_chroma: float,
    max_unreadable: float,
) -> Photographs:
    """Leave out what cannot be trained on, and split: the second half of `photographs`.

    Args:
        data: what the photographs are called in messages.
        looks: what one look at each showed.
        val: those the set itself holds out; None = it brings no split.
        val_share: as `photographs`.
        split: as `photographs`.
        min_chroma: as `photographs`.
        max_unreadable: as `photographs`.

    Raises:
        DataError: nothing left, fewer than the split asks for, or too many unreadable.
    """
    unreadable = [look for look in looks if look.error]
    if len(unreadable) == len(looks):
        raise DataError(f"no file of {data} can be read, such as {unreadable[0].error}: give photographs")
    if len(unreadable) > max(10, max_unreadable * len(looks)):
        raise DataError(
            f"{len(unreadable)} of the {len(looks)} files of {data} cannot be read, such as "
            f"{unreadable[0].error}; mend or remove them, or raise --max-unreadable"
        )
    grey = [look for look in looks if not look.error and look.chroma < min_chroma]
    usable = [look for look in looks if not look.error and look.chroma >= min_chroma]
    if not usable:
        raise DataError(
            f"all {len(grey)} photographs of {data} are grey or nearly so (mean chroma below {min_chroma}): there "
            "is no colour to learn; give colour photographs, or lower --min-chroma"
        )
    report = [f"unreadable: {look.error}" for look in unreadable]
    if grey:
        report.append(f"near-grey: {len(grey)} of {len(looks)} photographs (mean chroma below {min_chroma})")

    test_looks = []
    if split is not None:
        train_looks, val_looks, test_looks = _split_by_counts(usable, split, data)
        unused = len(usable) - len(train_looks) - len(val_looks) - len(test_looks)
        if unused:
            report.append(f"beyond --split {split}: {unused} photographs")
    elif val is None:
        train_looks, val_looks = _split_by_content(usable, val_share)
    else:
        in_val = set(map(os.fsencode, val))
        val_looks = [look for look in usable if look.file in in_val]
        held_out = {look.digest for look in val_looks}
        train_looks = [look for look in usable if look.file not in in_val and look.digest not in held_out]
        twice = len(usable) - len(val_looks) - len(train_looks)
        if twice:
            report.append(f"held out for validation too: {twice} training photographs")
    for side, left in (("train on", train_looks), ("validate on", val_looks)):
        if not left:
            raise DataError(f"{data} leaves no photograph to {side}: give more colour photographs")
    sides = ["\n".join(look.digest for look in side) for side in (train_looks, val_looks)]
    digest = hashlib.sha256("\n\n".join(sides).encode()).hexdigest()
    train, val, test = (Paths(look.file for look in side) for side in (train_looks, val_looks, test_looks))
    return Photographs(train, val, test, digest, report)


def _split_by_content(looks: list[Look], val_share: float) -> tuple[list[Look], list[Look]]:
    """Hold out the photographs whose digest, read as a number in [0, 1), lies below val_share."""
    if len({look.digest for look in looks}) < 2:
        raise DataError("one photograph cannot be split into training and validation: give at least two")
    bound = max(val_share, min(_as_share(look.digest) for look in looks) + 1e-12)
    if all(_as_share(look.digest) < bound for look in looks):
        bound = max(_as_share(look.digest) for look in looks)
    val = [look for look in looks if _as_share(look.digest) < bound]
    return [look for look in looks if _as_share(look.digest) >= bound], val


def _split_by_counts(looks: list[Look], split: str, data: str) -> tuple[list[Look], list[Look], list[Look]]:
    """To train on, validate on and test: by rank of the digest, the lowest to validate on as in other splits."""
    num_train, num_val, num_test = (*map(int, split.split("/")), 0)[:3]
    ranked = sorted({look.digest: look for look in reversed(looks)}.values(), key=lambda look: look.digest)
    if len(ranked) < num_train + num_val + num_test:
        raise DataError(
            f"--split {split} asks for {num_train + num_val + num_test} photographs, {data} has {len(ranked)} that can "
            "be used: ask for fewer, or lower --min-chroma"
        )
    ends = (num_val, num_val + num_test, num_val + num_test + num_train)
    sides = ranked[ends[1] : ends[2]], ranked[: ends[0]], ranked[ends[0] : ends[1]]
    train, val, test = (sorted(side, key=lambda look: look.file) for side in sides)
    return train, val, test


def _as_share(digest: str) -> float:
    return int(digest[:13], 16) / 16**13  # 52 bits: exact in a float
