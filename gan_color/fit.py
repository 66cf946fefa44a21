"""The one training loop. Both stages go through it; they differ in what a batch does."""

import contextlib
import dataclasses
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from gan_color import checkpoint, color, distributed, metrics
from gan_color.board import Board
from gan_color.config import MAY_CHANGE_ON_RESUME, TrainConfig, from_yaml, to_dict, to_yaml
from gan_color.data import lab, sources
from gan_color.device import choose_device, choose_precision
from gan_color.errors import CheckpointError, DataError, GanColorError, Stopped, UsageError, shown
from gan_color.generators import pretrained

# What a validation measures, each the mean over the validation photographs.
_VAL_TAGS = (
    "val/l1",
    "val/l1_grey",
    "val/psnr",
    "val/ssim",
    "val/delta_e",
    "val/colorfulness",
    "val/colorfulness_real",
)


class Stage(Protocol):
    """What `fit` asks of a stage."""

    # The network that is validated, sampled and saved for use.
    generator_to_use: nn.Module
    # By the name that `lr/<name>` bears in TensorBoard.
    optimizers: dict[str, Optimizer]

    def step(self, L: Tensor, ab: Tensor) -> dict[str, Tensor]:
        """Train on one batch.

        Args:
            L: (N, 1, H, W) float32, in [-1, 1].
            ab: (N, 2, H, W) float32, in about [-1, 1].

        Returns:
            TensorBoard tag to scalar, detached, on the device.
        """

    def state_dict(self) -> dict:
        """Everything that training changes, as tensors, numbers, strings, lists and dicts."""

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave."""


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
    val = lab.LabDataset(_spread(found.val, config.val_count), config.size)
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


def say(message: str) -> None:
    """Print on the first process only."""
    if distributed.rank() == 0:
        tqdm.write(message)


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
        raise GanColorError(f"--out {shown(config.out)} cannot be written: {error.strerror}") from error


def _spread(items: list, count: int | None) -> list:
    """At most count items, evenly spread over the list."""
    if count is None or count >= len(items):
        return items
    return [items[i * len(items) // count] for i in range(count)]


def fit(stage: Stage, config: TrainConfig, prepared: Prepared, generator_config: dict) -> None:
    """Train a stage to its last step.

    Args:
        stage: what a batch does.
        config: what the run was told; written to `config.yaml`.
        prepared: from `prepare`.
        generator_config: `architecture` and `options` to build the saved generator from.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came; the state was saved first.
        GanColorError: a loss is not finite, or a photograph can no longer be read.
    """
    device, last_step = prepared.device, prepared.last_step
    is_first = distributed.rank() == 0

    # Begin, or go on where the run was cut off.
    base_lr = {name: optimizer.param_groups[0]["lr"] for name, optimizer in stage.optimizers.items()}
    first_step = _resume(stage, config, prepared) if config.resume else 0
    if first_step >= last_step:
        say(f"the run in {shown(config.out)} has taken its {last_step} steps: nothing to do")
        return
    board = None
    if is_first:
        checkpoint.write_atomically(config.out / "config.yaml", to_yaml(config).encode())
        board = Board(config.out, first_step if config.resume else None)
        board.text("config", "".join(f"    {line}\n" for line in to_yaml(config).splitlines()))

    # Load in the background from here to the last step; every process takes its part of each batch.
    workers = _workers(config.workers, device)
    rank, world = distributed.rank(), distributed.world()
    order = lab.RunOrder(len(prepared.train), config.batch_size, first_step, last_step, config.seed, rank, world)
    batches = lab.loader(prepared.train, order, workers, pin_memory=device.type == "cuda")
    # The same photographs in every grid: some to validate, some to train on.
    grids = {}
    if is_first:
        shown_train = lab.LabDataset(prepared.train.paths, config.size)
        for tag, dataset in (("samples/val", prepared.val), ("samples/train", shown_train)):
            items = [dataset[i] for i in _spread(range(len(dataset)), config.sample_count)]
            grids[tag] = tuple(torch.stack(part).to(device) for part in zip(*items, strict=True))

    def draw(step: int) -> None:
        for tag, (L, ab) in grids.items():
            board.samples(tag, L, generate(stage.generator_to_use, L), ab, step)

    def validate(step: int) -> None:
        batch_size = max(1, config.batch_size // world)
        part = range(rank, len(prepared.val), world)
        parts = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        loader = lab.loader(prepared.val, parts, workers)
        values = _validate(stage.generator_to_use, loader, device, len(prepared.val))
        if board:
            board.scalars(values, step)
        say(
            f"step {step} (epoch {step // prepared.steps_per_epoch}): val/l1 {values['val/l1']:.4f} "
            f"(grey {values['val/l1_grey']:.4f}), val/psnr {values['val/psnr']:.2f} dB, val/colorfulness "
            f"{values['val/colorfulness']:.1f} (real {values['val/colorfulness_real']:.1f})"
        )

    def save(step: int) -> None:
        if not is_first:
            return
        board.flush()
        info = {"stage": type(stage).__name__.lower(), "step": step, "size": config.size, "data": config.data}
        network = stage.generator_to_use
        checkpoint.save_generator(config.out / "generator", network, **generator_config, info=info)
        state = {
            "format": checkpoint.FORMAT,
            "step": step,
            "config": to_dict(config),
            "data": prepared.data_digest,
            "world": world,
            "stage": stage.state_dict(),
            "rng": _rng_state(device),
        }
        checkpoint.save_state(config.out, step, state)

    # A look before the first step: what fails here would fail hours later.
    if first_step == 0:
        draw(0)
        validate(0)

    # Train.
    bar = tqdm(total=last_step, initial=first_step, unit="step", disable=None if is_first else True)
    with _signals() as caught, bar:
        meter = _Meter()
        for step, (L, ab) in enumerate(lab.read_batches(batches), start=first_step + 1):
            scale = lr_scale((step - 1) / last_step, config.warmup, config.decay_from)
            for name, optimizer in stage.optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = base_lr[name] * scale
            L = L.to(device, non_blocking=True, memory_format=torch.channels_last)
            ab = ab.to(device, non_blocking=True, memory_format=torch.channels_last)
            meter.add(stage.step(L, ab), config.batch_size)
            bar.update()

            # Read the losses: the one place that waits for the device.
            stop = distributed.any_process(caught[0] if caught else 0)
            at_end = step == last_step or stop
            if step % config.log_every == 0 or at_end or device.type == "cpu":
                meter.require_finite(step)
            if step % config.log_every == 0 or at_end:
                values = meter.read() | {f"lr/{name}": base_lr[name] * scale for name in base_lr}
                if board:
                    board.scalars(values, step)
                losses = {tag.removeprefix("loss/"): v for tag, v in values.items() if tag.startswith("loss/")}
                bar.set_postfix({name: f"{v:.3f}" for name, v in losses.items()}, refresh=False)

            # Look, measure, save; the clock of images per second stands still meanwhile.
            paused_at = time.perf_counter()
            end_of_epoch = step % (config.val_every * prepared.steps_per_epoch) == 0
            if step % config.sample_every == 0 or step == last_step:
                draw(step)
            if (end_of_epoch or step == last_step) and not stop:
                validate(step)
            if step % config.save_every == 0 or at_end:
                save(step)
            if stop:
                name = signal.Signals(stop).name
                raise Stopped(stop, f"{name}: saved at step {step}; continue with --resume --out {shown(config.out)}")
            meter.since += time.perf_counter() - paused_at
    if board:
        board.close()
    distributed.wait()


def lr_scale(progress: float, warmup: float, decay_from: float) -> float:
    """Factor on the learning rate: up from 0 over the warm-up, then 1, then linearly to 0 at the end.

    Args:
        progress: share of the run's steps already taken, 0..1.
        warmup: share over which it rises.
        decay_from: share after which it falls.

    Returns:
        0..1; above 0 at the first step, so that none is spent for nothing.
    """
    rising = (progress + 1e-3) / warmup if progress < warmup else 1.0
    falling = (1 - progress) / (1 - decay_from) if progress > decay_from else 1.0
    return min(1.0, rising, falling)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Run convolutions in the chosen precision; losses and colour cast back to float32 themselves."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


@torch.no_grad()
def generate(generator: nn.Module, L: Tensor) -> Tensor:
    """Colour a batch as inference does: evaluation mode, float32.

    Args:
        generator: left in the mode it came in.
        L: (N, 1, H, W) float32, in [-1, 1].

    Returns:
        ab: (N, 2, H, W) float32.
    """
    was_training = generator.training
    generator.eval()
    ab = generator(L).float()
    generator.train(was_training)
    return ab


def _validate(generator: nn.Module, batches: DataLoader, device: torch.device, count: int) -> dict[str, float]:
    """Measure the generator on every validation photograph, each process on its part."""
    sums = dict.fromkeys(_VAL_TAGS, 0.0)
    for L, ab in lab.read_batches(batches):
        L, ab = L.to(device), ab.to(device)
        fake_ab = generate(generator, L)
        fake_rgb, real_rgb = color.lab_to_rgb(L, fake_ab), color.lab_to_rgb(L, ab)
        fake_lab = color.to_lab_units(*color.rgb_to_lab(fake_rgb))
        values = (
            (fake_ab - ab).abs().flatten(1).mean(dim=1),
            ab.abs().flatten(1).mean(dim=1),
            metrics.psnr(fake_rgb, real_rgb),
            metrics.ssim(fake_rgb, real_rgb),
            metrics.delta_e(fake_lab, color.to_lab_units(L, ab)),
            metrics.colorfulness(fake_rgb),
            metrics.colorfulness(real_rgb),
        )
        for tag, value in zip(_VAL_TAGS, values, strict=True):
            sums[tag] += value.double().sum().item()
    totals = distributed.sum_over_processes(torch.tensor(list(sums.values()), dtype=torch.float64))
    return dict(zip(_VAL_TAGS, (totals / count).tolist(), strict=True))


def _resume(stage: Stage, config: TrainConfig, prepared: Prepared) -> int:
    """Put the stage back to its newest saved state; returns the steps it had taken."""
    state = checkpoint.load_state(config.out)
    if state["data"] != prepared.data_digest:
        raise DataError(f"--resume: the photographs of {config.data} are not those the run began with")
    if state["world"] != distributed.world():
        raise UsageError(
            f"--resume: the run was shared by {state['world']} process(es), now there are {distributed.world()}: "
            f"use torchrun --nproc-per-node {state['world']}"
        )
    try:
        stage.load_state_dict(state["stage"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"the state in {shown(config.out)} does not fit this run: {reason}") from error
    _set_rng_state(state["rng"], prepared.device)
    say(f"resuming at step {state['step']}")
    return state["step"]


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _workers(asked: int | None, device: torch.device) -> int:
    """Loading processes: beside a GPU as many as cores, up to 8; on a CPU one, which the networks outpace not."""
    if asked is not None:
        return asked
    return min(8, torch.get_num_threads()) if device.type == "cuda" else 1


class _Meter:
    """Means of the losses since they were last read, summed on the device, and the pace of training alone."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.images = 0
        self.since = time.perf_counter()

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        for tag, value in losses.items():
            self.sums[tag] = self.sums.get(tag, 0) + value
            self.counts[tag] = self.counts.get(tag, 0) + 1
        self.images += images

    def require_finite(self, step: int) -> None:
        for tag, total in self.sums.items():
            if not torch.isfinite(total):
                raise GanColorError(
                    f"{tag} is {float(total)} at step {step}: the training diverged; continue from the last checkpoint "
                    "with --resume and a lower learning rate"
                )

    def read(self) -> dict[str, float]:
        values = {tag: float(total) / self.counts[tag] for tag, total in self.sums.items()}
        values["perf/images_per_second"] = self.images / (time.perf_counter() - self.since)
        self.restart()
        return values


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying of them; a second one takes effect at once."""
    caught: list[int] = []
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def catch(signum, _):
        caught.append(signum)
        for each in watched:
            signal.signal(each, before[each])

    before = {each: signal.signal(each, catch) for each in watched}
    try:
        yield caught
    finally:
        for each in watched:
            signal.signal(each, before[each])
