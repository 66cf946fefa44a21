"""Means of a run's losses, summed on the device and read now and then, and the pace of training."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from gan_color import distributed


class Meter:
    """Means of the losses since they were last read, summed on the device, and the pace of training alone."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.images = 0
        self.bad_steps = 0
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

    def add(self, losses: dict[str, Tensor], images: int, tripped: Tensor | int = 0) -> None:
        """Take in one step.

        Args:
            losses: tag to scalar, on the device; nothing waits for it here.
            images: photographs in the step, over all processes.
            tripped: of the stage's guard: 1 from the first step on that was not finite, else 0.
        """
        for tag, value in losses.items():
            self.sums[tag] = self.sums.get(tag, 0) + value
            self.counts[tag] = self.counts.get(tag, 0) + 1
        self.images += images
        self.bad_steps = self.bad_steps + tripped

    def bad_step(self, step: int) -> int | None:
        """The step at which a loss or a gradient ceased to be finite; waits for the device.

        Args:
            step: the one taken last.
        """
        bad_steps = int(self.bad_steps)
        return step - bad_steps + 1 if bad_steps else None

    def what_is_bad(self) -> str:
        """The loss of this process that is not finite, or what else it must be."""
        for tag, total in self.sums.items():
            if not torch.isfinite(total):
                return f"{tag} is {float(total)}"
        return "a gradient is not finite" + (", or a loss of another process" if distributed.world() > 1 else "")

    def read(self) -> dict[str, float]:
        """Means over the steps since the last reading, and over the processes."""
        means = torch.stack([(total / self.counts[tag]).cpu().double() for tag, total in self.sums.items()])
        means = distributed.sum_over_processes(means) / distributed.world()
        values = dict(zip(self.sums, means.tolist(), strict=True))
        values["perf/images_per_second"] = (self.images - self.images_before) / (time.perf_counter() - self.since)
        self.restart()
        return values

    def state_dict(self) -> dict:
        """What was summed since the last reading, so that a run cut off between two goes on to the same means.

        Returns:
            Of each tag the sums of all processes, by rank, and the counts; the same in every process.
        """
        sums = distributed.gather(torch.stack(list(self.sums.values())).cpu()) if self.sums else []
        return {
            "sums": {tag: torch.stack([of_rank[i] for of_rank in sums]) for i, tag in enumerate(self.sums)},
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state: dict, device: torch.device) -> None:
        """Take back this process's part of what `state_dict` gave."""
        self.sums = {tag: of_ranks[distributed.rank()].to(device) for tag, of_ranks in state["sums"].items()}
        self.counts = {tag: state["counts"][tag] for tag in self.sums}
