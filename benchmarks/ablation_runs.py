"""The runs of benchmarks/ablation.py: what each is told, its training, and what is kept of it."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from gan_color import checkpoint, generators
from gan_color.data import split
from gan_color.device import cores
from gan_color.errors import UsageError, shown
from gan_color.writing import write_atomically

PROJECT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Run:
    """One stage of one seed."""

    # Named after all that it changes: equal runs of two variants are one.
    folder: Path
    stage: str
    seed: int
    steps: int
    changes: dict[str, object]
    # The stage one that it goes on from.
    start: "Run | None" = None

    @property
    def done(self) -> bool:
        """Whether it has taken all its steps."""
        return (self.folder / "trained.json").is_file()


def run_of(home: Path, stage: str, seed: int, steps: int, changes: dict, start: Run | None = None) -> Run:
    """A run of a stage, in a folder named after what it changes, under that of its seed."""
    own = ",".join([f"{stage}-{steps}", *(f"{option}={value}" for option, value in changes.items())])
    folder = home / "+".join([*([start.folder.name] if start else []), own.replace("/", "of")])
    return Run(folder, stage, seed, steps, changes, start)


def share_of(run: Run, count: int) -> int:
    """How many of so many photographs a run trains on."""
    numerator, denominator = map(int, run.changes.get("data", "1/1").split("/"))
    return max(2, count * numerator // denominator)


def photographs_of(options, run: Run) -> Path:
    """The list of photographs of a run that trains on a share of them: a seed's own, the smaller within the larger."""
    return options.out / f"seed-{run.seed}" / f"photographs-{run.changes['data'].replace('/', 'of')}.txt"


def write_lists(options, found: split.Photographs, runs: list[Run]) -> None:
    """Write the lists that runs train on a share of the photographs by."""
    for run in runs:
        if "data" in run.changes:
            shuffled = random.Random(run.seed).sample(list(found.train), len(found.train))
            chosen = shuffled[: share_of(run, len(shuffled)) + 1]  # the run holds one out
            listed = b"".join(os.fsencode(path.resolve()) + b"\n" for path in chosen)
            write_atomically(photographs_of(options, run), listed)


def command(options, run: Run) -> list[str]:
    """How a run is started, or goes on."""
    words = [sys.executable, str(PROJECT / f"train_{run.stage}.py"), "--out", str(run.folder)]
    words += ["--data-root", str(options.data_root), "--seed", str(run.seed), "--size", str(options.size)]
    words += ["--batch-size", str(options.batch_size), "--device", options.device, "--workers", str(options.workers)]
    # It ends by its steps, and validates and draws at its end only; it is measured here, when all are trained.
    words += ["--max-steps", str(run.steps), "--epochs", "1000000", "--val-every", "1000000", "--val-count", "8"]
    words += ["--sample-every", "1000000", "--save-every", "100"]
    words += ["--generator", str(run.start.folder)] if run.start else []
    if run.start is None:
        words += ["--architecture", options.architecture, "--weights", options.weights]
        words += ["--from-scratch"] if run.stage == "gan" else []
    if run.stage == "pretrain":
        words += ["--lr", str(options.lr), "--lr-encoder", str(options.lr_encoder)]
    is_share = "data" in run.changes
    words += ["--data", str(photographs_of(options, run)) if is_share else options.data]
    # A list holds photographs to train on; of these a run itself holds out one, and cannot do without.
    words += ["--val-share", "1e-9"] if is_share else []
    words += ["--perceptual-weights", str(options.classifier)] if "perceptual" in run.changes else []
    for option, value in run.changes.items():
        name = option.replace("_", "-")
        if value is False:
            words += [f"--no-{name}"]
        elif option != "data":
            words += [f"--{name}", str(value)]
    return [*words, "--resume"] if checkpoint.holds_run(run.folder) else words


def train(options, runs: list[Run]) -> dict[Path, str]:
    """Train what is not trained yet, --jobs runs at once.

    However this process ends, the runs at work are ended by a SIGTERM, at which they save.

    Returns:
        The last words of the runs that failed, by folder.
    """
    waiting, failed = [run for run in runs if not run.done], {}
    working: dict[Path, tuple[Run, subprocess.Popen]] = {}
    bar = tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="training", unit="run", disable=None)
    try:
        while waiting or working:
            for run in list(waiting):
                if run.start and run.start.folder in failed:
                    waiting.remove(run)
                    failed[run.folder] = "its stage one failed"
                elif len(working) < options.jobs and (run.start is None or run.start.done):
                    waiting.remove(run)
                    working[run.folder] = run, start(options, run)
            for run, process in list(working.values()):
                if process.poll() is not None:
                    del working[run.folder]
                    if process.returncode == 0:
                        finish(run)
                    else:
                        failed[run.folder] = last_words(run)
                    bar.update()
                    bar.write(f"{run.folder.relative_to(options.out)}: {failed.get(run.folder, 'trained')}")
            time.sleep(0.1)
    finally:
        bar.close()
        for _, process in working.values():
            process.terminate()
        for _, process in working.values():
            process.wait()
    return failed


def start(options, run: Run) -> subprocess.Popen:
    """Begin a run, or go on with it; it has its share of the cores and a log beside its folder."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores() // options.jobs))}
    with log_of(run).open("ab") as log:
        return subprocess.Popen(command(options, run), stdout=log, stderr=log, env=environment)


def finish(run: Run) -> None:
    """Keep the generators of a run that ended, and drop what only its going on would need."""
    if run.stage == "gan":
        state = checkpoint.load_state(run.folder)
        raw = generators.build(state["generator"]["architecture"], **state["generator"]["options"])
        raw.load_state_dict(state["stage"]["generator"])
        info = json.loads((run.folder / "generator" / "config.json").read_text())["training"]
        checkpoint.save_generator(run.folder / "raw", raw, **state["generator"], info=info)
    write_atomically(run.folder / "trained.json", json.dumps({"steps": run.steps}).encode())
    for name in ("state", "best"):
        shutil.rmtree(run.folder / name, ignore_errors=True)


def log_of(run: Run) -> Path:
    """What a run said."""
    return run.folder.with_name(f"{run.folder.name}.log")


def last_words(run: Run) -> str:
    """Why a run ended."""
    return ([*log_of(run).read_text(errors="replace").strip().splitlines(), "no word"])[-2:][0]


def require_same(options, found: split.Photographs) -> None:
    """Refuse an --out whose runs were told otherwise, or saw other photographs.

    Raises:
        UsageError: names the option.
    """
    names = ("data", "size", "batch_size", "architecture", "weights", "lr", "lr_encoder")
    told = {name: str(getattr(options, name)) for name in names}
    told["data"] += f" (its photographs: {found.digest[:12]})"
    path = options.out / "told.json"
    before = json.loads(path.read_text()) if path.is_file() else told
    for name, value in told.items():
        if before.get(name, value) != value:
            raise UsageError(
                f"--out {shown(options.out)} holds runs with --{name.replace('_', '-')} {before[name]}, not {value}: "
                "give another --out"
            )
    write_atomically(path, json.dumps(told).encode())
