"""Where photographs come from, and which are trained on: samples, named sets, folders, list files; the split."""

import codecs
import difflib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gan_color.config import NEAR_GREY
from gan_color.data.photos import find_photos
from gan_color.data.scan import Look, scan
from gan_color.errors import DataError, UsageError, shown

# Sets that are known by name.
NAMED = ("samples", "flowers102", "oxford_pets", "coco_sample")
# Colour photographs that come with installed packages: (package, path inside it).
_SAMPLES_TRAIN = [
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
]
_SAMPLES_VAL = [("skimage", "data/motorcycle_left.png"), ("skimage", "data/rocket.jpg")]
# So few photographs: many crops of each make an epoch.
_SAMPLES_CROPS = 24


@dataclass(frozen=True)
class Photographs:
    """The photographs of a run, after those that cannot be used were left out."""

    train: list[Path]
    val: list[Path]
    # Kept from both for a test; empty unless the split asks for it.
    test: list[Path]
    # SHA-256 over the contents of train and val, hex: a run is continued on the same photographs.
    digest: str
    # What was left out and why, one line each.
    report: list[str]


def samples() -> tuple[list[Path], list[Path]]:
    """The embedded colour photographs: paths to train on and paths to validate on."""

    def locate(package: str, inside: str) -> Path:
        return Path(find_spec(package).submodule_search_locations[0]) / inside

    return [locate(*sample) for sample in _SAMPLES_TRAIN], [locate(*sample) for sample in _SAMPLES_VAL]


def default_crops(data: str) -> int:
    """Random crops of each photograph in one epoch where `--crops` is not given."""
    return _SAMPLES_CROPS if data == "samples" else 1


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
    train, val = find(data, data_root, breed, whole=split is not None)
    looks = scan(train + (val or []), show_progress)
    return choose(data, looks, val, val_share, split, min_chroma, max_unreadable)


def choose(
    data: str,
    looks: list[Look],
    val: list[Path] | None,
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
        in_val = set(val)
        val_looks = [look for look in usable if look.path in in_val]
        held_out = {look.digest for look in val_looks}
        train_looks = [look for look in usable if look.path not in in_val and look.digest not in held_out]
        twice = len(usable) - len(val_looks) - len(train_looks)
        if twice:
            report.append(f"held out for validation too: {twice} training photographs")
    for side, left in (("train on", train_looks), ("validate on", val_looks)):
        if not left:
            raise DataError(f"{data} leaves no photograph to {side}: give more colour photographs")
    sides = ["\n".join(look.digest for look in side) for side in (train_looks, val_looks)]
    digest = hashlib.sha256("\n\n".join(sides).encode()).hexdigest()
    train, val, test = ([look.path for look in side] for side in (train_looks, val_looks, test_looks))
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
    train, val, test = (sorted(side, key=lambda look: os.fsencode(look.path)) for side in sides)
    return train, val, test


def _as_share(digest: str) -> float:
    return int(digest[:13], 16) / 16**13  # 52 bits: exact in a float


def find(
    data: str, data_root: Path, breed: str | None = None, whole: bool = False
) -> tuple[list[Path], list[Path] | None]:
    """Find the files of a set, unseen.

    Args:
        data: as `photographs`.
        data_root: as `photographs`.
        breed: as `photographs`.
        whole: with the set's test part, as `split` needs it.

    Returns:
        Paths to train on and, where the set brings its own split, paths to validate on, else None.

    Raises:
        DataError: nothing found, or a set that cannot be had.
        UsageError: a breed is given with another set than oxford_pets.
    """
    if breed is not None and data != "oxford_pets":
        raise UsageError(f"--breed {breed} goes with --data oxford_pets, not with {data}")
    named: dict[str, Callable[[], tuple[list[Path], list[Path] | None]]] = {
        "samples": samples,
        "flowers102": lambda: _flowers102(data_root, whole),
        "oxford_pets": lambda: _oxford_pets(data_root, breed, whole),
        "coco_sample": lambda: _coco_sample(data_root),
    }
    if data in named:
        return named[data]()
    # os.path answers no where Path raises: names too long for the system, users that do not exist.
    path = Path(os.path.expanduser(data))
    if os.path.isdir(path):
        if (path / "train").is_dir() and (path / "val").is_dir():
            return find_photos(path / "train"), find_photos(path / "val")
        return find_photos(path), None
    if os.path.isfile(path):
        return _listed(path), None
    near = difflib.get_close_matches(data, NAMED, n=1)
    hint = f"; did you mean {near[0]}?" if near else f": give a folder, a list file, or one of {', '.join(NAMED)}"
    raise DataError(f"--data {shown(data)} is no such folder or file{hint}")


def _listed(path: Path) -> list[Path]:
    """Paths of a text file, one a line, relative ones seen from the file's folder."""
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}") from error
    if any(b"\0" in line for line in lines):
        raise DataError(f"{shown(path)} is no list of paths: --data takes a folder or a text file, one path a line")
    listed = [path.parent / os.fsdecode(line.rstrip(b"\r")) for line in lines if line.strip()]
    if not listed:
        raise DataError(f"{shown(path)} lists no photographs: write one path a line")
    return sorted(dict.fromkeys(listed), key=os.fsencode)


def _flowers102(root: Path, whole: bool) -> tuple[list[Path], list[Path]]:
    """Oxford Flowers102 by its own train and val splits (1,020 photographs each), or with its test split 8,189."""
    from torchvision.datasets import Flowers102

    train, val = (_torchvision(Flowers102, "Flowers102", root, split=split) for split in ("train", "val"))
    test = Flowers102(root, split="test") if whole else None
    return list(train._image_files) + (list(test._image_files) if test else []), list(val._image_files)


def _oxford_pets(root: Path, breed: str | None, whole: bool) -> tuple[list[Path], None]:
    """Oxford-IIIT Pet's trainval split, or with its test split the whole, all breeds or one."""
    from torchvision.datasets import OxfordIIITPet

    options = {"target_types": "category"}
    photos = list(_torchvision(OxfordIIITPet, "Oxford-IIIT Pet", root, split="trainval", **options)._images)
    if whole:
        photos += OxfordIIITPet(root, split="test", **options)._images
    if breed is None:
        return photos, None
    # The files are named after their breed: american_bulldog_12.jpg, Abyssinian_5.jpg.
    breeds = [path.stem.rsplit("_", 1)[0].lower() for path in photos]
    wanted = breed.lower().replace(" ", "_")
    chosen = [path for path, its_breed in zip(photos, breeds, strict=True) if its_breed == wanted]
    if not chosen:
        near = difflib.get_close_matches(wanted, set(breeds), n=1)
        raise DataError(f"--breed {breed} is not among the pets; {_nearest(near, sorted(set(breeds)))}")
    return chosen, None


def _nearest(near: list[str], known: list[str]) -> str:
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _torchvision(dataset: type, title: str, root: Path, **options):
    """Open a torchvision set where it lies; download it, checked by its md5, where it does not."""
    try:
        return dataset(root, **options)
    except (RuntimeError, OSError):
        pass  # torchvision's words for "not found or corrupted" and for a set that is there in part
    print(f"{title} is not in {shown(root)}: downloading it")
    try:
        return dataset(root, download=True, **options)
    except Exception as error:  # URLError, OSError, RuntimeError (bad md5), ...
        raise DataError(_not_to_be_had(title, root, error)) from error


def _coco_sample(root: Path) -> tuple[list[Path], None]:
    """Fastai's COCO_SAMPLE, a part of COCO 2014; its size and the md5 of its beginning are checked by fastai."""
    folder = root / "coco_sample" / "train_sample"
    if not folder.is_dir():
        print(f"COCO_SAMPLE is not in {shown(root)}: downloading it")
        unpacking = root.resolve() / "unpacking"
        try:
            from fastai.data.external import URLs, untar_data

            shutil.rmtree(unpacking, ignore_errors=True)
            unpacked = untar_data(URLs.COCO_SAMPLE, archive=root.resolve() / "archive", data=unpacking)
            # Moved last: a set that was cut off while it was unpacked is not taken for a whole one.
            unpacked.rename(root / "coco_sample")
            unpacking.rmdir()
        except Exception as error:
            raise DataError(_not_to_be_had("COCO_SAMPLE", root, error)) from error
    return find_photos(folder), None


def _not_to_be_had(title: str, root: Path, error: Exception) -> str:
    reason = (str(error) or repr(error)).splitlines()[0]
    return (
        f"{title} is not in {shown(root)} and could not be downloaded ({reason}): connect to the internet, or put "
        "it there, or say with --data-root where it lies"
    )
