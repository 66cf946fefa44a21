"""Row S: a long run takes no more memory and no more files with time, and leaves no process behind."""

import json
import time

import numpy as np
import psutil
from runs import Run, command, options


def test_soak(photo_folder, tmp_path, request, full, figure):
    """Both loader workers, saves, grids and validations included."""
    minutes = request.config.getoption("--soak-minutes") or (120 if full else 0.2)
    out = tmp_path / "run"
    more = ["--epochs", 10**8, "--workers", 2, "--log-every", 10, "--save-every", 100, "--sample-every", 50]
    run = Run(command(options("pretrain", photo_folder, out, *more, "--val-every", 50)), tmp_path / "log")
    process = psutil.Process(run.pid)
    lines = out / "metrics.jsonl"
    while run.process.is_alive() and not (lines.exists() and '"loss/G"' in lines.read_text()):
        time.sleep(0.1)
    seen, until = [], time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        time.sleep(min(10, 0.6 * minutes))
        assert run.process.is_alive(), run.said()
        whole_lines = lines.read_text().split("\n")[:-1]  # the last may be half written
        step = json.loads(whole_lines[-1])["step"]
        seen.append((step, process.memory_info().rss / 2**20, process.num_fds()))
    children = process.children(recursive=True)
    run.signal(15)
    code = run.process.join(60) or run.process.exitcode
    _, alive = psutil.wait_procs(children, timeout=10)
    run.wait()
    steps, rss, files = (np.array(column) for column in zip(*seen, strict=True))
    late = slice(len(seen) // 4, None)  # after what is allocated once
    slope = np.polyfit(steps[late], rss[late], 1)[0] * 1000
    figure(
        "S",
        f"{minutes:g} minutes, {steps[-1]} steps: {slope:+.2f} MB a thousand steps, {np.median(files):.0f} "
        f"open files (at most {files.max()}), {len(alive)} processes left",
    )
    assert code == 143 and len(children) >= 2 and not alive
    # Not the most, which a validation or a save has for a moment.
    assert np.median(files[late]) <= np.median(files[: len(seen) // 4])
    if full:
        assert slope < 1
