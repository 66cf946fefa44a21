"""The one training loop. Both stages go through it; they differ in what a batch does."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from gan_color import checkpoint, distributed, model_card
from gan_color.board import Board
from gan_color.config import TrainConfig
from gan_color.data import lab
from gan_color.distributed import say
from gan_color.errors import CheckpointError, DataError, GanColorError, Stopped, UsageError, shown
from gan_color.options import to_dict, to_yaml
from gan_color.prepare import Prepared, spread
from gan_color.validate import generate, validate


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
            items = [dataset[i] for i in spread(range(len(dataset)), config.sample_count)]
            grids[tag] = tuple(torch.stack(part).to(device) for part in zip(*items, strict=True))

    def draw(step: int) -> None:
        for tag, (L, ab) in grids.items():
            board.samples(tag, L, generate(stage.generator_to_use, L), ab, step)

    def measure(step: int) -> None:
        batch_size = max(1, config.batch_size // world)
        part = range(rank, len(prepared.val), world)
        parts = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        loader = lab.loader(prepared.val, parts, workers)
        values = validate(stage.generator_to_use, loader, device, len(prepared.val))
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
        info = {
            "stage": type(stage).__name__.lower(),
            "step": step,
            "size": config.size,
            "data": Path(config.data).name,
        }
        network = stage.generator_to_use
        checkpoint.save_generator(config.out / "generator", network, **generator_config, info=info)
        model_card.write(config.out)
        state = {
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
        measure(0)

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

            # Read the losses: the one place that waits for the device. A saved step is always read, so that the
            # means after it are the same whether the run is cut off there or not.
            stop = distributed.any_process(caught[0] if caught else 0)
            saving = step % config.save_every == 0 or step == last_step or stop
            reading = step % config.log_every == 0 or saving
            if reading or device.type == "cpu":
                meter.require_finite(step)
            if reading:
                values = meter.read() | {f"lr/{name}": base_lr[name] * scale for name in base_lr}
                if board:
                    board.scalars(values, step)
                losses = {tag.removeprefix("loss/"): v for tag, v in values.items() if tag.startswith("loss/")}
                pace = {"images/s": f"{values['perf/images_per_second']:.1f}"}
                bar.set_postfix({name: f"{v:.3f}" for name, v in losses.items()} | pace, refresh=False)

            # Look, measure, save; the clock of images per second stands still meanwhile.
            paused_at = time.perf_counter()
            end_of_epoch = step % (config.val_every * prepared.steps_per_epoch) == 0
            if step % config.sample_every == 0 or step == last_step:
                draw(step)
            if (end_of_epoch or step == last_step) and not stop:
                measure(step)
            if saving:
                save(step)
            if stop:
                name = signal.Signals(stop).name
                raise Stopped(stop, f"{name}: saved at step {step}; continue with --resume --out {shown(config.out)}")
            meter.since += time.perf_counter() - paused_at
    if board:
        board.close()
    distributed.finish()
    say(f"watch: tensorboard --logdir {shown(config.out.parent)}")


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
