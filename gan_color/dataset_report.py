"""Shows what a training on photographs would see: `gan-color data`."""

import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from gan_color import pictures
from gan_color.commands import DataConfig
from gan_color.contact_sheet import contact_sheet, join
from gan_color.data import duplicates, photos, scan, sources, split
from gan_color.data.duplicates import Signature
from gan_color.data.look import Look
from gan_color.data.paths import spread
from gan_color.data.split import Photographs
from gan_color.errors import DataError, SomeFailed, shown
from gan_color.writing import require_new, write_atomically

FILES = ("data.json", "colours.png", "contact_sheet.png")
# Photographs on the contact sheet from either side of the split, eight a row.
_SHOWN = {"train": 48, "val": 24}
_ROW = 8
# Pairs, groups or files that are named in the terminal; the JSON names all.
_NAMED = 5


@dataclass
class Seen:
    """What one pass over all files showed.

    Attributes:
        looks: one a file.
        signatures: of those that can be read.
        levels: share of each level of red, green and blue, the mean over the photographs, (3, 256) float64.
    """

    looks: list[Look] = field(default_factory=list)
    signatures: dict[Path, Signature] = field(default_factory=dict)
    levels: np.ndarray = field(default_factory=lambda: np.zeros((3, 256)))


def run(config: DataConfig) -> None:
    """Print and write what a training with these options would see of the photographs.

    Raises:
        UsageError: options contradict each other, or outputs exist.
        DataError: there are no photographs; or, after the report, why a training refuses them.
        SomeFailed: after the report, some files cannot be read.
    """
    require_new(config.out, FILES, config.json, config.overwrite)
    train, val = sources.find(config.data, config.data_root, config.breed, whole=config.split is not None)
    seen = _see(list(dict.fromkeys(train + (val or []))))
    refusal = None
    try:
        chosen = split.choose(
            config.data,
            seen.looks,
            val,
            config.val_share,
            config.split,
            config.min_chroma,
            config.max_unreadable,
        )
    except DataError as error:
        refusal, chosen = error, Photographs([], [], [], "", [])
    found = _describe(config, seen, chosen, refusal)
    print(*_sentences(found), sep="\n")
    if config.out:
        write_atomically(config.out / "data.json", _as_json(found))
        means = seen.levels @ np.arange(256)
        colours = pictures.draw_histogram(seen.levels * 1e6, means)
        write_atomically(config.out / "colours.png", _png(colours))
        write_atomically(config.out / "contact_sheet.png", _png(_sheet(chosen, seen)))
        print(f"wrote {', '.join(FILES)} to {shown(config.out)}")
    if config.json:
        write_atomically(config.json, _as_json(found))
        print(f"wrote {shown(config.json)}")
    if refusal:
        raise refusal
    if found["unreadable"]:
        raise SomeFailed(f"{len(found['unreadable'])} file(s) cannot be read, each named above; a training skips them")


def _see(paths: list[Path]) -> Seen:
    """Look at every file once, as a training does before it begins."""
    seen = Seen()
    for look, small in scan.scan_with_pictures(paths):
        seen.looks.append(look)
        if small is not None:
            seen.signatures[look.path] = duplicates.signature(small)
            counts = np.array(small.histogram()).reshape(3, 256)
            seen.levels += counts / counts[0].sum()
    seen.levels /= max(1, len(seen.signatures))
    return seen


def _describe(config: DataConfig, seen: Seen, chosen: Photographs, refusal: DataError | None) -> dict:
    """Everything that is said, as plain values."""
    side = dict.fromkeys(chosen.train, "train") | dict.fromkeys(chosen.val, "val") | dict.fromkeys(chosen.test, "test")
    readable = [look for look in seen.looks if not look.error]
    near_grey = [look for look in readable if look.chroma < config.min_chroma]
    for look in near_grey:
        side[look.path] = "near-grey"
    copies = defaultdict(list)
    for look in readable:
        copies[look.digest].append(look.path)
    # Of exact copies one stands for all where photographs that look alike are searched.
    single = [group[0] for group in copies.values()]
    pairs = duplicates.alike([seen.signatures[path] for path in single], config.hash_distance)

    def named(paths: list[Path]) -> list[list[str]]:
        return [[str(path), side.get(path, "left out")] for path in paths]

    return {
        "data": config.data,
        "files": len(seen.looks),
        "train": len(chosen.train),
        "val": len(chosen.val),
        "test": len(chosen.test),
        "digest": chosen.digest,
        "refused": str(refusal) if refusal else None,
        "unreadable": [look.error for look in seen.looks if look.error],
        "near_grey": [str(look.path) for look in near_grey],
        "on_no_side": 0 if refusal else sum(look.path not in side for look in readable),
        "min_chroma": config.min_chroma,
        "formats": dict(Counter(look.stored[0] for look in readable).most_common()),
        "short_side": _spread_of([min(look.stored[1:]) for look in readable]),
        "long_side": _spread_of([max(look.stored[1:]) for look in readable]),
        "mean_chroma": _spread_of([look.chroma for look in readable]),
        "exact_duplicates": [named(group) for group in copies.values() if len(group) > 1],
        "look_alikes": [named([single[i], single[j]]) for i, j in pairs],
        "hash_distance": config.hash_distance,
    }


def _spread_of(values: list[float]) -> dict[str, float] | None:
    """Least, median, mean and most; None of nothing."""
    if not values:
        return None
    measures = (min(values), np.median(values), np.mean(values), max(values))
    return dict(zip(("least", "median", "mean", "most"), (round(float(value), 2) for value in measures), strict=True))


def _sentences(found: dict) -> list[str]:
    """The report for a terminal."""
    on_no_side = found["on_no_side"]
    grey = len(found["near_grey"])
    lines = [
        f"files              {found['files']}",
        f"to train on        {found['train']}",
        f"to validate on     {found['val']}",
        f"near-grey          {grey} ({100 * grey / max(1, found['files']):.1f} %), left out: mean chroma below "
        f"{found['min_chroma']}",
        *[f"for a test         {found['test']}"] * bool(found["test"]),
        *[f"on no side         {on_no_side}: copies of photographs to validate on, or beyond --split"]
        * bool(on_no_side),
        f"unreadable         {len(found['unreadable'])}",
        *(f"  {error}" for error in found["unreadable"]),
        f"formats            {', '.join(f'{name} {count}' for name, count in found['formats'].items()) or '-'}",
    ]
    for name, title in (("short_side", "short side, pixels"), ("mean_chroma", "mean chroma, Lab")):
        if found[name]:
            lines.append(f"{title:<18} " + ", ".join(f"{which} {value:g}" for which, value in found[name].items()))
    for name, title in (("exact_duplicates", "exact copies"), ("look_alikes", "look alike")):
        groups = found[name]
        across = [group for group in groups if len({side for _, side in group} & {"train", "val", "test"}) > 1]
        what = "groups" if name == "exact_duplicates" else "pairs"
        lines.append(f"{title:<18} {len(groups)} {what}, {len(across)} of them on two sides of the split")
        for group in (across + [group for group in groups if group not in across])[:_NAMED]:
            lines.append("  " + " = ".join(f"{shown(path)} ({side})" for path, side in group))
        if len(groups) > _NAMED:
            lines.append("  ... --json names all")
    return lines


def _as_json(found: dict) -> bytes:
    return (json.dumps(found, indent=2) + "\n").encode()


def _sheet(chosen: Photographs, seen: Seen) -> Image.Image:
    """Photographs of either side, evenly spread; of all that can be read where a training refuses them."""
    sides = {"train": chosen.train, "val": chosen.val}
    if not chosen.train:
        sides = {"train": list(seen.signatures)}
    pages = []
    for side, paths in sides.items():
        taken = [_thumbnail(path) for path in spread(paths, _SHOWN[side])]
        rows = [("", taken[i : i + _ROW]) for i in range(0, len(taken), _ROW)]
        pages.append(contact_sheet(f"{side}: {len(taken)} of {len(paths)} photographs", rows))
    return join(pages, downwards=True)


def _thumbnail(path: Path) -> Image.Image:
    photo = photos.read_rgb(path, min_side=160)
    photo.thumbnail((160, 160))
    return photo


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
