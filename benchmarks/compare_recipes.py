"""Train recipes for the same wall-clock time on the same photographs, and compare what came of them.

python benchmarks/compare_recipes.py --data $PHOTOS --size 128 --minutes 20 --out checkpoints/compare

Each stage is a run of its script: a few steps first, thrown away, tell how many fit into the time; then that many are
taken, so that a learning rate that falls has fallen at the end. What is still at work when the time is over gets a
SIGTERM, at which it saves. The time counts from the first step on. Two stages share it as the recipe shares its epochs;
`--recipes coco_sample/pretrain` gives one stage all of it, and `best@FILE` starts best's encoder from a file's weights.

Writes table.md and sheet.png, a row a generator. A stage that is done is not trained again, so what was cut off goes on
where it was; a change of the other options needs another --out. So two can share the work, each on a core of its own
(taskset -c 0, taskset -c 1) with --recipes of its own; the command with all of them then measures what both trained.
"""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import tyro
import yaml
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from gan_color import color, images, load_generator
from gan_color.contact_sheet import contact_sheet
from gan_color.data import LabDataset, lab, split
from gan_color.data.paths import spread
from gan_color.errors import GanColorError, UsageError, one_line_errors
from gan_color.validate import generate, validate
from gan_color.writing import write_atomically

PROJECT = Path(__file__).resolve().parent.parent
RECIPES = PROJECT / "recipes"
# Steps of the run that tells the pace: the second half is what is read.
TRIAL_STEPS = 16
# Share of the time that is planned for: the pace was measured on few steps.
PLANNED = 0.95
# Seconds a stage may take to finish its step and save after the time is over.
PATIENCE = 600


@dataclasses.dataclass
class Options:
    """What every run is told alike."""

    # A folder of photographs with train and val in it, a list file or a named set.
    data: str
    # Folder for the runs, the table and the sheet.
    out: Path = Path("checkpoints/compare")
    # Recipes to train, or one stage of one, such as coco_sample/pretrain, perhaps @ a file of weights; none = all.
    recipes: tuple[str, ...] = ()
    # Time for each, both stages together.
    minutes: float = 20.0
    # Side of the square that all are trained and measured at, pixels.
    size: int = 128
    # Photographs they are measured on, evenly spread over those held out.
    val_count: int = 500
    # Where named data sets lie.
    data_root: Path = Path("datasets")


def parts(recipe: str) -> tuple[str, str, str]:
    """The name, the only stage and the file of weights of NAME, NAME/STAGE or NAME@FILE; empty where not given."""
    what, _, weights = recipe.partition("@")
    name, _, only = what.partition("/")
    return name, only, weights


def folder_name(recipe: str) -> str:
    """Where the runs of a recipe are."""
    name, only, weights = parts(recipe)
    return name + (f"-only-{only}" if only else "") + ("-given-weights" if weights else "")


def shares(recipe: str) -> dict[str, float]:
    """The stages of a recipe and the share of the time that each gets: as they share the epochs."""
    name, only, _ = parts(recipe)
    files = [RECIPES / name / f"{stage}.yaml" for stage in ("pretrain", "gan") if only in ("", stage)]
    epochs = {path.stem: yaml.safe_load(path.read_text())["epochs"] for path in files if path.is_file()}
    if not epochs or (only == "gan" and not yaml.safe_load(files[0].read_text())["from_scratch"]):
        known = ", ".join(sorted(path.name for path in RECIPES.iterdir()))
        raise UsageError(f"--recipes {recipe} cannot be trained: there are {known}, and NAME/pretrain for one stage")
    return {stage: count / sum(epochs.values()) for stage, count in epochs.items()}


def command(options: Options, recipe: str, stage: str, run: Path, start: Path | None, steps: int) -> list[str]:
    """A run of a stage of a recipe on the photographs of all, for so many steps."""
    name, _, weights = parts(recipe)
    words = [sys.executable, str(PROJECT / f"train_{stage}.py"), "--config", str(RECIPES / name / f"{stage}.yaml")]
    words += ["--data", options.data, "--data-root", str(options.data_root), "--split", "None", "--breed", "None"]
    words += ["--min-chroma", "4", "--size", str(options.size), "--out", str(run), "--max-steps", str(steps)]
    # Epochs and validations are not to end or interrupt it; a learning rate follows the steps.
    words += ["--epochs", "100000", "--val-every", "100000", "--val-count", "8", "--save-every", "1000000"]
    words += ["--sample-every", "1000000", "--log-every", str(TRIAL_STEPS // 2)]
    if start:
        return [*words, "--generator", str(start)]
    return words + (["--weights", weights] if weights else [])


def train(options: Options, recipe: str, stage: str, run: Path, start: Path | None, seconds: float) -> dict:
    """Train one stage for its time, unless that was done before; returns how it went, as written to stage.json."""
    done = run / "stage.json"
    if done.is_file():
        return json.loads(done.read_text())
    trial = run.with_name(f"{stage}-trial")
    for folder in (run, trial):
        shutil.rmtree(folder, ignore_errors=True)  # cut off: how long it had is not known
    watch(command(options, recipe, stage, trial, start, TRIAL_STEPS), trial, None)
    pace = last_pace(trial)
    batch_size = yaml.safe_load((trial / "config.yaml").read_text())["batch_size"]
    steps = max(TRIAL_STEPS, int(PLANNED * seconds * pace / batch_size))
    shutil.rmtree(trial)
    print(f"{recipe} {stage}: {steps} steps at {pace:.1f} images/s", flush=True)
    took = watch(command(options, recipe, stage, run, start, steps), run, seconds)
    taken = json.loads((run / "generator" / "config.json").read_text())["training"]["step"]
    info = {"steps": taken, "planned": steps, "seconds": round(took, 1), "images": taken * batch_size}
    info["images_per_second"] = taken * batch_size / took
    write_atomically(done, json.dumps(info).encode())
    return info


def watch(words: list[str], run: Path, seconds: float | None) -> float:
    """Run a command; end it by a SIGTERM when its time is over, or when this process ends.

    Returns:
        Seconds from its first step, which follows the first line of its metrics.jsonl, to its end.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said)
        try:
            while process.poll() is None and not (run / "metrics.jsonl").is_file():
                time.sleep(0.1)
            began = time.monotonic()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise GanColorError(f"{run} did not save within {PATIENCE} s after its time") from error
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        said.seek(0)
        if process.returncode not in (0, 128 + signal.SIGTERM):
            raise GanColorError(f"{run} failed: {(said.read().strip() or 'no word').splitlines()[-1]}")
    return time.monotonic() - began


def last_pace(run: Path) -> float:
    """Images per second of training, as the run logged them last."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["perf/images_per_second"] for line in lines if "perf/images_per_second" in line][-1]


def sheet(rows: dict[str, Tensor]) -> Image.Image:
    """Draw rows of photographs, (N, 3, H, W) uint8 each, with their names below them."""
    drawn = [(name, [images.to_image(rgb) for rgb in row]) for name, row in rows.items()]
    return contact_sheet("photographs held out, spread evenly", drawn, side=drawn[0][1][0].width)


class Grey(nn.Module):
    """A generator without colour: what each of the others is to be better than."""

    def forward(self, L: Tensor) -> Tensor:
        """No colour, (N, 2, H, W)."""
        return torch.zeros_like(L).expand(-1, 2, -1, -1)


def compare(options: Options, runs: dict[str, tuple[Path, dict]]) -> None:
    """Measure every generator on the same held-out photographs; write the table and the sheet."""
    found = split.photographs(options.data, options.data_root)
    dataset = LabDataset(spread(found.val, options.val_count), options.size)
    batches = lab.loader(dataset, [range(i, min(i + 16, len(dataset))) for i in range(0, len(dataset), 16)], workers=0)
    shown = [dataset[i] for i in spread(range(len(dataset)), 8)]
    L, ab = (torch.stack(part) for part in zip(*shown, strict=True))
    lines, rows = [], {}
    for title, (run, info) in {"grey": (None, None), **runs}.items():
        generator = load_generator(run) if run else Grey()
        values = validate(generator, batches, torch.device("cpu"), len(dataset))
        cells = [
            f"{values['val/l1']:.4f}",
            f"{values['val/l1'] / values['val/l1_grey']:.3f}",
            f"{values['val/delta_e']:.2f}",
            f"{values['val/colorfulness'] - values['val/colorfulness_real']:+.1f}",
        ]
        if run:
            cells += [
                f"{sum(weights.numel() for weights in generator.parameters()) / 1e6:.1f} M",
                f"{info['seconds'] / 60:.1f}",
                f"{info['images_per_second']:.1f}",
                f"{info['images']:,}",
                f"{info['steps'] / info['planned']:.0%}",
            ]
        lines.append(f"| {title} | {' | '.join(cells)} |" + ("" if run else " | | | | |"))
        rows[title] = color.lab_to_rgb(L, generate(generator, L))
    rows["real"] = color.lab_to_rgb(L, ab)
    table = (
        f"{len(found.train)} photographs to train on, {len(dataset)} to measure on, {options.size} pixels, "
        f"{options.minutes:g} minutes a system; all are measured on the middle squares\n\n"
        "| generator | val L1 | of grey's | CIEDE2000 | colourfulness - real | parameters | minutes | images/s "
        "| images | of its steps |\n| --- |" + 9 * " ---: |" + "\n" + "\n".join(lines) + "\n"
    )
    write_atomically(options.out / "table.md", table.encode())
    sheet(rows).save(options.out / "sheet.png")
    print(f"\n{table}\nwrote {options.out / 'table.md'} and {options.out / 'sheet.png'}")


def main(options: Options) -> None:
    """Train, then compare."""
    runs = {}
    plans = {recipe: shares(recipe) for recipe in options.recipes or sorted(path.name for path in RECIPES.iterdir())}
    folders = {recipe: options.out / folder_name(recipe) for recipe in plans}
    if len(set(folders.values())) < len(folders):
        raise UsageError("--recipes has one recipe with two files of weights: give each another --out")
    for recipe, plan in tqdm(plans.items(), unit="recipe", disable=None):
        before, folder = None, folders[recipe]
        name, only, weights = parts(recipe)
        for stage, share in plan.items():
            info = train(options, recipe, stage, folder / stage, before, 60 * options.minutes * share)
            before = folder / stage
            title = f"{name}/{stage}" if only or len(plan) > 1 else name
            runs[title + (", given weights" if weights else "")] = (before, info)
    compare(options, runs)


if __name__ == "__main__":
    with one_line_errors("compare_recipes.py"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and end the run that is at work
        main(tyro.cli(Options))
