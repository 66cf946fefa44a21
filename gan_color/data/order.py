"""Which photographs each step of a run takes: a function of (seed, epoch), so that there is no state to keep."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from gan_color.errors import UsageError

# Tells this stream of random numbers from that of the augmentation, which is drawn from the same seed.
_ORDER = 0


class RunOrder(Sampler[list[tuple[int, int]]]):
    """The batches of a whole run, one a step, from any step on.

    Every epoch is a new shuffle; what is left over after its last whole batch waits for another epoch. With
    several processes each takes its own part of every batch, so together they see what one would have seen.

    Args:
        num_items: items in one epoch.
        batch_size: items in one step, over all processes.
        first_step: the step to begin at; earlier ones were taken before an interruption.
        last_step: the step to end before.
        seed: of the shuffles.
        rank: which process this is.
        world: how many there are.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        first_step: int,
        last_step: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ):
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.first_step, self.last_step = first_step, last_step
        self.part = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield this process's part of each step's batch, as (epoch, index) pairs."""
        per_epoch = self.num_items // self.batch_size
        shuffled_for = None
        for step in range(self.first_step, self.last_step):
            epoch, batch = divmod(step, per_epoch)
            if epoch != shuffled_for:
                order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.num_items)
                shuffled_for = epoch
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in chosen[self.part]]


def steps_per_epoch(num_items: int, batch_size: int) -> int:
    """Whole batches in one epoch.

    Raises:
        UsageError: there are fewer items than one batch takes.
    """
    if num_items < batch_size:
        raise UsageError(
            f"--batch-size {batch_size} is more than the {num_items} photographs there are to train on: "
            f"lower it to {num_items}, or raise --crops where crops are random"
        )
    return num_items // batch_size
