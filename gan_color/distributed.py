"""The few lines around torch.distributed: which process this is, and how the processes agree.

Started by torchrun the processes train as one; started alone every function here is free of cost.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from gan_color.errors import GanColorError, UsageError

# A process that waits longer than this for one that hangs gives up; the first one's download and its look at all
# photographs must fit inside. One that dies is noticed at once.
_TIMEOUT = timedelta(minutes=30)


def rank() -> int:
    """This process's number among all, from 0; process 0 writes and speaks."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """This process's number on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world() -> int:
    """How many processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def start(device: torch.device) -> None:
    """Meet the other processes, if torchrun started this one.

    Args:
        device: what the networks run on; CPU tensors always travel by gloo, so that asking whether to stop
            never waits for a GPU.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what takes "the" GPU, such as pinned memory, must not all take the first
    if world() > 1 and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)


def finish() -> None:
    """Part from the other processes, once all are done and what `wrap` gave is gone.

    The group's threads end here if nothing else holds it. At the end of the process one could still be waiting for the
    interpreter, to let go of its last tensor, and would abort.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """DistributedDataParallel over several processes; the module itself alone."""
    if world() == 1:
        return module
    return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def local_gradients(module: nn.Module, local: bool) -> contextlib.AbstractContextManager:
    """Keep gradients in this process while `local`: the parts of a batch travel once, with the last."""
    return module.no_sync() if local and isinstance(module, DistributedDataParallel) else contextlib.nullcontext()


def any_process(flag: int) -> int:
    """The largest of the processes' flags: all stop when one must."""
    if world() == 1:
        return flag
    largest = torch.tensor(flag)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def largest_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The largest of each value over the processes, on their device; nothing waits for it here."""
    if world() > 1:
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Let process 0 through before the others, so that it alone downloads."""
    if world() > 1 and rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if world() > 1 and rank() == 0:
            dist.barrier()


def share_buffers(module: nn.Module) -> None:
    """Give every process the buffers of process 0, such as batch norm's statistics, which are each one's own."""
    if world() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Sum a CPU tensor over the processes."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def gather(values: torch.Tensor) -> list[torch.Tensor]:
    """A CPU tensor of every process, by rank; all have the same shape."""
    if world() == 1:
        return [values]
    gathered = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(gathered, values)
    return gathered


def require_agreement(facts: dict[str, object]) -> None:
    """Refuse to train where the processes were told different things.

    Args:
        facts: name to plain value, the same names in every process.

    Raises:
        UsageError: names the first that differs, and both values.
    """
    if world() == 1:
        return
    told: list[dict] = [{}] * world()
    dist.all_gather_object(told, facts)
    for other, theirs in enumerate(told):
        for name, value in theirs.items():
            if value != told[0][name]:
                raise UsageError(
                    f"process {other} has {name} {value}, process 0 {told[0][name]}: start all with the same options "
                    "on the same photographs"
                )


def require_same_weights(optimizers: Iterable[torch.optim.Optimizer], step: int) -> None:
    """Check by a sum over their bits (float32) that all processes have the same weights.

    Raises:
        GanColorError: they went apart.
    """
    if world() > 1:
        parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        sums = gather(torch.stack([p.detach().view(torch.int32).sum() for p in parameters]).sum().cpu())
        if any(other != sums[0] for other in sums):
            raise GanColorError(
                f"the processes' weights differ at step {step}: nothing is saved of it; see whether memory or a link "
                "between them is faulty, then go on from the last checkpoint with --resume"
            )


def is_parting(error: RuntimeError) -> bool:
    """Whether an error is the backend's word for a process that is gone or does not answer."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
    return isinstance(error, dist.DistError) or (world() > 1 and any(word in str(error) for word in words))


def say(message: str) -> None:
    """Print on the first process only."""
    if rank() == 0:
        tqdm.write(message)
