"""The ablation tool: real runs, one of them cut off, and its intervals beside scipy's."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PROJECT
from scipy import stats

from gan_color.__main__ import main


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    return importlib.import_module("ablation")


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    return importlib.import_module("ablation_report")


def test_what_was_cut_off_goes_on_and_the_figures_are_those_of_evaluate(ablation, photo_folder, tmp_path):
    out = tmp_path / "ablation"
    told = {"data": str(photo_folder), "out": out, "variants": ("no-ema",), "seeds": 1, "size": 32, "device": "cpu"}
    told |= {"pretrain_steps": 3, "gan_steps": 2, "batch_size": 4, "jobs": 2, "architecture": "plain_cnn"}
    words = [f"--{option.replace('_', '-')}={told[option]}" for option in told if option not in ("variants", "jobs")]
    command = [sys.executable, PROJECT / "benchmarks" / "ablation.py", *words, "--variants", "no-ema"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    cut = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (begun := [*out.glob("seed-*/pretrain-3/metrics.jsonl")]):
        assert cut.poll() is None
        time.sleep(0.05)
    cut.send_signal(signal.SIGTERM)
    assert cut.wait(120) == 128 + signal.SIGTERM
    assert not (out / "table.md").exists()

    ablation.main(ablation.Options(**told))
    steps = [json.loads(line)["step"] for line in begun[0].read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 3  # nothing stands twice
    runs = {(run["variant"], run["seed"]): run for run in json.loads((out / "ablation.json").read_text())["runs"]}
    assert runs.keys() == {(name, s) for name in ("both, before stage two", "both", "no-ema") for s in (0,)}
    assert (out / "sheet.png").is_file() and not list(out.glob("seed-*/*/state"))

    raw = runs["no-ema", 0]
    assert raw["generator"] == "seed-0/pretrain-3+gan-2/raw" and raw["l1"] != runs["both", 0]["l1"]
    checkpoint, figures = str(out / raw["generator"]), tmp_path / "figures.json"
    main(["evaluate", str(photo_folder), "--part", "val", "--checkpoint", checkpoint, "--json", str(figures)])
    said = json.loads(figures.read_text())["figures"][checkpoint]
    assert {name: raw[name] for name in ("l1", "delta_e", "colorfulness_gap")} == pytest.approx(
        {name: said[name]["mean"] for name in ("l1", "delta_e", "colorfulness_gap")}, rel=1e-5
    )
    difference = raw["l1"] - runs["both", 0]["l1"]
    (line,) = [line for line in (out / "table.md").read_text().splitlines()[-8:] if line.startswith("| no-ema")]
    assert f"| no-ema | 1 | {difference:+.4f} | " in line


def test_intervals_are_students(report):
    values = np.random.default_rng(0).normal(3, 2, 5).tolist()
    mean, half = report.interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((mean - half, mean + half), (low, high))
    assert report.interval([2.0]) == (2.0, None)


def test_a_difference_is_paired_by_seed_and_bold_where_it_excludes_0(report):
    base = {0: {"l1": 0.1, "delta_e": 10.0}, 1: {"l1": 0.2, "delta_e": 11.0}, 2: {"l1": 0.3, "delta_e": 12.0}}
    # 0.010, 0.011 and 0.012 more than the base of the same seed, whatever their spread; the other differs not surely.
    other = {0: {"l1": 0.11, "delta_e": 9.0}, 2: {"l1": 0.312, "delta_e": 15.0}, 1: {"l1": 0.211, "delta_e": 11.0}}
    assert report.row("x", other, ["l1", "delta_e"], base) == "| x | 3 | **+0.0110 ± 0.0025** | +0.67 ± 5.17 |"
    assert report.row("x", {0: base[0]}, ["l1"]) == "| x | 1 | 0.1000 |"
