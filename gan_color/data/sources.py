"""Where photographs come from: embedded samples, named sets, folders, list files."""

import codecs
import difflib
import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from gan_color.data.photos import find_photos
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


def samples() -> tuple[list[Path], list[Path]]:
    """The embedded colour photographs: paths to train on and paths to validate on."""

    def locate(package: str, inside: str) -> Path:
        return Path(find_spec(package).submodule_search_locations[0]) / inside

    return [locate(*sample) for sample in _SAMPLES_TRAIN], [locate(*sample) for sample in _SAMPLES_VAL]


def default_crops(data: str) -> int:
    """Random crops of each photograph in one epoch where `--crops` is not given."""
    return _SAMPLES_CROPS if data == "samples" else 1


def find(
    data: str, data_root: Path, breed: str | None = None, whole: bool = False
) -> tuple[Sequence[Path], Sequence[Path] | None]:
    """Find the files of a set, unseen.

    Args:
        data: samples, flowers102, oxford_pets, coco_sample, a folder, or a text file of paths.
        data_root: where named sets lie or are downloaded to.
        breed: one breed of oxford_pets; None = all.
        whole: with the set's test part, as a split by counts needs it.

    Returns:
        Paths to train on and, where the set brings its own split, paths to validate on, else None.

    Raises:
        DataError: nothing found, or a set that cannot be had.
        UsageError: a breed is given with another set than oxford_pets.
    """
    if breed is not None and data != "oxford_pets":
        raise UsageError(f"--breed {breed} goes with --data oxford_pets, not with {data}")
    named: dict[str, Callable[[], tuple[Sequence[Path], Sequence[Path] | None]]] = {
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


def _coco_sample(root: Path) -> tuple[Sequence[Path], None]:
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
