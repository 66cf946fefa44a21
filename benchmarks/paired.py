"""Times ways of doing the same thing side by side: A B A B in one run, so that what else the machine does hits all."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm


def paired(ways: dict[str, Callable[[], object]], rounds: int = 5, wall: bool = False) -> dict[str, tuple]:
    """Time each way once a round, in an order that turns from round to round, after one round that is not counted.

    Args:
        ways: name to what is timed; the first is the reference.
        rounds: how often.
        wall: time on the wall instead of this process's CPU time, which other processes disturb less. A GPU is waited
            for; its work is on the wall only.

    Returns:
        Name to (median seconds, how many times as fast as the reference: the median of the rounds' ratios).
    """
    clock = time.perf_counter if wall else time.process_time
    names = list(ways)
    seconds = {name: [] for name in names}
    for number in tqdm(range(-1, rounds), "rounds", disable=None, leave=False):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            _wait_for_the_device()
            start = clock()
            ways[name]()
            _wait_for_the_device()
            if number >= 0:
                seconds[name].append(clock() - start)
    reference = seconds[names[0]]
    return {
        name: (
            statistics.median(its),
            statistics.median(ref / own for ref, own in zip(reference, its, strict=True)),
        )
        for name, its in seconds.items()
    }


def _wait_for_the_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> str:
    """The line that goes with every figure: processor, what it can do, cores, threads, GPU, versions."""
    try:
        told = dict(
            line.split(":", 1)
            for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
            if ":" in line
        )
        told = {name.strip(): value.strip() for name, value in told.items()}
        can = "avx512_bf16" if "avx512_bf16" in told.get("flags", "").split() else "no avx512_bf16"
        cpu = f"{told.get('model name', platform.machine())} ({can})"
    except OSError:
        cpu = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{cores} cores of {cpu}, {torch.get_num_threads()} thread(s), {gpu}; Python {platform.python_version()}, "
        f"torch {torch.__version__}; load average {os.getloadavg()[0]:.1f}"
    )
