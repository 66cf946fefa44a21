"""Which ingredients earn their place: variants of the two stages at one budget, several seeds each, side by side.

python benchmarks/ablation.py --data $PHOTOS --size 96 --out checkpoints/ablation --jobs 2 \
    --classifier $SHARED/weights/squeezenet1_0_imagenet_deepcompression.pth --labelled $SHARED/data/scenes

A run is the stage's own script, for a fixed number of steps, so of photographs seen. All variants of a seed see the
same photographs in the same order and share what they have in common: stage one is trained once for all that do not
change it. What is trained or measured is never trained or measured again, and what was cut off goes on: give the
command anew, perhaps with more variants or seeds. --dry-run lists the runs.

Writes ablation.json (every run), table.md, curve.png and sheet.png (ablation_report.py).
"""

import dataclasses
import signal
import sys
from pathlib import Path

import ablation_report as report
import tyro
from ablation_runs import Run, require_same, run_of, share_of, train, write_lists

from gan_color.data import split
from gan_color.errors import SomeFailed, UsageError, one_line_errors

# Name: what it changes in stage one and in stage two; None = it has no such stage, and the other takes all the steps.
# `data` is the share of the photographs to train on; `ema: off` measures the generator itself instead of its average.
VARIANTS = {
    "both": ({}, {}),
    "stage-one-only": ({}, None),
    "stage-two-only": (None, {}),
    "lambda-10": ({}, {"lambda_l1": 10}),
    "lambda-300": ({}, {"lambda_l1": 300}),
    "no-ema": ({}, {"ema": "off"}),
    "photographs-1/16": ({"data": "1/16"}, {"data": "1/16"}),
    "photographs-1/8": ({"data": "1/8"}, {"data": "1/8"}),
    "photographs-1/4": ({"data": "1/4"}, {"data": "1/4"}),
    "photographs-1/2": ({"data": "1/2"}, {"data": "1/2"}),
    "lsgan": ({}, {"gan_objective": "lsgan"}),
    "hinge": ({}, {"gan_objective": "hinge"}),
    "instance-norm": ({}, {"discriminator_norm": "instance"}),
    "spectral-norm": ({}, {"discriminator_norm": "spectral"}),
    "warmup": ({}, {"discriminator_warmup": 50}),
    "ttur": ({}, {"lr_g": 1e-4, "lr_d": 4e-4}),
    "discriminator-rgb": ({}, {"discriminator_input": "rgb"}),
    "r1": ({}, {"r1": 10}),
    "perceptual": ({}, {"perceptual": 10}),
    "no-augmentation": ({"augment": False}, {"augment": False}),
    "near-grey-kept": ({"min_chroma": 0}, {"min_chroma": 0}),
}
# What all others are compared with.
BASE = "both"
# What stage two of that begins with: a row of the table that costs no run.
BEFORE = "both, before stage two"


@dataclasses.dataclass(frozen=True)
class Options:
    """What all runs are told alike, and which there are."""

    # A folder of photographs with train and val in it, a list file or a named set.
    data: str
    # Folder for the runs, the table and the pictures.
    out: Path = Path("checkpoints/ablation")
    # Where named data sets lie.
    data_root: Path = Path("datasets")
    # Variants to run, in this order; none = all. "both" is always among them.
    variants: tuple[str, ...] = ()
    # Seeds of each: 0, 1, 2, ...
    seeds: int = 3
    # Side of the square that all are trained and measured at, pixels.
    size: int = 96
    # Photographs in one step.
    batch_size: int = 16
    # Steps of stage one.
    pretrain_steps: int = 400
    # Steps of stage two.
    gan_steps: int = 250
    # Architecture of the generator.
    architecture: str = "resnet_unet"
    # Weights its encoder starts from: none, imagenet, or a file.
    weights: str = "none"
    # Learning rate of stage one; stage two has its own.
    lr: float = 1e-3
    # That of its encoder; None = the same.
    lr_encoder: float | None = None
    # What the networks run on.
    device: str = "auto"
    # Processes that load photographs, in each run.
    workers: int = 0
    # Runs at once; they share the cores.
    jobs: int = 1
    # Photographs measured, evenly spread over those held out; None = all.
    val_count: int | None = None
    # State dict of torchvision's squeezenet1_0, for the Fréchet distance, the recognition and the perceptual loss;
    # None = without these.
    classifier: Path | None = None
    # Folder of photographs whose names hold ImageNet's classes, to be recognised by --classifier.
    labelled: Path | None = None
    # Photographs of --labelled that are taken, evenly spread; None = all.
    labelled_count: int | None = 200
    # List the runs and end.
    dry_run: bool = False

    def __post_init__(self):
        unknown = [name for name in self.variants if name not in VARIANTS]
        if unknown:
            raise UsageError(f"--variants {unknown[0]}: there are {', '.join(VARIANTS)}")
        for option in ("seeds", "batch_size", "pretrain_steps", "gan_steps", "jobs"):
            if getattr(self, option) < 1:
                raise UsageError(f"--{option.replace('_', '-')} is {getattr(self, option)}: it must be 1 or more")
        if self.labelled and not self.classifier:
            raise UsageError("--labelled needs --classifier, which recognises the photographs")


def plan(options: Options, name: str, seed: int) -> tuple[Run, str]:
    """The last run of a variant, and which of its generators is measured: `generator` or, without EMA, `raw`."""
    one, two = VARIANTS[name]
    home, steps = options.out / f"seed-{seed}", options.pretrain_steps + options.gan_steps
    first = None
    if one is not None:
        first = run_of(home, "pretrain", seed, steps if two is None else options.pretrain_steps, one)
    if two is None:
        return first, "generator"
    changes = {option: value for option, value in two.items() if option != "ema"}
    last = run_of(home, "gan", seed, options.gan_steps if first else steps, changes, first)
    return last, "raw" if two.get("ema") == "off" else "generator"


def left_out(options: Options, found: split.Photographs) -> dict[str, str]:
    """Variants that would be the base, or cannot be trained, and why."""
    why = {}
    if split.photographs(options.data, options.data_root, min_chroma=0).digest == found.digest:
        why["near-grey-kept"] = f"no photograph of this set is near-grey, so it would be {BASE}"
    if options.classifier is None:
        why["perceptual"] = "it needs --classifier"
    return why


def systems(ends: dict) -> dict[tuple[str, int], Path]:
    """The generators of the table, by name and seed: the variants', and what the base's stage two began with."""
    before = {(BEFORE, seed): end.start.folder / "generator" for (name, seed), (end, _) in ends.items() if name == BASE}
    after = {key: end.folder / which for key, (end, which) in ends.items()}
    return {key: folder for key, folder in (before | after).items() if (folder.parent / "trained.json").is_file()}


def sizes(ends: dict, count: int) -> dict[tuple[str, int, int], Path]:
    """The generators of the curve, by its name, the number of photographs and the seed."""
    found = {}
    for (name, seed), (end, _) in ends.items():
        if name == BASE or "data" in end.changes:
            for curve, run in (("after stage one", end.start), ("after both", end)):
                if run.done:
                    found[curve, share_of(run, count), seed] = run.folder / "generator"
    return found


def main(options: Options) -> None:
    """Train, measure, compare."""
    found = split.photographs(options.data, options.data_root)
    names = list(dict.fromkeys([BASE, *(options.variants or VARIANTS)]))
    why = left_out(options, found)
    notes = [f"{name} is not among them: {why[name]}." for name in names if name in why]
    names = [name for name in names if name not in why]
    # Variant by variant, so that those named first are whole first.
    ends = {(name, seed): plan(options, name, seed) for name in names for seed in range(options.seeds)}
    runs = list({run.folder: run for end, _ in ends.values() for run in (end.start, end) if run}.values())
    if options.dry_run:
        for run in runs:
            print(f"{'done ' if run.done else ''}{run.folder.relative_to(options.out)}: {run.steps} steps")
        left = sum(run.steps for run in runs if not run.done)
        print(f"{len(runs)} runs; {left} steps of {options.batch_size} photographs to go")
        return
    require_same(options, found)
    write_lists(options, found, runs)
    failed = train(options, runs)
    notes += [f"{folder.relative_to(options.out)} failed: {words}" for folder, words in failed.items()]
    if measurable := systems(ends):
        report.write(options, found, measurable, sizes(ends, len(found.train)), BASE, notes)
    if failed:
        raise SomeFailed(f"{len(failed)} of {len(runs)} runs failed, the first with: {next(iter(failed.values()))}")


if __name__ == "__main__":
    with one_line_errors("ablation.py"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end the runs that are at work
        main(tyro.cli(Options, description=__doc__))
