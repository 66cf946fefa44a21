"""Several processes, started by torchrun as a user starts them."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from conftest import PROJECT, TINY

from gan_color import checkpoint, distributed


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


PARTED = """
import sys
from pathlib import Path
from gan_color import distributed
from gan_color.__main__ import main

part = distributed.finish

def finish():
    part()
    threads = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
    Path(f"{sys.argv[1]}-{distributed.rank()}").write_text("".join(threads))

distributed.finish = finish
main(sys.argv[2:])
"""


# A thread of gloo that is left may wait for the interpreter at the end of the process, and aborts it.
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc, which only Linux has")
@pytest.mark.parametrize("argv", [["pretrain"], ["gan", "--from-scratch"]], ids=["pretrain", "gan"])
def test_when_processes_part_their_group_has_no_thread_left(argv, photo_folder, tmp_path):
    script = tmp_path / "parted.py"
    script.write_text(PARTED)
    options = ["--data", photo_folder, *TINY, "--max-steps", "1", "--out", tmp_path / "run"]
    run = torchrun(script, tmp_path / "threads", *argv, *options)
    assert run.returncode == 0, run.stderr
    for rank in (0, 1):
        threads = (tmp_path / f"threads-{rank}").read_text()
        assert threads and "gloo" not in threads


def test_a_run_of_two_processes_is_not_continued_by_one(photo_folder, tmp_path, train, capsys):
    out = tmp_path / "run"
    first = torchrun("train_pretrain.py", "--data", photo_folder, *TINY, "--max-steps", "2", "--out", out)
    assert first.returncode == 0, first.stderr
    with pytest.raises(SystemExit) as end:
        train("pretrain", out, "--resume", "--max-steps", "4")
    assert end.value.code == 2
    assert "torchrun --nproc-per-node 2" in capsys.readouterr().err


def test_two_machines_meet_and_train_as_one(photo_folder, tmp_path):
    """Each is a torchrun of its own; here both are this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    training = ["train_pretrain.py", "--data", photo_folder, *TINY, "--max-steps", "4", "--out", tmp_path / "run"]
    machines = []
    for number in ("0", "1"):
        command = [sys.executable, "-m", "torch.distributed.run", *meeting, "--node-rank", number, *map(str, training)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / number)}
        machines.append(subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True))
    said = [machine.communicate(timeout=200)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert ["to train on" in words for words in said] == [True, False]
    assert checkpoint.load_state(tmp_path / "run")["world"] == 2


SAME_AS_ONE = """
import sys, torch
sys.path[:0] = [".", "tests"]
from test_gan import stage, batch
from gan_color import distributed
distributed.start(torch.device("cpu"))
ours = stage(norm="instance", discriminator_batch=sys.argv[2], accumulate=int(sys.argv[3]), r1=float(sys.argv[4]))
L, ab = batch(8)
rank = distributed.rank()
# By slices, as RunOrder shares a batch out.
part = slice(rank * 4, rank * 4 + 4) if distributed.world() == 2 else slice(0, 8)
ours.step(L[part], ab[part])
gradients = [p.grad for network in (ours.generator, ours.discriminator) for p in network.parameters()]
torch.save(gradients, f"{sys.argv[1]}-{distributed.world()}-{rank}.pt")
del ours
distributed.finish()
"""


# R1's second derivatives go round DistributedDataParallel and must be shared by it all the same.
@pytest.mark.parametrize(("together", "accumulate", "r1"), [("together", 1, 0), ("apart", 1, 9), ("together", 2, 9)])
def test_the_gradients_of_two_processes_are_those_of_one(tmp_path, together, accumulate, r1):
    script = tmp_path / "step.py"
    script.write_text(SAME_AS_ONE)
    argv = [script, tmp_path / "gradients", together, accumulate, r1]
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
