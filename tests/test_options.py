"""Options, from the command line and from YAML."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from gan_color.commands import ColorizeConfig
from gan_color.config import MAY_CHANGE_ON_RESUME, GanConfig, PretrainConfig
from gan_color.errors import UsageError
from gan_color.options import as_options, parse, to_yaml


def test_every_option_has_a_help_text(capsys):
    for name, (config_class, _) in _verbs().items():
        with pytest.raises(SystemExit) as end:
            parse(config_class, ["--help"], name)
        assert end.value.code == 0
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        for field in dataclasses.fields(config_class):
            if field.name not in ("inputs", "checkpoint"):
                start = re.search(rf"--{field.name.replace('_', '-')}[ ,]", text).start()
                # Between the option and its default there is a sentence.
                assert len(text[start:].split("(default:")[0].split()) > 4, field.name


def _verbs():
    from gan_color.__main__ import VERBS

    return VERBS


def test_print_config_and_config_are_inverse(capsys, tmp_path):
    given = ["--lambda-l1", "10", "--gan-objective", "lsgan", "--crops", "3", "--from-scratch", "--lr-g", "1e-5"]
    with pytest.raises(SystemExit) as end:
        parse(GanConfig, [*given, "--print-config"], "train_gan.py")
    assert end.value.code == 0
    recipe = tmp_path / "gan.yaml"
    recipe.write_text(capsys.readouterr().out)
    assert parse(GanConfig, ["--config", str(recipe)], "train_gan.py") == parse(GanConfig, given, "train_gan.py")


def test_a_home_that_the_shell_left_is_found(tmp_path, monkeypatch):
    """In --out=~/run a shell sees no path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("size: 64\nperceptual: 1\nperceptual_weights: ~/w.pth\n")
    parsed = parse(GanConfig, ["--out=~/run", "--cache=~/cache", "--resume"], "train_gan.py")
    assert (parsed.out, parsed.cache, parsed.size) == (tmp_path / "run", tmp_path / "cache", 64)
    assert parsed.perceptual_weights == tmp_path / "w.pth"
    assert parse(GanConfig, ["--config=~/run/config.yaml"], "train_gan.py").size == 64
    told = ["--output=~/out", "--report=~/r.json", "photo.png"]
    parsed = parse(ColorizeConfig, told, "gan-color colorize")
    assert (parsed.output, parsed.report, parsed.inputs) == (tmp_path / "out", tmp_path / "r.json", ("photo.png",))


def test_the_command_line_overrides_the_recipe(tmp_path):
    recipe = tmp_path / "gan.yaml"
    recipe.write_text("lambda_l1: 10\nsize: 64\nlr_g: 1e-4\n")
    parsed = parse(GanConfig, ["--config", str(recipe), "--size", "96"], "train_gan.py")
    assert (parsed.lambda_l1, parsed.size, parsed.lr_g) == (10.0, 96, 1e-4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lamda_l1: 3", "no option lamda_l1; did you mean lambda_l1?"),
        ("size: big", "--size"),
        ("size: [1", "is not YAML (line"),
        ("- size", "option: value"),
        ("gan_objective: wgan", "vanilla"),
    ],
)
def test_a_wrong_recipe_is_named_with_the_cure(tmp_path, text, says):
    recipe = tmp_path / "gan.yaml"
    recipe.write_text(text)
    with pytest.raises(UsageError) as caught:
        parse(GanConfig, ["--config", str(recipe)], "train_gan.py")
    assert says in str(caught.value) and str(recipe) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--sise", "4"], "did you mean --size?"),
        (["--size", "x"], "--size"),
        (["--size", "8"], "between 32 and 4096"),
        (["--epochs", "0"], "1 or more"),
        (["--lr", "0"], "above 0"),
        (["--lr", "nan"], "above 0"),
        (["--lr", "1e999"], "above 0"),
        (["--workers", "-1"], "0 or more"),
        (["--val-share", "1"], "between 0 and 1"),
        (["--batch-size", "6", "--accumulate", "4"], "divisor of --batch-size 6"),
        (["--loss", "l3"], "l1"),
        (["--optimizer", "rmsprop"], "adam"),
        (["--momentum", "1"], "from 0 to below 1"),
        (["--resize", "stretch"], "squash"),
        (["--target", "lab"], "rgb"),
        (["--architecture", "unet"], "pix2pix_unet"),
        (["--split", "134"], "two or three counts of photographs, such as 134/36/30"),
        (["--split", "134/0/30"], "two or three counts"),
        (["--split", "0.8/0.2"], "two or three counts"),
        (["--config"], "--config needs a file"),
        (["--config", "no/such.yaml"], "no/such.yaml"),
        (["photo.jpg"], "photo.jpg"),
    ],
)
def test_a_wrong_option_is_one_line(argv, says):
    with pytest.raises(UsageError) as caught:
        parse(PretrainConfig, argv, "train_pretrain.py")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value) and "│" not in str(caught.value)


def test_a_mistake_reads_the_same_in_a_narrow_encoding():
    command = [sys.executable, "-m", "gan_color", "gan", "--gan-objectiv", "lsgan"]
    said = [
        subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": each}, capture_output=True, text=True).stderr
        for each in ("utf-8", "ascii")
    ]
    assert said[0] == said[1] and "did you mean --gan-objective?" in said[0]


def test_resume_takes_the_options_of_the_run(tmp_path):
    (tmp_path / "config.yaml").write_text(to_yaml(PretrainConfig(size=96, out=tmp_path)))
    parsed = parse(PretrainConfig, ["--resume", "--out", str(tmp_path), "--epochs", "7"], "train_pretrain.py")
    assert (parsed.size, parsed.epochs, parsed.resume) == (96, 7, True)


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(UsageError, match="there is no run in"):
        parse(PretrainConfig, ["--resume", "--out", str(tmp_path / "new")], "train_pretrain.py")


def test_what_may_change_on_resume_are_options():
    fields = {field.name for cls in (PretrainConfig, GanConfig) for field in dataclasses.fields(cls)}
    assert fields >= MAY_CHANGE_ON_RESUME


def test_options_are_written_as_they_are_read():
    config = PretrainConfig(augment=False, val_every=3, data="a folder")
    words = as_options(config, ("augment", "val_every", "data", "size"))
    assert words == " --no-augment --val-every 3 --data 'a folder'"
    assert parse(PretrainConfig, shlex.split(words), "train_pretrain.py") == config


def test_yaml_holds_plain_values_only():
    values = yaml.safe_load(to_yaml(GanConfig()))
    assert all(value is None or isinstance(value, str | int | float | bool) for value in values.values())
