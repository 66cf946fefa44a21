"""Rows O and P: what colouring keeps, killed or not, and what a wrong command line says."""

import os
import re
import signal
import string
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, draw_photo
from PIL import Image
from runs import Run, command
from test_inference import levels_of_lightness_off

from gan_color import colorize, load_generator
from gan_color.__main__ import VERBS, main

# Row O


def test_size_alpha_and_lightness(pretrained, full, chance, figure):
    """Sizes from 1 to 70 pixels a side: every one at full size."""
    generator = load_generator(pretrained)
    sizes = [(w, h) for w in range(1, 71) for h in range(1, 71)]
    if not full:
        sizes = [sizes[i] for i in chance.choice(len(sizes), 40, replace=False)]
    worst = 0.0
    for width, height in sizes:
        photo = Image.fromarray(chance.integers(0, 256, (height, width, 4), dtype=np.uint8))
        coloured = colorize(generator, photo)
        assert coloured.size == photo.size
        assert np.array_equal(np.asarray(coloured)[..., 3], np.asarray(photo)[..., 3])
        worst = max(worst, levels_of_lightness_off(coloured, photo))
    figure("O", f"{len(sizes)} of {len(sizes)} sizes exact, alpha exact, lightness at most {worst:.2f} levels off")
    assert worst <= 1


def test_colouring_killed_and_begun_again(pretrained, tmp_path, full, chance, figure):
    """Killed at random times until all is done: the same bytes as at one go, and no half file on the way."""
    folder, home = tmp_path / "in", tmp_path
    folder.mkdir()
    for i in range(30):
        draw_photo(i, 200, 150).save(folder / f"{i:02}.png")
    argv = ["colorize", folder, "--checkpoint", pretrained, "--device", "cpu", "--output"]
    begun = time.monotonic()
    assert Run(command([*argv, home / "whole"]), home / "log").wait() == 0
    window, whole = time.monotonic() - begun, contents(home / "whole")
    kills, wanted, rounds = 0, 50 if full else 3, 0
    while kills < wanted:
        rounds += 1
        out = home / f"out{rounds}"
        for _ in range(100):
            run = Run(command([*argv, out]), home / "log")
            run.process.join(chance.uniform(0, window))
            run.process.kill()
            code = run.wait()
            there = contents(out)
            assert there.items() <= whole.items()
            if code == 0:
                break
            assert code == -signal.SIGKILL, run.said()
            kills += 1
        assert there == whole
    figure("O", f"{kills} kills in {rounds} rounds of 30 photographs: every output whole, all as at one go")


def contents(folder: Path) -> dict[str, bytes]:
    """Name to bytes of what is there for a user to see."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


# Row P

WRONG = [
    ["gan", "--generator", "/nowhere"],
    ["pretrain", "--data", "/nowhere"],
    ["pretrain", "--data", "/dev/null"],
    ["pretrain", "--data", "floers102"],
    ["pretrain", "--config", "/nowhere.yaml"],
    ["pretrain", "--config", "/"],
    ["pretrain", "--resume", "--out", "/nowhere"],
    ["pretrain", "--epochs", "nan"],
    ["pretrain", "--lr", "0"],
    ["pretrain", "--lr", "-1"],
    ["pretrain", "--lr", "nan"],
    ["pretrain", "--lr", "inf"],
    ["pretrain", "--lr", "1e999"],
    ["pretrain", "--size", "0"],
    ["pretrain", "--size", "31"],
    ["pretrain", "--size", "1e3"],
    ["pretrain", "--workers", "-1"],
    ["pretrain", "--batch-size", "0"],
    ["pretrain", "--batch-size", "3", "--accumulate", "2"],
    ["pretrain", "--device", "cuda:99"],
    ["pretrain", "--precision", "fp8"],
    ["pretrain", "--seed", "-1"],
    ["pretrain", "--backbone", "resnet19"],
    ["pretrain", "--weights", "/nowhere.pth"],
    ["pretrain", "--weights", "x" * 5000],
    ["pretrain", "--weights", "x" * 5000, "--architecture", "dynamic_unet"],
    ["pretrain", "--out", "x" * 5000],
    ["pretrain", "--breed", "beagle"],
    ["pretrain", "--lambda-l1", "3"],
    ["gan", "--sise", "4"],
    ["gan", "--beta1", "1"],
    ["gan", "--discriminator-depth", "9"],
    ["gan", "--from-scratch", "--size", "32", "--discriminator-depth", "4"],
    ["colorize", "/nowhere.jpg", "--checkpoint", "/nowhere", "--output", "x.png"],
    ["colorize", "samples"],
    ["colorize", "samples", "--checkpoint", "/nowhere/at all", "--output", "/dev/null/x"],
    ["export", "--checkpoint", "/nowhere/at all", "--output", "x.onnx"],
    ["export", "--checkpoint", "/nowhere", "--output", "x.pt"],
    ["info", "/nowhere/at all"],
    ["colourize", "x"],
    ["--sise"],
]


def refused(argv: list[str], capfd) -> tuple[int | None, str]:
    """Exit code and message of a command line; the code is None where it did not end as a command ends."""
    try:
        main(argv)
    except SystemExit as end:
        return end.code, capfd.readouterr().err
    except BaseException as error:
        return None, repr(error)
    return 0, capfd.readouterr().err


def test_wrong_command_lines(tmp_path, monkeypatch, capfd, figure):
    monkeypatch.chdir(tmp_path)
    wrong = []
    for argv in WRONG:
        code, error = refused(argv, capfd)
        if code not in (1, 2) or error.count("\n") != 1 or not error.startswith("gan-color: "):
            wrong.append((argv, code, error))
    figure("P", f"{len(WRONG) - len(wrong)} of {len(WRONG)} mistakes: one line, exit code 1 or 2")
    assert not wrong
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_command_lines_of_anything(tmp_path, monkeypatch, full, chance, capfd, figure):
    """Known and unknown options with values of any kind: whatever it is, one line and the exit code of a mistake."""
    monkeypatch.chdir(tmp_path)
    odd = ["", "0", "-1", "nan", "1e999", "None", "true", "/", "\n", "é", "\udcff", "x" * 5000, "--", "a=b", "[1]"]
    wrong, times = [], 3000 if full else 60
    for _ in range(times):
        verb = str(chance.choice([*VERBS, "".join(chance.choice(list(string.printable), 5))]))
        known = [name.replace("_", "-") for name in VERBS[verb][0].__dataclass_fields__] if verb in VERBS else ["x"]
        argv = [verb]
        for _ in range(int(chance.integers(1, 5))):
            argv += [f"--{chance.choice(known)}", odd[int(chance.integers(len(odd)))]]
        argv += ["--data", "/nowhere"] if verb in ("pretrain", "gan") else ["--checkpoint", "/nowhere/at all"]
        code, error = refused(argv, capfd)
        if code not in (1, 2) or error.count("\n") != 1:
            wrong.append((argv, code, error))
    figure("P", f"{times - len(wrong)} of {times} random command lines: one line, exit code 1 or 2")
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["gan", "--help"]], ids=" ".join)
def test_help_comes_at_once(argv, figure):
    """Without importing torch; the processor's time, so that a busy machine counts for nothing."""
    code = f"import resource; from gan_color.__main__ import main\ntry: main({argv!r})\nexcept SystemExit: pass\n"
    code += "used = resource.getrusage(resource.RUSAGE_SELF); print('SECONDS', used.ru_utime + used.ru_stime)"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    shown = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True)
    seconds = float(re.search(r"SECONDS ([\d.]+)", shown.stdout)[1])
    figure("P", f"gan-color {' '.join(argv)}: {seconds:.2f} s of a core")
    assert seconds < 1
