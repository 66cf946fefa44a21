"""Reads the options of a command from its command line and from YAML, and writes them back. Imports no torch."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import os
import re
import shlex
from pathlib import Path
from typing import TypeVar

import tyro
import yaml

from gan_color.config import TrainConfig
from gan_color.errors import UsageError

Config = TypeVar("Config")


def parse(config_class: type[Config], argv: list[str], program: str) -> Config:
    """Build a config from a command line.

    Args:
        config_class: a dataclass of `config`.
        argv: the options, without the program's name.
        program: shown in help and errors, such as `train_gan.py`.

    Returns:
        The config. `--help` and `--print-config` print and end the process with code 0 instead.

    Raises:
        UsageError: an option is unknown, has a wrong value, or the YAML file is at fault.
    """
    defaults = None
    description = config_class.__doc__
    if issubclass(config_class, TrainConfig):
        description += " --config FILE takes options from a YAML file, --print-config writes them as one."
        ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        ours.add_argument("--config", type=_expanded)
        ours.add_argument("--print-config", action="store_true")
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                asked, argv = ours.parse_known_args(argv)
            except SystemExit as end:
                raise UsageError("--config needs a file") from end
        source = asked.config or _config_to_resume(config_class, argv)
        if source:
            defaults = from_yaml(config_class, source, program)
    config = _from_options(config_class, argv, program, description, defaults)
    if isinstance(config, TrainConfig) and asked.print_config:
        print(to_yaml(config), end="")
        raise SystemExit(0)
    return config


def _config_to_resume(config_class: type, argv: list[str]) -> Path | None:
    """The config.yaml of the run that `--resume` continues, or None without that option."""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--resume", action="store_true")
    peek.add_argument("--out", type=_expanded, default=config_class.out)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            asked, _ = peek.parse_known_args(argv)
        except SystemExit:
            return None  # the full parser will say what is wrong
    if not asked.resume:
        return None
    path = asked.out / "config.yaml"
    if not os.path.isfile(path):
        raise UsageError(f"--resume: there is no run in {asked.out}; leave --resume out to start one")
    return path


def _from_options(config_class, argv, program, description=None, defaults=None):
    """Let tyro read the options; turn what it prints about a mistake into one line."""
    given = {} if defaults is None else {"default": defaults}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            config = tyro.cli(config_class, args=argv, prog=program, description=description, **given)
    except SystemExit as end:
        if not end.code:
            raise  # --help
        raise UsageError(f"{_one_line(said.getvalue())} See {program} --help") from end
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    paths = {name: _expanded(value) for name, value in values.items() if isinstance(value, Path)}
    return dataclasses.replace(config, **paths)


def _expanded(path: str | Path) -> Path:
    """With the user's home for a ~ that the shell left, as it does in --out=~/run."""
    return Path(os.path.expanduser(path))


def _one_line(box: str) -> str:
    """What tyro drew as a box (title, message, perhaps options that are meant), as one sentence."""
    lines = [line.strip(" │╭╮╰╯─") for line in box.splitlines()[1:]]
    # Rules become empty lines, whether drawn in Unicode or, for a narrow encoding, in ASCII.
    paragraphs = "\n".join("" if set(line) <= {"-"} else line for line in lines).strip("\n").split("\n\n")
    message = " ".join(paragraphs[0].split()).rstrip(".")
    near = re.findall(r"^(--[\w-]+)", "\n".join(paragraphs[1:]) if "Perhaps" in box else "", re.M)
    return f"{message}; did you mean {' or '.join(dict.fromkeys(near))}?" if near else f"{message}."


def from_yaml(config_class: type[Config], path: Path, program: str = "config") -> Config:
    """Read a config that `--print-config` or a run wrote.

    Raises:
        UsageError: the file cannot be read, is no mapping, or a key or value is wrong; names the nearest key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise UsageError(f"{path} is not YAML{f' (line {where.line + 1})' if where else ''}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold `option: value` lines, as --print-config writes them")
    known = [field.name for field in dataclasses.fields(config_class)]
    argv = []
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise UsageError(f"{path}: no option {key}" + (f"; did you mean {near[0]}?" if near else ""))
        option = str(key).replace("_", "-")
        if isinstance(value, bool):
            argv.append(f"--{option}" if value else f"--no-{option}")
        else:
            argv.append(f"--{option}={value}")
    try:
        return _from_options(config_class, argv, program)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def to_yaml(config: TrainConfig) -> str:
    """Write every option of a run as YAML, in the order of the fields."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def to_dict(config: TrainConfig) -> dict[str, str | int | float | bool | None]:
    """The options as plain values, without `resume`, which says how a run was started and not what it is."""
    values = dataclasses.asdict(config)
    del values["resume"]
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def as_options(config: TrainConfig, names: tuple[str, ...]) -> str:
    """Write the named options that are not at their defaults as a user would type them, each after a space."""
    values = to_dict(config)
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    given = {
        name.replace("_", "-"): values[name]
        for name in names
        if values[name] != defaults[name] and values[name] != str(defaults[name])
    }
    return "".join(
        f" --no-{name}" if value is False else f" --{name} {shlex.quote(str(value))}" for name, value in given.items()
    )
