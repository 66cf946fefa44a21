"""The commands as a user runs them."""

import os
import re
import subprocess
import sys

import pytest
from conftest import PROJECT, TINY, draw_photo

from gan_color import __version__, checkpoint


def command(*argv, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    given = {"cwd": PROJECT, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([sys.executable, *map(str, argv)], **(given | options))


def test_both_scripts_then_colorize(photo_folder, tmp_path):
    pretrain, gan = tmp_path / "pretrain", tmp_path / "gan"
    first = command("train_pretrain.py", "--data", photo_folder, "--out", pretrain, *TINY, "--epochs", "1")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""  # no bar, no warning where there is no terminal
    assert f"tensorboard --logdir {tmp_path}" in first.stdout
    assert f"python train_gan.py --generator {pretrain}" in first.stdout
    options = ["--data", photo_folder, "--generator", pretrain, "--out", gan, *TINY, "--epochs", "1"]
    second = command("train_gan.py", *options)
    assert second.returncode == 0, second.stderr
    assert "gan-color colorize" in second.stdout
    draw_photo(0, 70, 50).save(tmp_path / "photo.jpg")
    options = ["--checkpoint", gan, "--output", tmp_path / "coloured.png"]
    third = command("-m", "gan_color", "colorize", tmp_path / "photo.jpg", *options)
    assert third.returncode == 0, third.stderr
    assert (tmp_path / "coloured.png").is_file()
    info = command("-m", "gan_color", "info", gan)
    assert "architecture  resnet_unet (backbone test_resnet," in info.stdout
    assert re.search(r"^stage +gan$", info.stdout, re.M) and re.search(r"^parameters +[1-9][\d,]+$", info.stdout, re.M)


@pytest.mark.parametrize("script", ["train_pretrain.py", "train_gan.py"])
def test_scripts_explain_themselves(script):
    shown = command(script, "--help")
    assert shown.returncode == 0 and f"usage: {script}" in shown.stdout
    text = " ".join(shown.stdout.replace("│", " ").split())
    assert "--lr" in text and "(default: samples)" in text


def test_the_verbs_are_listed_and_the_version_said():
    assert "colorize" in command("-m", "gan_color", "--help").stdout
    assert command("-m", "gan_color", "--version").stdout == f"gan-color {__version__}\n"
    wrong = command("-m", "gan_color", "colourize")
    assert wrong.returncode == 2 and wrong.stderr == "gan-color: no verb colourize; did you mean colorize?\n"


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["pretrain", "--help"], ["gan", "--sise", "4"], ["colorize"]]
)
def test_torch_is_not_imported_for_help_and_mistakes(argv):
    code = (
        f"import sys; from gan_color.__main__ import main\ntry: main({argv!r})\nfinally: print('torch' in sys.modules)"
    )
    assert command("-c", code).stdout.rstrip().endswith("False")


def test_importing_the_package_imports_no_torch():
    assert command("-c", "import sys, gan_color; print('torch' in sys.modules)").stdout == "False\n"
    assert (
        command("-c", "from gan_color import colorize, load_generator; print(colorize.__name__)").stdout == "colorize\n"
    )


def test_a_reader_that_goes_away_is_no_error():
    shown = subprocess.run(
        f"{sys.executable} train_gan.py --help | head -n 1", shell=True, cwd=PROJECT, capture_output=True, text=True
    )
    assert "Traceback" not in shown.stderr and "usage" in shown.stdout


def test_a_locale_that_is_not_utf8_is_no_error(tmp_path):
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    assert command("train_gan.py", "--help", env=environment).returncode == 0


def refused(capsys, *argv) -> tuple[int, str]:
    """Exit code and message of a command that must end before any work."""
    from gan_color.__main__ import main

    with pytest.raises(SystemExit) as end:
        main([str(word) for word in argv], program=f"train_{argv[0]}.py")
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith(f"train_{argv[0]}.py: "), error
    return end.value.code, error


@pytest.fixture
def unused(tmp_path):
    """A run folder in which a refused run must leave nothing."""
    out = tmp_path / "run"
    yield out
    assert not out.exists() or list(out.iterdir()) == []


def test_an_empty_folder_is_refused(unused, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code, error = refused(capsys, "pretrain", "--data", tmp_path / "empty", "--out", unused, *TINY)
    assert code == 1 and "holds no photographs" in error


def test_a_folder_of_grey_photographs_is_refused(unused, tmp_path, capsys):
    (tmp_path / "grey").mkdir()
    for seed in range(3):
        draw_photo(seed).convert("L").save(tmp_path / "grey" / f"{seed}.png")
    code, error = refused(capsys, "pretrain", "--data", tmp_path / "grey", "--out", unused, *TINY)
    assert code == 1 and "no colour to learn" in error and "--min-chroma" in error


def test_fewer_photographs_than_a_batch_are_refused(unused, photo_folder, capsys):
    code, error = refused(capsys, "pretrain", "--data", photo_folder, "--out", unused, *TINY, "--batch-size", "64")
    assert code == 2 and "--batch-size 64" in error and "lower it to" in error


def test_a_missing_generator_is_said_with_the_way_around(unused, photo_folder, tmp_path, capsys):
    options = ["--data", photo_folder, "--out", unused, *TINY]
    code, error = refused(capsys, "gan", "--generator", tmp_path / "none", *options)
    assert code == 2 and "train_pretrain.py" in error and "--from-scratch" in error


def test_from_scratch_needs_no_generator(train, tmp_path):
    run = train("gan", tmp_path / "run", "--from-scratch", "--max-steps", "1")
    assert checkpoint.load_state(run)["step"] == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--epochs", "-1"], "--epochs is -1"),
        (["--device", "tpu"], "--device tpu"),
        (["--backbone", "resnet19"], "--backbone resnet19"),
        (["--architecture", "unet"], "resnet_unet"),
        (["--batch-siz", "4"], "did you mean --batch-size"),
        (["--weights", "/no/such/file.pth"], "/no/such/file.pth"),
        (["--generator", "genral"], "did you mean general?"),
        (["--generator", "genral"], "leave --generator out"),
        (["--generator", "general", "--architecture", "autoencoder"], "--architecture autoencoder contradicts"),
        (["--generator", "general", "--weights", "imagenet"], "--weights is imagenet"),
    ],
)
def test_wrong_options_are_refused(unused, photo_folder, capsys, options, says):
    code, error = refused(capsys, "pretrain", "--data", photo_folder, "--out", unused, *TINY, *options)
    assert code == 2 and says in error


def test_an_output_folder_that_cannot_be_written_is_refused(photo_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    options = ["--data", photo_folder, *TINY]
    code, error = refused(capsys, "pretrain", *options, "--out", tmp_path / "file" / "run")
    assert code == 2 and "cannot be written" in error


def test_a_used_run_folder_is_refused_and_kept(pretrained, photo_folder, capsys):
    before = {path: path.read_bytes() for path in pretrained.rglob("*") if path.is_file()}
    code, error = refused(capsys, "pretrain", "--data", photo_folder, "--out", pretrained, *TINY)
    assert code == 2 and "--resume" in error and "another --out" in error
    assert {path: path.read_bytes() for path in pretrained.rglob("*") if path.is_file()} == before
