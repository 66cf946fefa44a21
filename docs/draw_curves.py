"""Draw how generators were trained: L1 of ab and colourfulness of the held-out photographs, run behind run.

python docs/draw_curves.py checkpoints/general-runs/gan checkpoints/general-again/gan --out docs/curves.png
"""

import json
from pathlib import Path

import matplotlib
import tyro
import yaml

from gan_color.errors import DataError, UsageError, one_line_errors

matplotlib.use("agg")
from matplotlib import pyplot


def trained(run: Path) -> list[tuple[dict, list[dict]]]:
    """The options and validations of a run and of those that its generator came from, the first one first."""
    metrics, config = run / "metrics.jsonl", run / "config.yaml"
    if not (metrics.is_file() and config.is_file()):
        raise DataError(f"{run} is no run with metrics.jsonl and config.yaml: give the folders of runs")
    options = yaml.safe_load(config.read_text(encoding="utf-8"))
    lines = [line for line in map(json.loads, metrics.read_text().splitlines()) if "val/l1" in line]
    if not lines:
        raise DataError(f"the run in {run} has not validated yet")
    begun = None if options.get("from_scratch") else options.get("generator")
    # Of a run that is named by one of its generators, too, such as RUN/best.
    before = [folder for folder in (Path(begun), Path(begun).parent) if _is_run(folder)] if begun else []
    return [*(trained(before[0]) if before else []), (options, lines)]


def _is_run(folder: Path) -> bool:
    return (folder / "metrics.jsonl").is_file()


def main(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path):
    """Draw curves.

    Args:
        runs: last run of each training; runs that it began with, by --generator, are drawn before it.
        out: the picture to write, .png or .jpg.
    """
    figure, (distance, colourfulness) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    if not runs:
        raise UsageError("give the last run of each training")
    for number, last in enumerate(runs):
        seen = 0  # photographs, in thousands
        for part, (options, lines) in enumerate(trained(last)):
            at = [seen + line["step"] * options["batch_size"] / 1000 for line in lines]
            seen = at[-1]
            style = "s--" if "lambda_l1" in options else "o-"
            own = {"color": f"C{number}", "markersize": 4, "label": None if part else last.parent.name}
            distance.plot(at, [line["val/l1"] / line["val/l1_grey"] for line in lines], style, **own)
            colourfulness.plot(at, [line["val/colorfulness"] for line in lines], style, **own)
            for axis in (distance, colourfulness):
                axis.axvline(seen, color="#dddddd", linewidth=1, zorder=0)
        real = lines[-1]["val/colorfulness_real"]
    distance.axhline(1, color="#999999", linewidth=1)
    distance.set(title="ab L1, as a share of grey's", ylim=(0.78, 1.02))
    colourfulness.axhline(real, color="#999999", linewidth=1)
    colourfulness.text(0, real, "real", va="bottom", color="#666666")
    colourfulness.set(title="colourfulness", ylim=(0, 1.15 * real))
    for axis in (distance, colourfulness):
        axis.set(xlabel="thousands of photographs seen; stage two dashed")
        axis.grid(alpha=0.3, axis="y")
        axis.spines[["top", "right"]].set_visible(False)
    distance.legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    with one_line_errors("draw_curves.py"):
        tyro.cli(main)
