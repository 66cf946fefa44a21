"""Everything a run can be refused for, checked before any work starts."""

import dataclasses
import tempfile

import torch

from gan_color import distributed
from gan_color.config import MAY_CHANGE_ON_RESUME, TrainConfig
from gan_color.data import lab, sources
from gan_color.device import choose_device, choose_precision
from gan_color.distributed import say
from gan_color.errors import GanColorError, UsageError, shown
from gan_color.generators import pretrained
from gan_color.options import from_yaml, to_dict


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a run works with, once everything that can be refused has been checked."""

    device: torch.device
    precision: torch.dtype
    train: lab.LabDataset
    val: lab.LabDataset
    # Identifies the photographs, whatever their names.
    data_digest: str
    steps_per_epoch: int
    # The optimizer step at which the run ends.
    last_step: int


def prepare(config: TrainConfig) -> Prepared:
    """Check a run's folder, device and photographs before any work starts.

    Raises:
        UsageError: the folder holds another run, options contradict each other or what is being resumed.
        GanColorError: the folder cannot be written.
        DataError: the photographs are missing or unfit.
    """
    device = choose_device(config.device, distributed.local_rank())
    if config.batch_size % (config.accumulate * distributed.world()):
        raise UsageError(
            f"--batch-size {config.batch_size} cannot be shared by {distributed.world()} processes x --accumulate "
            f"{config.accumulate}: make it a multiple of {config.accumulate * distributed.world()}"
        )
    _check_folder(config)
    distributed.start(device)
    found = sources.photographs(
        config.data,
        config.data_root,
        breed=config.breed,
        val_share=config.val_share,
        min_chroma=config.min_chroma,
        max_unreadable=config.max_unreadable,
        show_progress=distributed.rank() == 0,
    )
    crops = config.crops or sources.default_crops(config.data)
    train = lab.LabDataset(found.train, config.size, True, config.seed, crops, config.min_crop)
    val = lab.LabDataset(spread(found.val, config.val_count), config.size)
    per_epoch = lab.steps_per_epoch(len(train), config.batch_size)
    last_step = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    for line in found.report:
        say(f"left out, {line}")
    say(
        f"{shown(config.data)}: {len(found.train)} photographs"
        + (f" x {crops} crops" if crops > 1 else "")
        + f" to train on, {len(found.val)} to validate; {last_step} steps of {config.batch_size} at "
        f"{config.size}x{config.size}"
    )
    precision = choose_precision(config.precision, device)
    say(f"on {device} in {str(precision).removeprefix('torch.')}, {distributed.world()} process(es)")
    return Prepared(device, precision, train, val, found.digest, per_epoch, last_step)


def choose_weights(config: TrainConfig) -> str:
    """What the encoder of a new generator starts from, said plainly when `auto` found nothing."""
    weights = pretrained.choose_weights(config.backbone, config.weights)
    if config.weights == "auto":
        found = "timm's ImageNet weights" if weights == "imagenet" else "scratch: ImageNet weights are out of reach"
        say(f"{config.backbone} starts from {found}")
    return weights


def _check_folder(config: TrainConfig) -> None:
    """Refuse a folder that cannot be written, holds another run, or a run that is not this one."""
    used = (config.out / "state").is_dir() or (config.out / "metrics.jsonl").exists()
    if used and not config.resume:
        raise UsageError(f"{shown(config.out)} holds a run already: continue it with --resume, or give another --out")
    if config.resume:
        before = to_dict(from_yaml(type(config), config.out / "config.yaml"))
        now = to_dict(config)
        for name in now.keys() - MAY_CHANGE_ON_RESUME:
            if now[name] != before[name]:
                raise UsageError(
                    f"--resume: the run in {shown(config.out)} has --{name.replace('_', '-')} {before[name]}, not "
                    f"{now[name]}: leave the option out, or start anew with another --out"
                )
        for name in sorted(now.keys() & MAY_CHANGE_ON_RESUME):
            if now[name] != before[name] and name not in ("weights", "out"):
                say(f"changed on resuming: {name} {before[name]} -> {now[name]}")
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=config.out).close()
    except OSError as error:
        raise GanColorError(
            f"--out {shown(config.out)} cannot be written ({error.strerror}): give another folder"
        ) from error


def spread(items: list, count: int | None) -> list:
    """At most count items, evenly spread over the list; None = all."""
    if count is None or count >= len(items):
        return items
    return [items[i * len(items) // count] for i in range(count)]
