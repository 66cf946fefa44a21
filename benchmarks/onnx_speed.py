"""A generator in PyTorch beside its ONNX export on this CPU: how fast, and how far apart.

    python benchmarks/onnx_speed.py CHECKPOINT

One photograph at a time, 256 x 256, the two in turns, so that whatever else the machine does hits both; one thread
each and CPU time, because on a busy machine wall time measures the neighbours. The ratio is the median of the ratios
of turns.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path

import onnxruntime
import torch

from gan_color import load_generator
from gan_color.errors import one_line_errors
from gan_color.export import CHECKED_SHAPES, largest_difference, to_onnx
from gan_color.onnx_generator import open_session

SIDE = 256


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def seconds(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", help="a run folder or a generator folder")
    parser.add_argument("--rounds", type=int, default=60, help="pairs that are timed")
    options = parser.parse_args()
    torch.set_num_threads(1)

    generator = load_generator(options.checkpoint)
    data = to_onnx(generator)
    session = open_session(data)
    fast_layout = load_generator(options.checkpoint).to(memory_format=torch.channels_last)
    L = torch.rand(1, 1, SIDE, SIDE) * 2 - 1
    L_numpy, L_fast = L.numpy(), L.to(memory_format=torch.channels_last)
    ways = {
        "PyTorch": lambda: generator(L),
        "PyTorch, channels_last": lambda: fast_layout(L_fast),
        "ONNX Runtime": lambda: session.run(None, {"L": L_numpy}),
    }
    times = {name: [] for name in ways}
    with torch.inference_mode():
        for number in range(options.rounds + 5):
            for name, way in ways.items():
                taken = seconds(way)
                if number >= 5:  # the first few choose algorithms and allocate
                    times[name].append(taken)

    print(f"{processor()}; torch {torch.__version__}, onnxruntime {onnxruntime.__version__}")
    print(f"{SIDE}x{SIDE}, one at a time, one thread, CPU time, {options.rounds} rounds in turns")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(times["PyTorch"], taken, strict=True))
        print(f"{name:<23} median {statistics.median(taken) * 1e3:7.1f} ms   PyTorch takes {ratio:.2f} times as long")
    print(f"largest difference over (N, H, W) {', '.join(map(str, CHECKED_SHAPES))}:", end=" ")
    print(f"{largest_difference(generator, data):.1e} in ab of -1..1")


if __name__ == "__main__":
    with one_line_errors("onnx_speed.py"):
        main()
