"""What a run is told: one dataclass a command, its command line and its YAML. Imports no torch.

A field is an option: `lambda_l1` is `--lambda-l1`, the comment above a field is its help.
"""

import argparse
import contextlib
import dataclasses
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import tyro
import yaml

from gan_color.errors import UsageError

Config = TypeVar("Config")


def _require(holds: bool, option: str, value: object, allowed: str) -> None:
    """Raise a UsageError that names the option, its value and what is allowed."""
    if not holds:
        raise UsageError(f"--{option.replace('_', '-')} is {value}: it must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What both training stages are told."""

    # Photographs to train on: samples (embedded), flowers102, oxford_pets, coco_sample, a folder (searched
    # recursively; its train and val subfolders are kept apart), or a text file with one path a line.
    data: str = "samples"
    # Where named data sets lie or are downloaded to.
    data_root: Path = Path("datasets")
    # One breed of oxford_pets, such as american_bulldog; None = all 37.
    breed: str | None = None
    # Share of the photographs held out for validation where the data set brings no split of its own.
    val_share: float = 0.1
    # Photographs whose mean chroma is below this, in Lab units, are near-grey and left out; 0 keeps all.
    min_chroma: float = 4.0
    # Largest share of unreadable files that is skipped before the run refuses (10 files are always allowed).
    max_unreadable: float = 0.01
    # Random crops of each photograph in one epoch; None = 1, for the few embedded samples 32.
    crops: int | None = None
    # Smallest random crop, as a share of the photograph's short side.
    min_crop: float = 0.6
    # Side of the square the networks are trained on, pixels.
    size: int = 128

    # Generator architecture.
    architecture: Literal["resnet_unet"] = "resnet_unet"
    # Encoder of the generator: any ResNet-family name of timm.
    backbone: str = "resnet18"
    # Weights the encoder starts from: imagenet (timm's), none, a file, or auto = imagenet when they are cached
    # or can be reached within seconds, else none.
    weights: str = "auto"

    # Photographs in one optimizer step, over all processes and accumulated parts together.
    batch_size: int = 16
    # Parts each process cuts its share of a batch into, to fit memory: the gradients add up to the same step.
    accumulate: int = 1
    # Passes over the photographs.
    epochs: int = 20
    # Stop after this many optimizer steps, if that comes before the last epoch; None = no limit.
    max_steps: int | None = None
    # Share of the run over which the learning rate rises from 0.
    warmup: float = 0.02
    # Share of the run after which the learning rate falls linearly to 0.
    decay_from: float = 0.0

    # Seed of weights, order and augmentation.
    seed: int = 0
    # Processes that load photographs; None = 1 on a CPU, up to 8 beside a GPU.
    workers: int | None = None
    # cpu, cuda, cuda:N, mps, or auto.
    device: str = "auto"
    # Arithmetic of the networks; auto = bf16 where the hardware has it, else fp32. Losses and colour are fp32.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    # Steps between points in TensorBoard's loss curves.
    log_every: int = 10
    # Steps between sample grids (grey / fake / real rows); step 0 and the end are always drawn.
    sample_every: int = 200
    # Photographs in a sample grid.
    sample_count: int = 8
    # Steps between checkpoints; the end and a clean stop are always saved.
    save_every: int = 500
    # Epochs between validations.
    val_every: int = 1
    # Photographs measured in a validation, evenly spread; None = all.
    val_count: int | None = 500

    # Continue the run in --out; options not given again are taken from its config.yaml.
    resume: bool = False

    def __post_init__(self):
        for option in ("batch_size", "accumulate", "epochs", "log_every", "sample_every", "sample_count"):
            _require(getattr(self, option) >= 1, option, getattr(self, option), "1 or more")
        for option in ("save_every", "val_every"):
            _require(getattr(self, option) >= 1, option, getattr(self, option), "1 or more")
        for option in ("crops", "max_steps", "val_count"):
            value = getattr(self, option)
            _require(value is None or value >= 1, option, value, "1 or more, or None")
        _require(self.workers is None or self.workers >= 0, "workers", self.workers, "0 or more, or None")
        _require(32 <= self.size <= 4096, "size", self.size, "between 32 and 4096 pixels")
        _require(0 < self.val_share < 1, "val_share", self.val_share, "between 0 and 1, both excluded")
        _require(0 < self.min_crop <= 1, "min_crop", self.min_crop, "above 0 and at most 1")
        _require(0 <= self.min_chroma < 100, "min_chroma", self.min_chroma, "from 0 to below 100")
        for option in ("max_unreadable", "warmup", "decay_from"):
            _require(0 <= getattr(self, option) <= 1, option, getattr(self, option), "from 0 to 1")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more, below 2**63")
        _require(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            self.accumulate,
            f"a divisor of --batch-size {self.batch_size}",
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """Stage one: pretrain the generator with a reconstruction loss on Lab's a and b channels."""

    # Reconstruction loss between generated and true ab.
    loss: Literal["l1", "l2", "smooth_l1"] = "l1"
    # Learning rate of Adam.
    lr: float = 1e-3
    # Run folder: checkpoints, event files, sample grids.
    out: Path = Path("checkpoints/pretrain")

    def __post_init__(self):
        super().__post_init__()
        _require(0 < self.lr < 10, "lr", self.lr, "above 0 and below 10")


@dataclass(frozen=True, kw_only=True)
class GanConfig(TrainConfig):
    """Stage two: train the generator against a PatchGAN with GAN + lambda * L1."""

    # Generator of stage one to start from: its run folder or its generator folder.
    generator: Path = Path("checkpoints/pretrain")
    # Start from an untrained generator instead of --generator.
    from_scratch: bool = False
    # GAN objective: vanilla = cross-entropy on patch logits, lsgan = squared error, hinge.
    gan_objective: Literal["vanilla", "lsgan", "hinge"] = "vanilla"
    # Weight of L1 beside the GAN term.
    lambda_l1: float = 100.0
    # Strided layers of the discriminator; 3 sees patches of 70x70 pixels.
    discriminator_depth: int = 3
    # Normalisation in the discriminator.
    discriminator_norm: Literal["batch", "instance", "spectral", "none"] = "batch"
    # Real and fake photographs pass the discriminator in one batch (together) or in two (apart).
    discriminator_batch: Literal["together", "apart"] = "together"
    # Steps at the start that train the discriminator alone.
    discriminator_warmup: int = 0
    # Learning rate of the generator's Adam.
    lr_g: float = 2e-4
    # Learning rate of the discriminator's Adam.
    lr_d: float = 2e-4
    # Adam's beta1 for both networks.
    beta1: float = 0.5
    # Adam's beta2 for both networks.
    beta2: float = 0.999
    # Decay of the generator's moving average, which is what is validated, sampled and saved for use.
    ema_decay: float = 0.999
    # Share of the run after which the learning rate falls linearly to 0.
    decay_from: float = 0.5
    # Run folder: checkpoints, event files, sample grids.
    out: Path = Path("checkpoints/gan")

    def __post_init__(self):
        super().__post_init__()
        for option in ("lr_g", "lr_d"):
            _require(0 < getattr(self, option) < 10, option, getattr(self, option), "above 0 and below 10")
        for option in ("beta1", "beta2", "ema_decay"):
            _require(0 <= getattr(self, option) < 1, option, getattr(self, option), "from 0 to below 1")
        _require(0 <= self.lambda_l1 < float("inf"), "lambda_l1", self.lambda_l1, "0 or more and finite")
        _require(1 <= self.discriminator_depth <= 5, "discriminator_depth", self.discriminator_depth, "1 to 5")
        _require(self.discriminator_warmup >= 0, "discriminator_warmup", self.discriminator_warmup, "0 or more")


# What may differ between a run and its continuation. Everything else would make the curves lie.
MAY_CHANGE_ON_RESUME = frozenset(
    [
        "lr",
        "lr_g",
        "lr_d",
        "lambda_l1",
        "ema_decay",
        "epochs",
        "max_steps",
        "warmup",
        "decay_from",
        "workers",
        "device",
        "accumulate",
        "log_every",
        "sample_every",
        "save_every",
        "val_every",
        "val_count",
        "data_root",
        "weights",
        "generator",
        "from_scratch",
        "out",
        "resume",
    ]
)


@dataclass(frozen=True, kw_only=True)
class ColorizeConfig:
    """Colour photographs at their own size; the lightness stays theirs."""

    # Photographs to colour, folders of them, or `samples` for the embedded ones.
    inputs: tyro.conf.Positional[tuple[str, ...]]
    # Generator: a run folder or a generator folder.
    checkpoint: Path
    # File (for one photograph) or folder to write to; .png, .jpg, .webp, .tif, .bmp.
    output: Path
    # Short side the network sees, pixels; None = the size it was trained at.
    size: int | None = None
    # cpu, cuda, cuda:N, mps, or auto.
    device: str = "auto"
    # Write over outputs that exist.
    overwrite: bool = False

    def __post_init__(self):
        _require(self.size is None or 32 <= self.size <= 4096, "size", self.size, "between 32 and 4096 pixels")


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Print what a checkpoint is: architecture, parameters, how it was trained."""

    # Generator: a run folder or a generator folder.
    checkpoint: tyro.conf.Positional[Path]


def parse(config_class: type[Config], argv: list[str], program: str) -> Config:
    """Build a config from a command line.

    Args:
        config_class: one of this module's dataclasses.
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
        ours.add_argument("--config", type=Path)
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
    peek.add_argument("--out", type=Path, default=config_class.out)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            asked, _ = peek.parse_known_args(argv)
        except SystemExit:
            return None  # the full parser will say what is wrong
    if not asked.resume:
        return None
    path = asked.out / "config.yaml"
    if not path.is_file():
        raise UsageError(f"--resume: there is no run in {asked.out}; leave --resume out to start one")
    return path


def _from_options(config_class, argv, program, description=None, defaults=None):
    """Let tyro read the options; turn what it prints about a mistake into one line."""
    given = {} if defaults is None else {"default": defaults}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config_class, args=argv, prog=program, description=description, **given)
    except SystemExit as end:
        if not end.code:
            raise  # --help
        raise UsageError(f"{_one_line(said.getvalue())} See {program} --help") from end


def _one_line(box: str) -> str:
    """What tyro drew as a box, as one sentence and the nearest options."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    rules = [i for i, line in enumerate(lines) if set(line) == {"─"}]
    message = " ".join(lines[: rules[0] if rules else None]).strip().rstrip(".")
    near = re.findall(r"^(--[\w-]+)", "\n".join(lines[rules[0] :] if "Perhaps" in box and rules else []), re.M)
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
