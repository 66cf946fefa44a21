"""The table of docs/reliability.md: runs tests/reliability at full size and prints a row for each kind of fault.

python benchmarks/reliability.py                     # all rows: hours (docs/reliability.md)
python benchmarks/reliability.py --rows A B H        # some
python benchmarks/reliability.py --smoke             # as `make test` runs them
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

import PIL
import safetensors
import tensorboard
import torch

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        what: what is done to a run, or to the tool.
        target: what shall be reached.
        tests: files of tests; one without a folder lies in tests/reliability.
        counted: where each test is one case: the tests' names, as a regular expression; otherwise the tests say
            what they reached.
    """

    what: str
    target: str
    tests: tuple[str, ...]
    counted: str | None = None


ROWS = {
    "A": Row("SIGKILL at random times, resumed", "200 of 200 identical, none lost", ("test_kills.py",)),
    "B": Row("a crash at every point of writing", "all points", ("test_crash_points.py",)),
    "C": Row("resumed at every step", "difference exactly 0", ("test_kills.py",)),
    "D": Row("losses as they were", "100 steps of each stage", ("test_identity.py",)),
    "E": Row("photographs from anyone", "no crash, none unnamed, none over 5 s", ("test_strangers_photos.py",)),
    "F": Row("malformed checkpoints", "one kind of error, below 2 GB", ("test_bad_checkpoints.py",)),
    "G": Row("a flipped bit in a checkpoint", "all refused", ("test_bad_checkpoints.py",)),
    "H": Row("a full disk", "no state lost at any size", ("test_full_disk.py",)),
    "I": Row("signals", "80 of 80 cells", ("test_signal_cells.py",)),
    "J": Row("malicious files", "15 kinds, none run", ("test_bad_checkpoints.py",), r"runs_nothing"),
    "K": Row("two processes", "at most 1e-6 from one; ended together", ("test_ranks.py",)),
    "L": Row("NaN or inf in a step", "100 of 100 stopped before the update", ("test_non_finite.py",)),
    "M": Row("the same data", "one digest, split and order", ("test_identity.py",)),
    "N": Row("a wall clock that jumps", "the same run", ("test_identity.py",)),
    "O": Row("colouring", "size and alpha exact, lightness within a level", ("test_commands.py",)),
    "P": Row("wrong command lines", "one line each; help below 1 s", ("test_commands.py",)),
    "Q": Row("TensorBoard after kills", "each step once", ("test_kills.py",)),
    "R": Row("notebooks from a fresh kernel", "all", ("tests/test_notebooks.py",), r"test_"),
    "S": Row("soak", "below 1 MB a thousand steps, no file or process left", ("test_soak.py",)),
    "T": Row("a guard is taken out", "a test turns red, each", ("test_mutations.py",), r"test_without"),
}


def run(rows: list[str], full: bool, seed: int, soak_minutes: float | None, python: str) -> list[ElementTree.Element]:
    """Run the tests of some rows; returns JUnit's test cases."""
    files = {file if "/" in file else f"tests/reliability/{file}": None for row in rows for file in ROWS[row].tests}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = [
            f"--fault-seed={seed}",
            f"--junitxml={report}",
            "--timeout=14400",
            "-ojunit_family=xunit1",
            *(["--full"] * full),
        ]
        options.append("-ojunit_family=xunit1")  # the one that holds properties of a test
        options += [f"--soak-minutes={soak_minutes}"] if soak_minutes else []
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *files]
        subprocess.run(command, cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr, check=False)
        return list(ElementTree.parse(report).iter("testcase"))


def reached(letter: str, cases: list[ElementTree.Element]) -> tuple[list[str], float, list[str]]:
    """What a row reached, the seconds it took, and the tests of it that failed."""
    row, figures, seconds, failed, counts = ROWS[letter], [], 0.0, [], [0, 0]
    for case in cases:
        values = [(p.get("name"), p.get("value")) for p in case.iter("property")]
        pairs = zip([v for n, v in values if n == "row"], [v for n, v in values if n == "figure"], strict=True)
        own = [figure for name, figure in pairs if name == letter]
        is_counted = row.counted and re.search(row.counted, case.get("name")) and case.find("skipped") is None
        in_files = any(Path(file).stem in case.get("classname") for file in row.tests)
        bad = case.find("failure") is not None or case.find("error") is not None
        if own or (is_counted and in_files):
            seconds += float(case.get("time"))
        if bad and in_files:
            failed.append(case.get("name"))
        if is_counted and in_files:
            counts = [counts[0] + (not bad), counts[1] + 1]
        elif not row.counted:
            figures += own
    return ([f"{counts[0]} of {counts[1]}"] if row.counted else figures), seconds, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="A..T")
    parser.add_argument("--smoke", action="store_true", help="at the size of every run of the tests")
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--soak-minutes", type=float)
    asked = parser.parse_args()
    begun = time.monotonic()
    cases = run(asked.rows, not asked.smoke, asked.fault_seed, asked.soak_minutes, sys.executable)
    print("| | what is done | target | reached | s |\n| --- | --- | --- | --- | --- |")
    all_failed = set()
    for letter in asked.rows:
        figures, seconds, failed = reached(letter, cases)
        all_failed.update(failed)
        row = ROWS[letter]
        print(f"| {letter} | {row.what} | {row.target} | {'<br>'.join(figures) or 'nothing'} | {seconds:.0f} |")
    versions = {"Python": sys.version.split()[0], "torch": torch.__version__, "Pillow": PIL.__version__}
    versions |= {"safetensors": safetensors.__version__, "tensorboard": tensorboard.__version__}
    print(f"\n{date.today()}, seed {asked.fault_seed}, {(time.monotonic() - begun) / 60:.0f} minutes, ", end="")
    print(f"{len(os.sched_getaffinity(0))} cores; " + ", ".join(f"{name} {v}" for name, v in versions.items()))
    for case in cases:
        known = case.find("skipped")
        if known is not None and known.get("type") == "pytest.xfail":
            print(f"known not to hold: {case.get('name')}: {known.get('message')}")
    for name in sorted(all_failed):
        print(f"failed: {name}")
    sys.exit(bool(all_failed))


if __name__ == "__main__":
    main()
