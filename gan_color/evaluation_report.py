"""What an evaluation writes: the table as text and Markdown, the figures as JSON, one line a photograph as CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from gan_color.data.look import Look
from gan_color.measure import Measured
from gan_color.writing import write_atomically

SHEET = "contact_sheet.png"
FILES = ("evaluation.json", "evaluation.md", "per_image.csv", SHEET)

# Measure, what it is called, decimals, factor; in the order of the table.
_ROWS = [
    ("l1", "L1 of ab, which lie in -1..1", 4, 1),
    ("psnr", "PSNR of RGB, dB", 2, 1),
    ("ssim", "SSIM of RGB", 4, 1),
    ("delta_e", "CIEDE2000, mean", 2, 1),
    ("delta_e_p95", "CIEDE2000, 95th percentile", 2, 1),
    ("colorfulness", "colourfulness", 1, 1),
    ("colorfulness_gap", "- minus the true", 1, 1),
    ("colorfulness_abs", "colourfulness, abs() variant", 1, 1),
    ("colorfulness_abs_gap", "- minus the true", 1, 1),
    ("gamut_mapped", "pixels outside sRGB, %", 2, 100),
    ("lpips", "LPIPS (AlexNet, v0.1)", 4, 1),
    ("fid", "FID (torch-fidelity's Inception)", 2, 1),
    ("kid", "KID x 1000", 2, 1000),
    ("top1", "top-1 of SqueezeNet 1.0, %", 1, 100),
    ("recovered", "- recovered of what grey loses, %", 1, 100),
    ("squeezenet_distance", "Fréchet distance (SqueezeNet 1.0 features)", 2, 1),
]


def as_text(protocol: dict, measured: Measured) -> str:
    """The table and the protocol for a terminal."""
    table = _table(measured)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(["", *lines, "", *_sentences(protocol), ""])


def as_json(protocol: dict, measured: Measured) -> bytes:
    """Protocol and figures; each figure with its 95 % interval, where it has one."""
    figures = {
        system: {name: {"mean": mean, "low": low, "high": high} for name, (mean, low, high) in of_system.items()}
        | {name: {"mean": value} for name, value in measured.of_all[system].items()}
        for system, of_system in measured.figures().items()
    }
    return (json.dumps({"protocol": protocol, "figures": figures}, indent=2) + "\n").encode()


def write_folder(out: Path, protocol: dict, measured: Measured, looks: Sequence[Look]) -> None:
    """Write evaluation.json, evaluation.md and per_image.csv.

    Args:
        out: the folder.
        protocol: how the figures were made.
        measured: the figures.
        looks: the photographs, in the order that they were measured in.

    Raises:
        GanColorError: a file cannot be written.
    """
    write_atomically(out / "evaluation.json", as_json(protocol, measured))
    write_atomically(out / "evaluation.md", _as_markdown(protocol, measured).encode(errors="surrogateescape"))
    write_atomically(out / "per_image.csv", _as_csv(measured, looks).encode(errors="surrogateescape"))


def _as_markdown(protocol: dict, measured: Measured) -> str:
    head, *rows = _table(measured)
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    facts = json.dumps(protocol, indent=2)
    return "\n".join(["# Evaluation", "", *lines, "", *_sentences(protocol), "", "```json", facts, "```", ""])


def _as_csv(measured: Measured, looks: Sequence[Look]) -> str:
    """A line a photograph and system: its path, SHA-256, system and values, empty where not defined."""
    known = {name for values in measured.values.values() for name in values}
    columns = [name for name, *_ in _ROWS if name in known]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "sha256", "system", *columns])
    for i, look in enumerate(looks):
        for system, values in measured.values.items():
            cells = [values[name][i] if name in values else math.nan for name in columns]
            writer.writerow([look.path, look.digest, system, *("" if math.isnan(v) else f"{v:.6g}" for v in cells)])
    return text.getvalue()


def _table(measured: Measured) -> list[list[str]]:
    """Rows of cells: a column a system, a row a measure, `mean [low, high]`."""
    figures = measured.figures()
    known = {name for of_system in (*figures.values(), *measured.of_all.values()) for name in of_system}
    rows = [["", *figures]]
    for name, title, decimals, factor in _ROWS:
        if name not in known:
            continue
        cells = []
        for system, of_system in figures.items():
            if name in of_system:
                mean, low, high = (f"{factor * value:.{decimals}f}" for value in of_system[name])
                cells.append(f"{mean} [{low}, {high}]")
            else:
                value = measured.of_all[system].get(name)
                cells.append("" if value is None else f"{factor * value:.{decimals}f}")
        rows.append([title, *cells])
    return rows


def _sentences(protocol: dict) -> list[str]:
    """The protocol in short."""
    libraries = ", ".join(f"{name} {version}" for name, version in protocol["libraries"].items())
    lines = [
        f"{protocol['photographs']} photographs of {protocol['data']} ({protocol['part']}), SHA-256 over their files' "
        f"{protocol['files_sha256'][:16]}; left out of {protocol['left_out_of']}: {protocol['unreadable']} unreadable, "
        f"{protocol['near_grey_left_out']} near-grey (mean chroma below {protocol['min_chroma']}).",
        f"The {protocol['resize']}. Brackets: {protocol['intervals']}.",
        f"{protocol['precision']} on {protocol['device']}; gan_color {protocol['gan_color']}, Python "
        f"{protocol['python']}, {libraries}.",
    ]
    if "classifier" in protocol:
        known = protocol["classifier"]["labelled"]
        lines.append(f"Top-1 is over the {known} photographs whose name, or whose folder's, holds an ImageNet class.")
    return lines
