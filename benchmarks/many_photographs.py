"""What a start costs, and what a photograph costs after it, as the photographs become a million.

python benchmarks/many_photographs.py --data $PHOTOS --counts 1000 10000 100000 1000000

Makes folders of hard links to real photographs, 1,000 in each, in --scratch, which must lie on the disk of the
photographs, and removes them. Looks are kept in --scratch. A file is looked at once however many links it has, so the
first start is that of a set with as many different photographs as --data has.
"""

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from paired import machine

from gan_color.data import split
from gan_color.data.lab import LabDataset
from gan_color.data.photos import find_photos
from gan_color.errors import one_line_errors


def link(originals: list[Path], folder: Path, count: int) -> None:
    """Give the photographs as many names."""
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:04}").mkdir(parents=True)
        os.link(originals[number % len(originals)], folder / f"{number // 1000:04}" / f"{number:07}.jpg")


def start(folder: Path) -> tuple[split.Photographs, float, float]:
    """What a training does before its first step: the photographs, seconds on the wall, and of this process's CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = split.photographs(os.fspath(folder), folder)
    return found, time.perf_counter() - wall, time.process_time() - cpu


def own_mebibytes() -> float:
    """Memory that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def read_many(dataset: LabDataset, said) -> None:
    """In a process of its own: milliseconds of CPU an item, and what it comes to own by naming every path once."""
    torch.set_num_threads(1)
    items = np.random.default_rng(0).permutation(len(dataset))[:500].tolist()
    _ = [dataset.rgb(item) for item in items[:50]]
    cpu = time.process_time()
    _ = [dataset.rgb((1, item)) for item in items]
    per_item = (time.process_time() - cpu) / len(items)
    before = own_mebibytes()
    _ = sum(1 for _ in dataset.paths)
    said.put((1e3 * per_item, own_mebibytes() - before))


def main(
    data: Path,
    counts: tuple[int, ...] = (1000, 10_000, 100_000),
    scratch: Path = Path("many_photographs"),
    size: int = 128,
):
    """Measure.

    Args:
        data: a folder of photographs.
        counts: how many names they are given.
        scratch: a folder to make and remove.
        size: side of the square, pixels.
    """
    scratch = scratch.resolve()
    os.environ["XDG_CACHE_HOME"] = os.fspath(scratch / "cache")
    fork = multiprocessing.get_context("fork")
    rows = []
    try:
        (scratch / "originals").mkdir(parents=True)
        originals = [Path(shutil.copy(path, scratch / "originals")) for path in find_photos(data)]
        for count in counts:
            folder = scratch / str(count)
            link(originals, folder, count)
            time.sleep(3)  # a file that was changed just now is not remembered
            shutil.rmtree(scratch / "cache", ignore_errors=True)
            (_, first, _), (found, second, cpu) = start(folder), start(folder)
            dataset = LabDataset(found.train, size, train=True)
            del found
            said = fork.Queue()
            reader = fork.Process(target=read_many, args=(dataset, said))
            reader.start()
            per_item, grown = said.get()
            reader.join()
            rows.append((count, min(count, len(originals)), first, second, cpu, per_item, grown))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{machine()}\n")
    print("| names | files | first start, s | second, s | of which CPU | ms an item | MiB a reader grows by |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print("| {:,} | {:,} | {:.1f} | {:.1f} | {:.1f} | {:.2f} | {:.1f} |".format(*row))


if __name__ == "__main__":
    with one_line_errors("many_photographs.py"):
        tyro.cli(main)
