"""The one training loop. Both stages go through it; they differ in what a batch does."""

import dataclasses
import os
import signal
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
from gan_color.device import precision_name
from gan_color.distributed import say
from gan_color.errors import CheckpointError, Stopped, shown
from gan_color.interrupts import caught_signals, one_line_faults
from gan_color.meter import Meter
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


def fit(stage: Stage, config: TrainConfig, prepared: Prepared) -> None:
    """Train a stage to its last step.

    Args:
        stage: what a batch does.
        config: what the run was told; written to `config.yaml`.
        prepared: from `prepare`.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came; the state was saved first.
        GanColorError: a loss is not finite, or a photograph can no longer be read.
    """
    device, last_step = prepared.device, prepared.last_step
    is_first = distributed.rank() == 0

    # Begin, or go on where the run was cut off.
    base_lr = {name: optimizer.param_groups[0]["lr"] for name, optimizer in stage.optimizers.items()}
    meter = Meter()
    first_step, due = _resume(stage, meter, config, prepared) if prepared.state else (0, False)
    if first_step >= last_step and not due:
        say(f"the run in {shown(config.out)} has taken its {first_step} steps: nothing to do")
        distributed.finish()
        return
    if prepared.state:
        # What the encoder began with stays on record.
        config = dataclasses.replace(config, weights=prepared.state["config"]["weights"])
    board = None
    if is_first:
        _clear_leftovers(config)
        checkpoint.write_atomically(config.out / "config.yaml", to_yaml(config).encode())
        board = Board(config.out, first_step if prepared.state else None)
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
        distributed.share_buffers(stage.generator_to_use)
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

    def save(step: int, due: bool = False) -> None:
        if not is_first:
            return
        board.flush()
        info = {
            "stage": type(stage).__name__.lower(),
            "step": step,
            "size": config.size,
            "data": Path(config.data).resolve().name,
        }
        network = stage.generator_to_use
        described = {name: network.description[name] for name in ("architecture", "options")}
        checkpoint.save_generator(config.out / "generator", network, **described, info=info)
        model_card.write(config.out)
        state = {
            "step": step,
            "config": to_dict(config),
            "data": prepared.data_digest,
            "world": world,
            "precision": precision_name(prepared.precision),
            "stage": stage.state_dict(),
            "rng": _rng_state(device),
            "meter": meter.state_dict(),
            "due": due,  # a validation that a stop came before
        }
        checkpoint.save_state(config.out, step, state)

    # A look before the first step: what fails here would fail hours later.
    if first_step == 0:
        draw(0)
        measure(0)
    if due:
        measure(first_step)
        save(first_step)

    # Train.
    bar = tqdm(total=last_step, initial=first_step, unit="step", disable=None if is_first else True)
    step = first_step
    with caught_signals() as caught, bar, one_line_faults(lambda: save(step)):
        meter.start_clock()
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
            reading = step % config.log_every == 0 or step == last_step
            if reading or (device.type == "cpu" and world == 1):
                meter.require_finite(step)
            if reading:
                values = meter.read() | {f"lr/{name}": base_lr[name] * scale for name in base_lr}
                if board:
                    board.scalars(values, step)
                losses = {tag.removeprefix("loss/"): v for tag, v in values.items() if tag.startswith("loss/")}
                pace = {"images/s": f"{values['perf/images_per_second']:.1f}"}
                bar.set_postfix({name: f"{v:.3f}" for name, v in losses.items()} | pace, refresh=False)

            # Look, measure, save; the clock of images per second stands still meanwhile.
            with meter.stopped():
                stop = distributed.any_process(caught[0] if caught else 0)
                measuring = step % (config.val_every * prepared.steps_per_epoch) == 0 or step == last_step
                if step % config.sample_every == 0 or step == last_step:
                    draw(step)
                if measuring and not stop:
                    measure(step)
                if step % config.save_every == 0 or step == last_step or stop:
                    save(step, due=bool(measuring and stop))
            if stop:
                name = signal.Signals(stop).name
                raise Stopped(stop, f"{name}: saved at step {step}; continue with --resume --out {shown(config.out)}")
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


def _clear_leftovers(config: TrainConfig) -> None:
    """Remove what a run left that ended before it saved anything, and what a kill left half written.

    Only where a run's own config.yaml and metrics.jsonl lie, and only files named as a run names them: the folder may
    be anyone's.
    """
    if not all((config.out / name).is_file() for name in ("config.yaml", "metrics.jsonl")):
        return
    for folder in (config.out, config.out / "state", config.out / "generator"):
        for temporary in folder.glob(".*.tmp"):
            temporary.unlink(missing_ok=True)
    if not config.resume:
        grids = [(config.out / "samples").glob(f"{name}-{'[0-9]' * 8}.png") for name in ("val", "train")]
        for path in (*config.out.glob("events.out.tfevents.*"), *grids[0], *grids[1]):
            path.unlink()
        (config.out / "metrics.jsonl").unlink(missing_ok=True)


def _resume(stage: Stage, meter: Meter, config: TrainConfig, prepared: Prepared) -> tuple[int, bool]:
    """Put everything back to the saved state; returns the steps it had taken, and whether a validation is due."""
    state = prepared.state
    try:
        stage.load_state_dict(state["stage"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"the state in {shown(config.out)} does not fit this run: {reason}") from error
    meter.load_state_dict(state["meter"], prepared.device)
    _set_rng_state(state["rng"], prepared.device)
    say(f"resuming at step {state['step']}")
    return state["step"], state["due"]


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
    """Loading processes: beside a GPU this process's share of the cores, up to 8; on a CPU one keeps up."""
    if asked is not None:
        return asked
    return min(8, max(1, len(os.sched_getaffinity(0)) // distributed.local_world())) if device.type == "cuda" else 1
