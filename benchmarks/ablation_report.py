"""What benchmarks/ablation.py finds out: measures of every run, a table with intervals over seeds, a curve, a sheet."""

import hashlib
import json
from pathlib import Path

import matplotlib
import numpy as np
import torch
from compare_recipes import Grey, sheet
from paired import machine
from scipy import stats
from torch import nn
from tqdm import tqdm

from gan_color import color, load_generator
from gan_color.classifier import Classifier, class_of
from gan_color.data import LabDataset, scan, sources, split
from gan_color.data.look import Look
from gan_color.data.paths import spread
from gan_color.device import choose_device
from gan_color.errors import DataError
from gan_color.measure import GREY, measure
from gan_color.validate import generate
from gan_color.writing import write_atomically

matplotlib.use("agg")
from matplotlib import pyplot

# Measure: heading, decimals.
MEASURES = {
    "l1": ("ab L1", 4),
    "l1_of_grey": ("of grey's", 3),
    "delta_e": ("CIEDE2000", 2),
    "colorfulness_gap": ("colourfulness - real", 1),
    "squeezenet_distance": ("Fréchet distance, SqueezeNet 1.0", 1),
    "recovered": ("semantic recovery", 3),
}
# Generators that are measured in one go: as many true and grey photographs are spared, and are lost when it is cut off.
TOGETHER = 8
# Photographs in the sheet.
SHOWN = 8

# Seed to figures by measure.
BySeed = dict[int, dict[str, float]]


class Measurer:
    """Measures generators, always on the same photographs, and keeps what it measured beside them.

    Args:
        options: of the ablation.
        found: the photographs; those held out are measured.

    Raises:
        DataError: none of the labelled photographs has a label.
        CheckpointError: the classifier cannot be read.
    """

    def __init__(self, options, found: split.Photographs):
        self.device = choose_device(options.device)
        self.classifier = Classifier(options.classifier).to(self.device) if options.classifier else None
        self.held_out = LabDataset(spread(found.val, options.val_count), options.size)
        known = labelled(options) if options.labelled else []
        self.labelled = LabDataset([look.path for look in known], options.size) if known else None
        # A figure is measured anew where this changed.
        self.protocol = {
            "photographs": found.digest,
            "count": len(self.held_out),
            "size": options.size,
            "classifier": self.classifier and self.classifier.sha256,
            "labelled": len(known),
            "labelled_photographs": hashlib.sha256("\n".join(look.digest for look in known).encode()).hexdigest(),
        }

    def measure(self, folders: list[Path]) -> None:
        """Measure the generators of several folders together."""
        networks = {str(folder): load_generator(folder, self.device) for folder in folders}
        measured = measure(self.held_out, networks, self.device, 16, classifier=self.classifier)
        figures, again = measured.figures(), {}
        if self.labelled:
            again = measure(self.labelled, networks, self.device, 16, classifier=self.classifier).figures()
        own = {}
        for name in (GREY, *networks):
            own[name] = {one: figures[name][one][0] for one in ("l1", "delta_e", "colorfulness_gap")}
            own[name]["l1_of_grey"] = own[name]["l1"] / own[GREY]["l1"]
            if self.classifier:
                own[name]["squeezenet_distance"] = measured.of_all[name]["squeezenet_distance"]
            if "recovered" in again.get(name, {}):
                own[name]["recovered"] = again[name]["recovered"][0]
        for name in networks:
            kept = {"protocol": self.protocol, "figures": own[name], GREY: own[GREY]}
            write_atomically(Path(name) / "measured.json", json.dumps(kept, indent=1).encode())

    def kept(self, folder: Path) -> dict | None:
        """What was measured of a generator, `figures` and those of `grey`; None where it was not."""
        path = folder / "measured.json"
        if not path.is_file():
            return None
        kept = json.loads(path.read_text())
        return kept if kept["protocol"] == self.protocol else None


def labelled(options) -> list[Look]:
    """Photographs whose class is known.

    Raises:
        DataError: there are none.
    """
    train, val = sources.find(str(options.labelled), options.data_root)
    known = [look for look in scan.scan([*train, *(val or [])]) if not look.error and class_of(look.path) is not None]
    if not known:
        raise DataError(f"--labelled {options.labelled} has no photograph whose name holds an ImageNet class")
    return list(spread(known, options.labelled_count))


def interval(values: list[float]) -> tuple[float, float | None]:
    """Mean and half-width of its 95 % t-interval over seeds; None of fewer than two."""
    if len(values) < 2:
        return float(np.mean(values)), None
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def row(name: str, by_seed: BySeed, measures: list[str], base: BySeed | None = None) -> str:
    """A line of a table: a system's figures, or their differences from those of the same seeds of another."""
    said = []
    seeds = [seed for seed in by_seed if base is None or seed in base]
    for one in measures:
        values = [by_seed[seed][one] - (base[seed][one] if base is not None else 0) for seed in seeds]
        if not values:
            said.append("")
            continue
        mean, half = interval(values)
        decimals, signed = MEASURES[one][1], base is not None or one == "colorfulness_gap"
        text = f"{mean:{'+' if signed else ''}.{decimals}f}"
        if half is not None:
            text += f" ± {half:.{decimals}f}"
        excludes_zero = base is not None and half is not None and abs(mean) > half
        said.append(f"**{text}**" if excludes_zero else text)
    return f"| {name} | {len(seeds)} | {' | '.join(said)} |"


def table(title: str, lines: list[str], measures: list[str]) -> str:
    """A table of rows."""
    headings = [title, "seeds", *(MEASURES[one][0] for one in measures)]
    return "\n".join([f"| {' | '.join(headings)} |", "| --- |" + (len(headings) - 1) * " ---: |", *lines]) + "\n"


def as_markdown(
    options, found, protocol: dict, rows: dict[str, BySeed], grey: dict, base: str, notes: list[str]
) -> str:
    """Both tables, and how the figures came about."""
    measures = [one for one in MEASURES if one in grey]
    ours = [row(name, by_seed, measures) for name, by_seed in rows.items()]
    bare = [f"{grey[one]:.{MEASURES[one][1]}f}" for one in measures]
    differences = [row(name, by_seed, measures, rows.get(base, {})) for name, by_seed in rows.items() if name != base]
    steps = f"{options.pretrain_steps} steps of stage one and {options.gan_steps} of stage two, or "
    steps += f"{options.pretrain_steps + options.gan_steps} of one, {options.batch_size} photographs each"
    about = [
        f"{options.architecture} from weights {Path(options.weights).name}; {len(found.train)} photographs to train "
        f"on, {steps}, at {options.size} pixels; measured on {protocol['count']} photographs held out.",
        "Mean over seeds ± half of its 95 % t-interval, which is over seeds, with the photographs as they are.",
    ]
    if "squeezenet_distance" in measures:
        about.append(
            "The Fréchet distance is of features of SqueezeNet 1.0 and no FID. It falls as photographs are added, so "
            "it compares only with others on as many."
        )
    if "recovered" in measures:
        about.append(
            f"Semantic recovery: what SqueezeNet 1.0 recognises of {protocol['labelled']} labelled photographs, as a "
            f"share of the way from grey (0) to true colour (1), both at {options.size} pixels and enlarged to 256."
        )
    count = len(differences) * len(measures)
    compared = f"Differences from {base}, paired by seed. "
    compared += (
        f"Bold: the interval excludes 0. Of {count} such intervals {0.05 * count:.1f} would do so by chance if nothing "
        "had any effect."
        if options.seeds > 1
        else "Of one seed: how far another would differ is not known."
    )
    if "perceptual" in rows and "squeezenet_distance" in measures:
        about.append("perceptual was trained on SqueezeNet's own features, so what SqueezeNet judges favours it.")
    grey_line = f"| grey | | {' | '.join(bare)} |"
    parts = [*about, table("variant", [grey_line, *ours], measures), compared, table("variant", differences, measures)]
    return "\n\n".join([*parts, *notes, f"Measured on {machine()}."]) + "\n"


def draw_curve(path: Path, points: list[tuple[str, int, dict]]) -> None:
    """Draw L1 and Fréchet distance against the number of photographs.

    Args:
        path: .png to write.
        points: (curve, photographs, figures), one a seed.
    """
    measures = [one for one in ("l1", "squeezenet_distance") if one in points[0][2]]
    figure, axes = pyplot.subplots(
        1, len(measures), figsize=(5.2 * len(measures), 4), layout="constrained", squeeze=False
    )
    for axis, one in zip(axes[0], measures, strict=True):
        for curve, colour in zip(dict.fromkeys(point[0] for point in points), ("#999999", "#0072b2"), strict=False):
            own = [(count, figures[one]) for name, count, figures in points if name == curve]
            counts = sorted({count for count, _ in own})
            means = [np.mean([value for count, value in own if count == at]) for at in counts]
            axis.plot(counts, means, color=colour, label=curve)
            axis.plot(*zip(*own, strict=True), "o", color=colour, markersize=4)
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.set(xlabel="photographs to train on", title=MEASURES[one][0])
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_sheet(path: Path, held_out: LabDataset, networks: dict[str, nn.Module]) -> None:
    """Draw the same photographs by every system, one below the other, grey first and real last."""
    L, ab = (
        torch.stack(part) for part in zip(*[held_out[i] for i in spread(range(len(held_out)), SHOWN)], strict=True)
    )
    rows = {name: color.lab_to_rgb(L, generate(network, L)) for name, network in {"grey": Grey(), **networks}.items()}
    sheet(rows | {"real": color.lab_to_rgb(L, ab)}).save(path)


def write(options, found: split.Photographs, systems: dict, sizes: dict, base: str, notes: list[str]) -> None:
    """Measure what is not measured yet, and write ablation.json, table.md, curve.png and sheet.png.

    Args:
        options: of the ablation.
        found: the photographs.
        systems: (name, seed) to the folder of a generator, in the order of the table.
        sizes: (curve, photographs, seed) to the folder of a generator.
        base: name of the system that the others are compared with.
        notes: what is said below the tables.
    """
    measurer = Measurer(options, found)
    folders = list(dict.fromkeys([*systems.values(), *sizes.values()]))
    left = [folder for folder in folders if measurer.kept(folder) is None]
    for i in tqdm(range(0, len(left), TOGETHER), "measuring", unit=f"{TOGETHER} generators", disable=None):
        measurer.measure(left[i : i + TOGETHER])
    kept = {folder: measurer.kept(folder) for folder in folders}
    figures = {folder: each["figures"] for folder, each in kept.items()}

    rows: dict[str, BySeed] = {}
    for (name, seed), folder in systems.items():
        rows.setdefault(name, {})[seed] = figures[folder]
    grey = next(iter(kept.values()))[GREY]
    text = as_markdown(options, found, measurer.protocol, rows, grey, base, notes)
    lines = [
        {"variant": name, "seed": seed, "generator": str(folder.relative_to(options.out)), **figures[folder]}
        for (name, seed), folder in systems.items()
    ]
    curve = [
        {"curve": curve, "photographs": count, "seed": seed, **figures[folder]}
        for (curve, count, seed), folder in sizes.items()
    ]
    whole = {"protocol": measurer.protocol, "grey": grey, "runs": lines, "by number of photographs": curve}
    write_atomically(options.out / "ablation.json", json.dumps(whole, indent=1).encode())
    write_atomically(options.out / "table.md", text.encode())
    first = {name: load_generator(folder) for (name, _), folder in reversed(systems.items())}
    draw_sheet(options.out / "sheet.png", measurer.held_out, {name: first[name] for name in rows})
    if len({count for _, count, _ in sizes}) > 1:
        draw_curve(options.out / "curve.png", [(*key[:2], figures[folder]) for key, folder in sizes.items()])
    print(f"{text}\nwrote ablation.json, table.md and the pictures to {options.out}")
