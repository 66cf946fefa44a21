"""Row K: two processes train as one, and what befalls one of them ends both, soon, with a good checkpoint.

The processes are forked with the variables that torchrun sets, and without torchrun, which would end the others itself.
"""

import signal
import socket
import time
from functools import partial
from pathlib import Path

import faults
import pytest
import torch
from runs import Run, command, difference, options, saved_step
from torch.optim import SGD

from gan_color import checkpoint


def ranks(world: int) -> list[dict]:
    """The environment of each process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def together(argv: list, home: Path, befores: tuple = (None, None), extra: tuple = ((), ())) -> list[Run]:
    """A command in two processes; each with a fault and options of its own."""
    return [
        Run(command([*argv, *extra[rank]], befores[rank], environment), home / f"rank{rank}.log")
        for rank, environment in enumerate(ranks(2))
    ]


def ended(processes: list[Run], within: float = 90) -> tuple[list[int], str]:
    """Exit codes, and what all have said."""
    codes = [process.wait(within) for process in processes]
    return codes, "".join(process.said() for process in processes)


def more(steps: int = 6) -> list:
    return ["--epochs", 100, "--max-steps", steps, "--save-every", 1, "--log-every", 2]


# Training as one


def sgd_steps(environment: dict, norm: str, accumulate: int, out: str) -> None:
    """Take 20 steps of stage two with SGD, by which differences of gradients are not blown up as by Adam."""
    import os

    os.environ.update(environment)
    from test_gan import batch, stage

    from gan_color import distributed

    distributed.start(torch.device("cpu"))
    torch.manual_seed(0)
    ours = stage(norm=norm, accumulate=accumulate)
    for name in ("g", "d"):
        adam = getattr(ours, f"optimizer_{name}")
        setattr(ours, f"optimizer_{name}", SGD(adam.param_groups[0]["params"], lr=0.01, fused=True))
    L, ab = batch(8)
    rank, world = distributed.rank(), distributed.world()
    part = slice(rank * 8 // world, (rank + 1) * 8 // world)
    for _ in range(20):
        ours.step(L[part], ab[part])
    weights = [*ours.generator.parameters(), *ours.discriminator.parameters()]
    torch.save([weight.detach() for weight in weights], f"{out}-{world}-{rank}.pt")
    del ours
    distributed.finish()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_two_processes_are_one(norm, tmp_path, figure):
    """Batch norm beside one process that takes the batch in the same two parts, each by its own statistics."""
    accumulate = 2 if norm == "batch" else 1
    jobs = [partial(sgd_steps, environment, norm, 1, str(tmp_path / norm)) for environment in ranks(2)]
    jobs.append(partial(sgd_steps, {}, norm, accumulate, str(tmp_path / norm)))
    codes, said = ended([Run(job, tmp_path / f"{number}.log") for number, job in enumerate(jobs)])
    assert codes == [0, 0, 0], said
    one, first, second = (
        torch.load(tmp_path / f"{norm}-{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    worst = max(float((a - b).abs().max()) for a, b in zip(one, first, strict=True))
    figure("K", f"20 SGD steps of both networks, {norm} norm: largest difference {worst:.1e}; ranks equal bit for bit")
    assert worst <= 1e-6


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_a_resumed_run_of_two_equals_an_uninterrupted_one(stage, photo_folder, tmp_path, full, figure):
    """One is killed, which ends the other soon and with one line; resumed, both end as if nothing had been."""
    if stage == "gan" and not full:
        pytest.skip("at full size only")
    begin = ["--from-scratch"] if stage == "gan" else []
    argv = [*options(stage, photo_folder, tmp_path / "whole", *more()), *begin]
    codes, said = ended(together(argv, tmp_path))
    assert codes == [0, 0], said
    for killed in (0, 1) if full else (1,):
        out = tmp_path / f"cut{killed}"
        argv = [*options(stage, photo_folder, out, *more()), *begin]
        befores = [None, None]
        befores[killed] = partial(faults.die_before, 4)
        processes = together(argv, tmp_path, tuple(befores))
        begun = time.monotonic()
        codes, said = ended(processes)
        survivor = processes[1 - killed].said()
        assert codes[killed] == -signal.SIGKILL and codes[1 - killed] == 1, said
        assert "Traceback" not in survivor and "another process of this run ended" in survivor, survivor
        assert saved_step(out) >= 2
        seconds = time.monotonic() - begun
        codes, said = ended(together([*argv, "--resume"], tmp_path))
        assert codes == [0, 0], said
        assert difference(tmp_path / "whole", out) == ""
        figure("K", f"{stage}: process {killed} killed, all ended after {seconds:.0f} s; resumed: identical")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_both_at_one_step(rank, photo_folder, tmp_path, full, figure):
    """Between two readings of the losses, of which each has a part; resumed, both end as if nothing had been."""
    if rank == 0 and not full:
        pytest.skip("at full size only")
    out, sign = tmp_path / "run", tmp_path / "sign"
    argv = options("pretrain", photo_folder, out, *more())
    befores = [None, None]
    befores[rank] = partial(faults.linger, "step", str(sign))
    processes = together(argv, tmp_path, tuple(befores))
    while not sign.exists() and processes[rank].process.is_alive():
        time.sleep(0.01)
    processes[rank].signal(signal.SIGTERM)
    sign.unlink()
    codes, said = ended(processes)
    assert codes == [143, 143] and "Traceback" not in said, said
    assert saved_step(out) == 3
    codes, said = ended(together([*argv, "--resume"], tmp_path))
    assert codes == [0, 0], said
    codes, said = ended(together(options("pretrain", photo_folder, tmp_path / "whole", *more()), tmp_path))
    assert codes == [0, 0], said
    assert difference(tmp_path / "whole", out) == ""
    figure("K", f"SIGTERM to process {rank} alone: both saved and ended with 143 at one step; resumed: identical")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.weights_apart_at, "the processes' weights differ at step 3"),
        (faults.too_large_at, "memory is too small: give --precision bf16"),
    ],
)
def test_what_befalls_one_ends_both(fault, says, photo_folder, tmp_path, figure):
    out = tmp_path / "run"
    argv = options("pretrain", photo_folder, out, *more())
    codes, said = ended(together(argv, tmp_path, (None, partial(fault, 3))))
    assert codes == [1, 1] and "Traceback" not in said and says in said, said
    assert saved_step(out) == 2
    figure("K", f"{fault.__name__.removesuffix('_at').replace('_', ' ')} in one process: both ended with 1")


def test_a_value_that_is_no_number_in_one_ends_both(photo_folder, tmp_path, figure):
    out = tmp_path / "run"
    befores = (None, partial(faults.nan_at, 3, "loss"))
    codes, said = ended(together(options("pretrain", photo_folder, out, *more(50)), tmp_path, befores))
    assert codes == [1, 1] and "Traceback" not in said and "step 3" in said, said
    assert saved_step(out) == 2
    figure("K", "NaN in one process: both ended with 1, nothing of the step saved")


@pytest.mark.parametrize("differs", ["--seed", "--data"])
def test_processes_that_were_told_different_things_are_refused(differs, photo_folder, tmp_path, figure):
    other = tmp_path / "photos"
    other.mkdir()
    for path in sorted(photo_folder.iterdir())[1:]:
        (other / path.name).write_bytes(path.read_bytes())
    value = {"--seed": "7", "--data": str(other)}[differs]
    argv = options("pretrain", photo_folder, tmp_path / "run", *more())
    codes, said = ended(together(argv, tmp_path, extra=((), (differs, value))))
    assert all(codes) and "Traceback" not in said, said
    assert {"--seed": "--seed", "--data": "digest"}[differs] in said
    assert not (tmp_path / "run" / "state").exists()
    figure("K", f"{differs} that differs between processes: refused at the start, {codes}")


def test_numbers_that_do_not_divide(photo_folder, tmp_path, figure):
    """11 photographs to train on and 3 to validate by two processes: no one waits for a batch that never comes."""
    argv = options("pretrain", photo_folder, tmp_path / "run", "--epochs", 3, "--val-share", 0.25)
    codes, said = ended(together(argv, tmp_path))
    assert codes == [0, 0], said
    assert checkpoint.load_state(tmp_path / "run")["world"] == 2
    assert len(list((tmp_path / "run").glob("events.*"))) == 1
    figure("K", "photographs that cannot be shared evenly: ended with 0; one process writes")
