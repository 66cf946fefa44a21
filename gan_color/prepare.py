"""Everything a run can be refused for, checked before any work starts."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from gan_color import checkpoint, distributed, generators, run_state
from gan_color.config import MAY_CHANGE_ON_RESUME, GanConfig, PretrainConfig, TrainConfig
from gan_color.data import decoded, lab, order, sources, split
from gan_color.data.paths import spread
from gan_color.device import choose_device, choose_precision, precision_name
from gan_color.distributed import say
from gan_color.errors import CheckpointError, DataError, UsageError, shown
from gan_color.faults import one_line_faults
from gan_color.generators import Generator, pretrained
from gan_color.generators.places import generator_folder
from gan_color.options import from_yaml, to_dict
from gan_color.run_lock import run_lock
from gan_color.run_state import versions
from gan_color.writing import require_writable

# What each process of a run may be told for itself: the machines need not be alike.
_MAY_DIFFER = {"data", "data_root", "device", "workers", "cache", "weights", "generator", "perceptual_weights", "out"}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run works with, once everything that can be refused has been checked."""

    device: torch.device
    precision: torch.dtype
    train: lab.LabDataset
    val: lab.LabDataset
    # Photographs that a test may use, because the run never sees them.
    test: Sequence[Path]
    # Identifies the photographs and their order.
    data_digest: str
    steps_per_epoch: int
    # The optimizer step at which the run ends.
    last_step: int
    # What the run goes on from; None for a new one.
    state: dict | None


@contextlib.contextmanager
def open_run(config: TrainConfig) -> Iterator[dict | None]:
    """Hold the run folder while the body runs in it, once what costs nothing to check has been checked.

    Where the body ends without an error, the processes part: it must have let go of its networks by then.

    Yields:
        The state to go on from, or None for a new run.

    Raises:
        UsageError: the folder holds another run, cannot be written or is in use, or options differ that may not
            change on resuming.
        CheckpointError: there is no whole state to resume from.
        GanColorError: memory was too small, or another process of the run ended.
    """
    if checkpoint.holds_run(config.out) and not config.resume:
        raise UsageError(f"{shown(config.out)} holds a run already: continue it with --resume, or give another --out")
    require_writable(config.out, "--out")
    with one_line_faults(config), run_lock(config.out) if distributed.rank() == 0 else contextlib.nullcontext():
        yield _state_to_resume(config) if config.resume else None
        distributed.finish()


def _state_to_resume(config: TrainConfig) -> dict:
    """The newest whole state, once the options are found to be those it was made with."""
    before, now = to_dict(from_yaml(type(config), config.out / "config.yaml")), to_dict(config)
    for name in now.keys() - MAY_CHANGE_ON_RESUME:
        if now[name] != before[name]:
            raise UsageError(
                f"--resume: the run in {shown(config.out)} has --{name.replace('_', '-')} {before[name]}, not "
                f"{now[name]}: leave the option out, or start anew with another --out"
            )
    for name in sorted(now.keys() & MAY_CHANGE_ON_RESUME):
        if now[name] != before[name] and name not in ("weights", "out"):
            say(f"changed on resuming: {name} {before[name]} -> {now[name]}")
    state = checkpoint.load_state(config.out)
    lacking = [name for name, kind in run_state.KINDS.items() if not isinstance(state.get(name), kind)]
    if lacking:
        raise CheckpointError(f"the state in {shown(config.out)} lacks {', '.join(lacking)}: start anew")
    if state["world"] != distributed.world():
        raise UsageError(
            f"--resume: the run was shared by {state['world']} process(es), now there are {distributed.world()}: "
            f"use torchrun --nproc-per-node {state['world']}"
        )
    return state


def prepare(config: TrainConfig, state: dict | None) -> Prepared:
    """Choose device and precision, look at the photographs and count the steps.

    Args:
        config: what the run was told.
        state: from `open_run`.

    Raises:
        UsageError: the batch cannot be shared out, or is larger than an epoch; there is no such device.
        DataError: the photographs are missing, unfit, or others than the run began with; --cache has no room.
    """
    device = choose_device(config.device, distributed.local_rank())
    if device.type == "cuda" and ":" in config.device and distributed.world() > 1:
        raise UsageError(f"--device {config.device}: each process takes a GPU of its own; give --device cuda")
    share = config.accumulate * distributed.world()
    if config.batch_size % share:
        raise UsageError(
            f"--batch-size {config.batch_size} cannot be shared by {distributed.world()} processes x --accumulate "
            f"{config.accumulate}: make it a multiple of {share}"
        )
    if config.batch_size == share and config.size < 2 * generators.ARCHITECTURES[config.architecture].stride:
        raise UsageError(
            f"--batch-size {config.batch_size} leaves batch norm one photograph at a time, which at --size "
            f"{config.size} is a single value: raise either, or lower --accumulate"
        )
    distributed.start(device)
    told = {f"--{name.replace('_', '-')}": value for name, value in to_dict(config).items() if name not in _MAY_DIFFER}
    distributed.require_agreement(told | {"versions": versions(), "the state of step": state and state["step"]})
    with distributed.first_process_first():  # it downloads what the others then find
        found = split.photographs(
            config.data,
            config.data_root,
            breed=config.breed,
            val_share=config.val_share,
            split=config.split,
            min_chroma=config.min_chroma,
            max_unreadable=config.max_unreadable,
            show_progress=distributed.rank() == 0,
        )
    distributed.require_agreement({"photographs with digest": found.digest})
    if state and state["data"] != found.digest:
        raise DataError(f"--resume: the photographs of {config.data} are not those the run began with")
    crops = config.crops or (sources.default_crops(config.data) if config.augment else 1)
    train = lab.LabDataset(found.train, config.size, config.augment, config.seed, crops, config.min_crop, config.resize)
    val = lab.LabDataset(spread(found.val, config.val_count), config.size, resize=config.resize)
    if config.cache:
        for part, dataset in (("train", train), ("val", val)):
            decoded.keep(dataset, config.cache, f"{found.digest} {part}")
    per_epoch = order.steps_per_epoch(len(train), config.batch_size)
    last_step = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    for line in found.report:
        say(f"left out, {line}")
    say(
        f"{shown(config.data)}: {len(found.train)} photographs"
        + (f" x {crops} crops" if crops > 1 else "")
        + f" to train on, {len(found.val)} to validate"
        + (f", {len(found.test)} left for a test" if found.test else "")
        + f"; {last_step} steps of {config.batch_size} at "
        f"{config.size}x{config.size}"
    )
    before = "".join(map(str, state["versions"][-1:])) if state else versions()
    if before != versions():
        say(f"changed on resuming: {before} -> {versions()}: figures may differ")
    precision = choose_precision(config.precision, device)
    say(f"on {device} in {precision_name(precision)}, {distributed.world()} process(es)")
    if state and state["precision"] != precision_name(precision):
        say(f"changed on resuming: precision {state['precision']} -> {precision_name(precision)}")
    if device.type == "cuda" and precision == torch.float32 and config.precision == "auto":
        say("this GPU has no bfloat16: --precision fp16 uses its half-precision units")
    return Prepared(device, precision, train, val, found.test, found.digest, per_epoch, last_step, state)


def new_generator(config: TrainConfig) -> tuple[Generator, TrainConfig]:
    """Build the generator of a new run; what `--weights auto` found is said.

    Returns:
        The generator, and the config with what its encoder starts from.

    Raises:
        UsageError: an option does not go with the architecture, or cannot be had.
    """
    takes = generators.options_of(config.architecture)
    for name, as_if_not_given in (("backbone", {"resnet18"}), ("weights", {"auto", "none"}), ("target", {"ab"})):
        value = getattr(config, name)
        if name not in takes and value not in as_if_not_given:
            raise UsageError(f"--{name} {value} does not go with --architecture {config.architecture}: leave it out")
    weights = config.weights if "weights" in takes else "none"
    if weights == "auto":
        backbone = config.backbone if "backbone" in takes else pretrained.SQUEEZENET
        weights = pretrained.choose_weights(backbone, "auto")
        found = "ImageNet weights" if weights == "imagenet" else "scratch: ImageNet weights are out of reach"
        say(f"{backbone} starts from {found}")
    config = dataclasses.replace(config, weights=weights)
    options = {name: getattr(config, name) for name in ("backbone", "weights", "target") if name in takes}
    return generators.build(config.architecture, **options), config


def given_generator(config: PretrainConfig | GanConfig, otherwise: str) -> tuple[Generator, TrainConfig]:
    """Load the generator that `--generator` names, for a new run.

    Args:
        config: what the run was told.
        otherwise: the cure where there is none.

    Returns:
        The generator, and the config with its architecture in it.

    Raises:
        UsageError: there is none, or an option contradicts it.
        CheckpointError: it cannot be loaded.
    """
    try:
        generator_folder(config.generator)
    except CheckpointError as error:
        raise UsageError(f"--generator: {error}; {otherwise}") from error
    generator = checkpoint.load_generator(config.generator)
    is_so = {"architecture": generator.description["architecture"], **generator.description["options"]}
    for name in ("architecture", "backbone", "target"):
        asked, default = getattr(config, name), getattr(TrainConfig, name)
        if asked not in (default, is_so.get(name, asked)):
            raise UsageError(
                f"--{name} {asked} contradicts --generator {shown(config.generator)}, which is {is_so[name]}: leave "
                "either out"
            )
    taken = {name: is_so[name] for name in ("architecture", "backbone", "target") if name in is_so}
    say(f"the generator ({', '.join(taken.values())}) starts from {shown(config.generator)}")
    return generator, dataclasses.replace(config, weights="none", **taken)
