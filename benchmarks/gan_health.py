"""Trains one healthy or sick GAN on purpose and draws its curves and grids: the runs of docs/is-my-gan-training.md.

python benchmarks/gan_health.py good --data $FLOWERS5 --out checkpoints/health --pictures docs

Stage one is trained into OUT/pretrain unless it is there. What was cut off goes on when the command is given again.
The picture is PICTURES/gan-RUN.jpg; CURVES, if given, gets what the run logged, as tests/test_judge.py reads it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import matplotlib
import tyro
from PIL import Image

from gan_color.errors import one_line_errors
from gan_color.judge import Health

matplotlib.use("agg")
from matplotlib import pyplot

COMMON = ["--size", "64", "--val-count", "200", "--weights", "none", "--sample-every", "100"]
STAGE_ONE = ["--epochs", "8"]
STAGE_TWO = ["--epochs", "5"]
# What each run is told besides, and what is wrong with it.
RUNS = {
    "good": ([], "a good run"),
    "discriminator-wins": (
        ["--lr-g", "1e-5", "--lr-d", "1e-3", "--discriminator-batch", "apart"],
        "the discriminator wins: it learns a hundred times faster, from real and fake apart",
    ),
    "lambda-too-small": (["--lambda-l1", "1"], "λ too small: nothing holds the true colours"),
    "lambda-too-large": (["--lambda-l1", "10000"], "λ too large: the GAN term has no say"),
    "rate-too-high": (["--lr-g", "2e-2", "--lr-d", "2e-2"], "learning rate too high, for both"),
    "no-stage-one": (["--from-scratch"], "stage two without stage one"),
}
FAKE, REAL, GREY, SIGN = "#0072b2", "#d55e00", "#999999", "#cc0000"


def main(
    run: tyro.conf.Positional[
        Literal["good", "discriminator-wins", "lambda-too-small", "lambda-too-large", "rate-too-high", "no-stage-one"]
    ],
    data: Path,
    out: Path = Path("checkpoints/health"),
    pictures: Path = Path("docs"),
    curves: Path | None = None,
):
    """Train and draw.

    Args:
        run: which.
        data: folder of colour photographs.
        out: gets a run folder for stage one and one for each run.
        pictures: folder of the pictures.
        curves: folder that gets RUN.jsonl; None = none is written.
    """
    options, title = RUNS[run]
    if "--from-scratch" not in options:
        train("pretrain", data, out / "pretrain", STAGE_ONE)
        options = ["--generator", str(out / "pretrain"), *options]
    train("gan", data, out / run, [*STAGE_TWO, *options])
    lines = [json.loads(line) for line in (out / run / "metrics.jsonl").read_text().splitlines()]
    draw(lines, sorted((out / run / "samples").glob("val-*.png")), title, pictures / f"gan-{run}.jpg")
    print(row(run, lines))
    if curves:
        write_curves(lines, curves / f"{run}.jsonl")


def train(stage: str, data: Path, out: Path, options: list[str]) -> None:
    """Run a stage, or go on with it; a run that ends itself (exit code 1) is drawn as far as it came."""
    command = [sys.executable, "-m", "gan_color", stage, "--data", str(data), "--out", str(out), *COMMON, *options]
    if (out / "state").is_dir():
        command.append("--resume")
    print(" ".join(["python", *command[1:]]), flush=True)
    code = subprocess.run(command, check=False).returncode
    if code not in (0, 1) or not (out / "metrics.jsonl").is_file():
        sys.exit(code)


def draw(lines: list[dict], grids: list[Path], title: str, path: Path) -> None:
    """Draw what a run logged beside its sample grids.

    Args:
        lines: of `metrics.jsonl`.
        grids: `samples/val-*.png`, the earliest first.
        title: above the picture.
        path: .jpg or .png to write.
    """
    figure = pyplot.figure(figsize=(12, 5.6), layout="constrained")
    curves, pictures = figure.subfigures(1, 2, width_ratios=(1.12, 1))
    figure.suptitle(title, fontsize=15, x=0.01, ha="left")
    (losses, accuracy), (colour, l1) = curves.subplots(2, 2, sharex=True)
    health = Health()
    signs = {line["step"]: sign for line in lines for sign in health.signs(line, line["step"])}

    plot(losses, lines, "loss/G_GAN", FAKE)
    plot(losses, lines, "loss/D", REAL)
    losses.set(title="losses of the GAN", ylim=(0, 8))
    plot(accuracy, lines, "D/accuracy_real", REAL)
    plot(accuracy, lines, "D/accuracy_fake", FAKE)
    accuracy.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    accuracy.set(title="share of patches judged rightly", ylim=(0, 1.02))
    plot(colour, lines, "val/colorfulness", FAKE)
    plot(colour, lines, "val/colorfulness_real", REAL)
    colour.set(title="colourfulness, held out", ylim=(0, 130))
    plot(l1, lines, "val/l1", FAKE)
    plot(l1, lines, "val/l1_grey", GREY)
    l1.set(title="L1 of ab, held out", ylim=(0, 0.4))
    for axes in (losses, accuracy, colour, l1):
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        for step in signs:
            axes.axvline(step, color=SIGN, linewidth=1, linestyle="--")
    for axes in (colour, l1):
        axes.set_xlabel("step")

    names, page = progress(grids)
    axes = pictures.subplots()
    axes.imshow(page, interpolation="lanczos")
    axes.set_yticks([page.height / len(names) * (row + 0.5) for row in range(len(names))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 82, "optimize": True})
    pyplot.close(figure)
    for step, sign in signs.items():
        print(f"step {step}: {sign}")


def row(run: str, lines: list[dict]) -> str:
    """A run as a row of the table in docs/is-my-gan-training.md: means over the last 100 steps, and the end."""
    end = [line for line in lines if "val/l1" in line][-1]
    late = [line for line in lines if "loss/D" in line and line["step"] > end["step"] - 100]
    g_gan, real, fake = (
        sum(line[tag] for line in late) / len(late) for tag in ("loss/G_GAN", "D/accuracy_real", "D/accuracy_fake")
    )
    l1, colour = end["val/l1"] / end["val/l1_grey"], end["val/colorfulness"] / end["val/colorfulness_real"]
    return f"| {run} | {g_gan:.2f} | {real:.2f} | {fake:.2f} | {colour:.2f} | {l1:.2f} | {l1 + abs(1 - colour):.2f} |"


def plot(axes, lines: list[dict], tag: str, tint: str) -> None:
    """Draw one tag over the steps; a few points, such as validations, get dots."""
    points = [(line["step"], line[tag]) for line in lines if tag in line]
    steps, values = zip(*points, strict=True) if points else ((), ())
    axes.plot(steps, values, color=tint, label=tag, linewidth=1.5, marker="o" if len(points) < 20 else None, ms=3)


def progress(grids: list[Path]) -> tuple[list[str], Image.Image]:
    """The same photographs as rows: grey, as coloured at each step that was drawn, real; and what each row is."""
    steps = {int(grid.stem.removeprefix("val-")): Image.open(grid) for grid in grids}
    last = max(steps)
    shown = {step: grid for step, grid in steps.items() if step == last or step <= last - 50}
    # A grid is three rows on a white border of two pixels.
    height = (steps[last].height - 2) // 3
    cuts = [(steps[0], 0), *((grid, 1) for grid in shown.values()), (steps[last], 2)]
    page = Image.new("RGB", (steps[0].width, height * len(cuts)), "white")
    for number, (grid, row) in enumerate(cuts):
        page.paste(grid.crop((0, 2 + height * row, grid.width, 2 + height * (row + 1))), (0, height * number))
    return ["grey", *(f"step {step}" for step in shown), "real"], page


def write_curves(lines: list[dict], path: Path) -> None:
    """Write what signs of sickness are read from, four digits each."""
    tags = ("D/accuracy_real", "D/accuracy_fake", "loss/G_GAN", "val/l1", "val/l1_grey", "val/colorfulness")
    tags += ("val/colorfulness_real",)
    kept = [{"step": line["step"], **{t: float(f"{line[t]:.4g}") for t in tags if t in line}} for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in kept if len(line) > 1))


if __name__ == "__main__":
    with one_line_errors("gan_health.py"):
        tyro.cli(main)
