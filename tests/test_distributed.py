"""Several processes, started by torchrun as a user starts them."""

import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, TINY
from test_fit import lines, same

from gan_color import checkpoint, distributed, pretrain
from gan_color.data import sources


def torchrun(*argv) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, argv)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)


def test_two_processes_run_both_stages(photo_folder, tmp_path):
    pretrain, gan = tmp_path / "pretrain", tmp_path / "gan"
    options = ["--data", photo_folder, *TINY, "--epochs", "2"]
    first = torchrun("train_pretrain.py", *options, "--out", pretrain)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("to train on") == 1  # only the first process speaks
    second = torchrun("train_gan.py", *options, "--generator", pretrain, "--out", gan)
    assert second.returncode == 0, second.stderr
    assert checkpoint.load_state(gan)["world"] == 2
    assert len(list(gan.glob("events.*"))) == 1


def test_a_run_of_two_processes_is_not_continued_by_one(photo_folder, tmp_path, train, capsys):
    out = tmp_path / "run"
    first = torchrun("train_pretrain.py", "--data", photo_folder, *TINY, "--max-steps", "2", "--out", out)
    assert first.returncode == 0, first.stderr
    with pytest.raises(SystemExit) as end:
        train("pretrain", out, "--resume", "--max-steps", "4")
    assert end.value.code == 2
    assert "torchrun --nproc-per-node 2" in capsys.readouterr().err


SAME_AS_ONE = """
import sys, torch
sys.path.insert(0, "tests")
from test_gan import stage, batch
from gan_color import distributed
distributed.start(torch.device("cpu"))
ours = stage(norm="instance", discriminator_batch=sys.argv[2], accumulate=int(sys.argv[3]))
L, ab = batch(8)
rank = distributed.rank()
# By slices, as RunOrder shares a batch out.
part = slice(rank * 4, rank * 4 + 4) if distributed.world() == 2 else slice(0, 8)
ours.step(L[part], ab[part])
gradients = [p.grad for network in (ours.generator, ours.discriminator) for p in network.parameters()]
torch.save(gradients, f"{sys.argv[1]}-{distributed.world()}-{rank}.pt")
distributed.finish()
"""


@pytest.mark.parametrize(("together", "accumulate"), [("together", 1), ("apart", 1), ("together", 2)])
def test_the_gradients_of_two_processes_are_those_of_one(tmp_path, together, accumulate):
    script = tmp_path / "step.py"
    script.write_text(SAME_AS_ONE)
    argv = [script, tmp_path / "gradients", together, accumulate]
    two = torchrun(*argv)
    assert two.returncode == 0, two.stderr
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *map(str, argv)], cwd=PROJECT, env=environment, check=True, timeout=120)
    one, first, second = (
        torch.load(tmp_path / f"gradients-{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    for reference, a, b in zip(one, first, second, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, reference, rtol=1e-3, atol=1e-6)


def test_alone_everything_is_free():
    assert (distributed.rank(), distributed.world(), distributed.any_process(15)) == (0, 1, 15)
    values = torch.tensor([1.0, 2.0])
    assert distributed.sum_over_processes(values) is values


def train_misbehaving(what: str, rank: int, environment: dict[str, str], said: Path, options: list[str]) -> None:
    """Stage one as one of two processes, the second of which misbehaves at step 3 or is told other things."""
    from gan_color.__main__ import main

    output = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
    os.environ.update(environment)
    step, taken, mine = pretrain.Pretrain.step, iter(range(1, 1000)), rank == 1

    def misbehave(self, L, ab):
        if mine and next(taken) == 3:
            if what == "nan":
                L = L * math.nan
            elif what in ("SIGKILL", "SIGTERM"):
                os.kill(os.getpid(), getattr(signal, what))
            elif what == "apart":
                with torch.no_grad():
                    next(self.generator.parameters()).add_(1e-6)
            elif what == "memory":
                torch.empty(2**60)
        return step(self, L, ab)

    pretrain.Pretrain.step = misbehave
    if mine and what == "lr":
        options = [*options, "--lr", "0.5"]
    if mine and what == "data":
        sources._as_share = lambda digest: int(digest[-13:], 16) / 16**13
    main(["pretrain", *options], program="train_pretrain.py")


def two_processes(tmp_path, photo_folder, what: str, *options: str) -> list[tuple[int, str]]:
    """Run stage one in two processes, forked from this one, which saves the imports; exit codes and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        environment["MASTER_PORT"] = str(free.getsockname()[1])
    options = ["--data", str(photo_folder), *TINY, "--epochs", "3", "--log-every", "4", "--save-every", "2", *options]
    options += ["--out", str(tmp_path / "run")]
    processes, said = [], [tmp_path / f"said by {rank}" for rank in (0, 1)]
    for rank in (0, 1):
        told = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        arguments = (what, rank, told, said[rank], options)
        processes.append(multiprocessing.get_context("fork").Process(target=train_misbehaving, args=arguments))
        processes[rank].start()
    try:
        for process in processes:
            process.join(60)
    finally:
        for process in processes:
            process.kill()
    return [(process.exitcode, words.read_text()) for process, words in zip(processes, said, strict=True)]


def errors_of(said: str) -> list[str]:
    """What a process said in the end; torch warns of this and that before."""
    return [line for line in said.splitlines() if line.startswith("train_pretrain.py: ") or "Traceback" in line]


@pytest.mark.parametrize(
    ("what", "codes", "says", "saved"),
    [
        ("nan", (1, 1), "not finite, or a loss of another process at step 3", 2),
        ("memory", (1, 1), "another process of this run ended", 2),
        ("SIGKILL", (1, -9), "another process of this run ended", 2),
        ("apart", (1, 1), "the processes' weights differ at step 4", 2),
        ("lr", (2, 2), "process 1 has --lr 0.5, process 0 0.001", None),
        ("data", (2, 2), "process 1 has photographs with digest", None),
    ],
)
def test_what_befalls_one_process_ends_both_with_a_good_checkpoint(tmp_path, photo_folder, what, codes, says, saved):
    ended = two_processes(tmp_path, photo_folder, what)
    assert tuple(code for code, _ in ended) == codes, ended
    (error,) = errors_of(ended[0][1])
    assert says in error
    if saved is None:
        assert not (tmp_path / "run").exists()
    else:
        assert checkpoint.load_state(tmp_path / "run")["step"] == saved


def test_two_processes_stopped_by_a_signal_to_one_go_on_to_the_same_end(tmp_path, photo_folder):
    """Stopped between two readings of the losses: each process's part of the means goes on, too."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert [code for code, _ in two_processes(whole, photo_folder, "nothing")] == [0, 0]
    assert [code for code, _ in two_processes(cut, photo_folder, "SIGTERM")] == [143, 143]
    assert checkpoint.load_state(cut / "run")["step"] == 3
    assert [code for code, _ in two_processes(cut, photo_folder, "nothing", "--resume")] == [0, 0]
    assert lines(cut / "run") == lines(whole / "run")
    ended = [checkpoint.load_state(folder / "run") for folder in (cut, whole)]
    assert same(ended[0]["stage"], ended[1]["stage"])
