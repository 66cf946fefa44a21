"""The one training loop. Both stages go through it; they differ in what a batch does."""

import contextlib
import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from gan_color import checkpoint, distributed, model_card, run_state
from gan_color.board import Board
from gan_color.config import TrainConfig
from gan_color.data import lab
from gan_color.data.order import RunOrder
from gan_color.data.paths import spread
from gan_color.device import cores
from gan_color.distributed import say
from gan_color.errors import GanColorError, Stopped, WriteError, shown
from gan_color.guard import Guard
from gan_color.interrupts import caught_signals, saved_before_photo_errors
from gan_color.judge import Best, Health
from gan_color.meter import Meter
from gan_color.options import to_dict, to_yaml
from gan_color.prepare import Prepared
from gan_color.validate import generate, validate
from gan_color.writing import remove_leftovers, write_atomically


class Stage(Protocol):
    """What `fit` asks of a stage."""

    # The network that is validated, sampled and saved for use.
    generator_to_use: nn.Module
    # By the name that `lr/<name>` bears in TensorBoard.
    optimizers: dict[str, Optimizer]
    # Through which it makes its updates.
    guard: Guard

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
        WriteError: the last step, or that at which a signal came, cannot be saved.
        GanColorError: a loss or a gradient is not finite, or a photograph can no longer be read.
    """
    device, last_step = prepared.device, prepared.last_step
    is_first = distributed.rank() == 0

    # Begin, or go on where the run was cut off.
    base_lr = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in stage.optimizers.items()}
    meter, best, health = Meter(), Best(config.best_by), Health()
    first_step, due = 0, False  # due: a validation that a stop, or a photograph that is gone, came before
    if is_first:
        _clear_leftovers(config)
    if prepared.state:
        run_state.put_back(prepared.state, stage, meter, best, health, config, device)
        first_step, due = prepared.state["step"], prepared.state["due"]
        if is_first and not checkpoint.generator_is_of(config.out / "generator", first_step):
            _write_generator(stage, config, "generator", first_step)  # the run was killed between its state and this
    if first_step >= last_step and not due:
        if is_first:
            model_card.write(config.out, "generator")  # the last file of a run, at which it may have been killed
        say(f"the run in {shown(config.out)} has taken its {first_step} steps: nothing to do")
        return
    if prepared.state:
        # What the encoder began with stays on record.
        config = dataclasses.replace(config, weights=prepared.state["config"].get("weights", config.weights))
    board = None
    if is_first:
        write_atomically(config.out / "config.yaml", to_yaml(config).encode())
        if prepared.test:
            listed = b"".join(os.fsencode(path.resolve()) + b"\n" for path in prepared.test)
            write_atomically(config.out / "test.txt", listed)
        board = Board(config.out, first_step if prepared.state else None)
        board.config(to_yaml(config), to_dict(config), first_step + 1 if prepared.state else 0)

    # Load in the background from here to the last step; every process takes its part of each batch.
    workers = _workers(config.workers, device)
    rank, world = distributed.rank(), distributed.world()
    order = RunOrder(len(prepared.train), config.batch_size, first_step, last_step, config.seed, rank, world)
    batches = lab.loader(prepared.train, order, workers, pin_memory=device.type == "cuda")
    # The same photographs in every grid: some to validate, some to train on.
    grids = {}
    if is_first:
        shown_train = lab.LabDataset(prepared.train.paths, config.size, resize=config.resize)
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
        warn(values, step)
        if best.improves(values) and keep_generator("best", step):
            best.take(values, step)

    def require_finite(step: int) -> None:
        bad_step = meter.bad_step(step)
        if bad_step is not None:
            raise GanColorError(
                f"{meter.what_is_bad()} at step {bad_step}, on {_photographs_of(bad_step, config, prepared)}: the "
                "training diverged and made no such update; go on from the last checkpoint with --resume, or start "
                "anew if there is none, with a lower learning rate"
            )

    def warn(values: dict[str, float], step: int) -> None:
        for sign in health.signs(values, step):
            say(f"warning at step {step}: {sign} (docs/is-my-gan-training.md)")
            if board:
                board.warning(sign, step)

    def keep_generator(name: str, step: int) -> bool:
        require_finite(step)
        written = False
        if is_first:
            with board.going_on("generators to keep"):
                _write_generator(stage, config, name, step)
                written = True
        return bool(distributed.any_process(written))

    def save(step: int, due: bool, must: bool = False) -> None:
        require_finite(step)
        distributed.require_same_weights(stage.optimizers.values(), step)
        state = run_state.collect(stage, meter, best, health, config, prepared, step, due)
        if not is_first:
            return
        # The checkpoints before this one stay until it is whole; a full disk is tried again when the next is due.
        with _last_chance(step, config) if must else board.going_on("checkpoints"):
            checkpoint.save_state(config.out, step, state)
            _write_generator(stage, config, "generator", step)

    # A look before the first step: what fails here would fail hours later.
    if first_step == 0:
        draw(0)
        measure(0)
    if due:
        measure(first_step)
        due = False
        save(first_step, due)

    # Train.
    bar = tqdm(total=last_step, initial=first_step, unit="step", disable=None if is_first else True)
    step = first_step
    # With several processes none can save alone: the others wait in the step that this one cannot take.
    with caught_signals() as caught, bar, saved_before_photo_errors(lambda: save(step, due) if world == 1 else None):
        meter.start_clock()
        for step, (L, ab) in enumerate(lab.read_batches(batches, device), start=first_step + 1):
            scale = lr_scale((step - 1) / last_step, config.warmup, config.decay_from)
            for name, optimizer in stage.optimizers.items():
                for group, lr in zip(optimizer.param_groups, base_lr[name], strict=True):
                    group["lr"] = lr * scale
            meter.add(stage.step(L, ab), config.batch_size, stage.guard.tripped)
            bar.update()

            # Read the losses: here alone, and where something is shown or kept, is the device waited for.
            reading = step % config.log_every == 0 or step == last_step
            drawing = step % config.sample_every == 0 or step == last_step
            due = step % (config.val_every * prepared.steps_per_epoch) == 0 or step == last_step
            if reading or drawing or due or device.type == "cpu":
                require_finite(step)
            if reading:
                values = meter.read() | {f"lr/{name}": base_lr[name][0] * scale for name in base_lr}
                if board:
                    board.scalars(values, step)
                warn(values, step)
                losses = {tag.removeprefix("loss/"): v for tag, v in values.items() if tag.startswith("loss/")}
                pace = {"images/s": f"{values['perf/images_per_second']:.1f}"}
                bar.set_postfix({name: f"{v:.3f}" for name, v in losses.items()} | pace, refresh=False)

            # On the clock, because here a process waits for those that still load their photographs.
            stop = distributed.any_process(caught[0] if caught else 0)

            # Look, measure, save; the clock of images per second stands still meanwhile.
            with meter.stopped():
                if drawing:
                    draw(step)
                if due and not stop:
                    measure(step)
                    due = False
                if config.snapshot_every and step % config.snapshot_every == 0:
                    keep_generator(f"snapshots/step-{step:08d}", step)
                if step % config.save_every == 0 or step == last_step or stop:
                    save(step, due, must=bool(step == last_step or stop))
            if stop:
                name = signal.Signals(stop).name
                raise Stopped(stop, f"{name}: saved at step {step}; continue with --resume --out {shown(config.out)}")
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
    remove_leftovers(config.out, ["config.yaml"])  # of a run that was killed while it wrote its first file
    if not all((config.out / name).is_file() for name in ("config.yaml", "metrics.jsonl")):
        return
    kept = [config.out / name for name in ("state", "generator", "best", "samples")]
    snapshots = list((config.out / "snapshots").glob(f"step-{'[0-9]' * 8}"))
    for folder in (config.out, *kept, *snapshots):
        remove_leftovers(folder)
    if not config.resume:
        grids = [(config.out / "samples").glob(f"{name}-{'[0-9]' * 8}.png") for name in ("val", "train")]
        digests = (config.out / "state").glob("step-*.pt.sha256")  # of a state that was not written any more
        for path in (*config.out.glob("events.out.tfevents.*"), *grids[0], *grids[1], *digests):
            path.unlink()
        (config.out / "metrics.jsonl").unlink(missing_ok=True)
        for folder in snapshots:
            shutil.rmtree(folder)


def _write_generator(stage: Stage, config: TrainConfig, name: str, step: int) -> None:
    """Save the generator for use in a folder of the run, with its model card."""
    info = {
        "stage": type(stage).__name__.lower(),
        "step": step,
        "size": config.size,
        "data": Path(config.data).resolve().name,
    }
    network = stage.generator_to_use
    checkpoint.save_generator(config.out / name, network, **run_state.described(network), info=info)
    model_card.write(config.out, name)


@contextlib.contextmanager
def _last_chance(step: int, config: TrainConfig) -> Iterator[None]:
    """Say what becomes of a run whose end cannot be written."""
    try:
        yield
    except WriteError as error:
        raise WriteError(
            f"{error}; step {step} is not saved, the checkpoint before it is as it was: make room, then go on with "
            f"--resume --out {shown(config.out)}"
        ) from error


def _photographs_of(step: int, config: TrainConfig, prepared: Prepared) -> str:
    """The photographs that all processes together took at a step: some of them by name, and how many more."""
    (items,) = RunOrder(len(prepared.train), config.batch_size, step - 1, step, config.seed)
    paths = [shown(path) for path in dict.fromkeys(map(prepared.train.path_of, items))]
    return ", ".join(paths[:16]) + (f" and {len(paths) - 16} more" if len(paths) > 16 else "")


def _workers(asked: int | None, device: torch.device) -> int:
    """Loading processes: beside a GPU this process's share of the cores, up to 8; on a CPU one keeps up."""
    if asked is not None:
        return asked
    return min(8, max(1, cores() // distributed.local_world())) if device.type == "cuda" else 1
