"""Draw how runs went: L1 of ab and colourfulness of the held-out photographs, stage two behind stage one.

python docs/draw_curves.py checkpoints/general-runs checkpoints/general-again --out docs/curves.png
"""

import json
from pathlib import Path

import matplotlib
import tyro

from gan_color.errors import DataError, UsageError, one_line_errors

matplotlib.use("agg")
from matplotlib import pyplot


def measured(run: Path) -> list[dict]:
    """What a run measured while it trained, step by step."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        raise DataError(f"there is no {path}: give folders that hold the runs pretrain and gan")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if "val/l1" in line]


def main(runs: tyro.conf.Positional[tuple[Path, ...]], out: Path):
    """Draw curves.

    Args:
        runs: folders with the runs `pretrain` and `gan` of one generator each.
        out: the picture to write, .png or .jpg.
    """
    figure, (distance, colourfulness) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    if not runs:
        raise UsageError("give folders that hold the runs pretrain and gan")
    for number, folder in enumerate(runs):
        one, two = measured(folder / "pretrain"), measured(folder / "gan")
        ends = one[-1]["step"]
        for lines, begin, style in ((one, 0, "o-"), (two, ends, "s--")):
            steps = [begin + line["step"] for line in lines]
            own = {"color": f"C{number}", "markersize": 4, "label": folder.name if lines is one else None}
            distance.plot(steps, [line["val/l1"] / line["val/l1_grey"] for line in lines], style, **own)
            colourfulness.plot(steps, [line["val/colorfulness"] for line in lines], style, **own)
        real = one[-1]["val/colorfulness_real"]
    distance.axhline(1, color="#999999", linewidth=1)
    distance.set(title="ab L1, as a share of grey's", xlabel="step; stage two behind stage one, dashed")
    colourfulness.axhline(real, color="#999999", linewidth=1)
    colourfulness.text(0, real, "real", va="bottom", color="#666666")
    colourfulness.set(title="colourfulness", xlabel="step; stage two behind stage one, dashed", ylim=(0, 1.15 * real))
    for axis in (distance, colourfulness):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    distance.legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    with one_line_errors("draw_curves.py"):
        tyro.cli(main)
