"""Means of a run's losses, summed on the device and read now and then, and the pace of training."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from gan_color import distributed
from gan_color.errors import GanColorError


class Meter:
    """Means of the losses since they were last read, summed on the device, and the pace of training alone."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.images = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Count pace from now on."""
        self.since, self.images_before = time.perf_counter(), self.images

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens meanwhile takes no time."""
        stopped_at = time.perf_counter()
        yield
        self.since += time.perf_counter() - stopped_at

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Take in one step.

        Args:
            losses: tag to scalar, on the device; nothing waits for it here.
            images: photographs in the step, over all processes.
        """
        for tag, value in losses.items():
            self.sums[tag] = self.sums.get(tag, 0) + value
            self.counts[tag] = self.counts.get(tag, 0) + 1
        self.images += images

    def require_finite(self, step: int) -> None:
        """Stop a run whose losses are no numbers any more.

        Raises:
            GanColorError: names the loss and the step.
        """
        for tag, total in self.sums.items():
            if not torch.isfinite(total):
                raise GanColorError(
                    f"{tag} is {float(total)} at step {step}: the training diverged; go on from the last checkpoint "
                    "with --resume, or start anew if there is none, with a lower learning rate"
                )

    def read(self) -> dict[str, float]:
        """Means over the steps since the last reading, and over the processes."""
        means = torch.stack([(total / self.counts[tag]).double().cpu() for tag, total in self.sums.items()])
        means = distributed.sum_over_processes(means) / distributed.world()
        values = dict(zip(self.sums, means.tolist(), strict=True))
        values["perf/images_per_second"] = (self.images - self.images_before) / (time.perf_counter() - self.since)
        self.restart()
        return values

    def state_dict(self) -> dict:
        """What was summed since the last reading, so that a run cut off between two goes on to the same means."""
        return {"sums": {tag: total.cpu() for tag, total in self.sums.items()}, "counts": self.counts}

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        """Take back what `state_dict` gave."""
        self.sums = {tag: total.to(device) for tag, total in state["sums"].items()}
        self.counts = dict(state["counts"])
