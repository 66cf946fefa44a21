"""Rows F, G and J: files of strangers and broken files; each loads as it should or is a CheckpointError."""

import bz2
import hashlib
import io
import json
import os
import pickle
import pickletools
import resource
import shutil
import subprocess
import time
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import runs
import safetensors.torch
import torch
from test_crash_points import DESCRIBED

from gan_color import checkpoint, generators, load_generator
from gan_color.errors import CheckpointError, GanColorError, UsageError

STATE = {
    "step": 3,
    "stage": {"weight": torch.linspace(0, 1, 60).reshape(3, 20), "counts": [1, 2.5], "half": torch.ones(4).half()},
    "text": "a",
    "due": False,
}


def put_state(run: Path, data: bytes) -> None:
    """A state of these bytes, with a digest that fits: what it is must be found out by reading it."""
    path = run / "state" / "step-00000003.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    checkpoint.digest_path(path).write_text(hashlib.sha256(data).hexdigest())


def state_bytes(state: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, **state}, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory) -> Path:
    """A generator for use, the smallest there is."""
    folder = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    network = generators.build("resnet_unet", **DESCRIBED["options"])
    checkpoint.save_generator(folder, network, **DESCRIBED, info={"size": 32})
    return folder


# Row G


@pytest.mark.parametrize("kind", ["state", "digest"])
def test_a_flipped_bit_in_a_state_is_refused(kind, tmp_path, full, chance, figure):
    checkpoint.save_state(tmp_path, 3, STATE)
    path = tmp_path / "state" / "step-00000003.pt"
    path = checkpoint.digest_path(path) if kind == "digest" else path
    refused, flips = flipped(path, partial(checkpoint.load_state, tmp_path), chance, 5000 if full else 500)
    figure("G", f"{kind}: {refused} of {flips} flips refused")
    assert refused == flips


def test_a_flipped_bit_in_a_generator_is_refused(generator_folder, tmp_path, full, chance, figure):
    shutil.copytree(generator_folder, tmp_path / "g")
    # Building the network is what takes the time: not for every flip.
    path = tmp_path / "g" / "model.safetensors"
    refused, flips = flipped(path, partial(load_generator, tmp_path / "g"), chance, 1000 if full else 40)
    figure("G", f"model.safetensors: {refused} of {flips} flips refused")
    assert refused == flips


def flipped(path: Path, load, chance, times: int) -> tuple[int, int]:
    """Flip single bits anywhere in a file, one at a time; how many loadings are refused."""
    whole = path.read_bytes()
    load()
    refused = 0
    for bit in chance.integers(0, len(whole) * 8, times).tolist():
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            load()
        except CheckpointError:
            refused += 1
    path.write_bytes(whole)
    return refused, times


# Row J

CANARY = "touch {canary}"


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class Rebuilds:
    """Pickled as an object whose state is set by its own code."""

    def __init__(self, canary):
        self.canary = canary

    def __setstate__(self, state):
        Path(state["canary"]).touch()


def _zipped(pickled: bytes) -> bytes:
    """A pickle of our own in torch's archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(state_bytes(STATE))) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith("data.pkl") else source.read(name))
    return buffer.getvalue()


def _torchscript(canary: Path) -> bytes:
    class Module(torch.nn.Module):
        def forward(self, x):
            return x

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Module()), buffer, _extra_files={"evil.py": f"open('{canary}', 'w')"})
    return buffer.getvalue()


def _sparse(canary: Path) -> bytes:
    """A sparse tensor whose index lies outside it: an old way to write past the end of memory."""
    with torch.sparse.check_sparse_tensor_invariants(False):
        outside = torch.sparse_coo_tensor(torch.tensor([[10**9]]), torch.tensor([1.0]), (4,), check_invariants=False)
    return state_bytes(STATE | {"stage": {"weight": outside}})


PAYLOADS = {
    "os.system": lambda c: state_bytes({"stage": Calls(os.system, f"touch {c}")}),
    "subprocess.Popen": lambda c: state_bytes({"stage": Calls(subprocess.Popen, ["touch", str(c)])}),
    "eval": lambda c: state_bytes({"stage": Calls(eval, f"open({str(c)!r}, 'w')")}),
    "exec": lambda c: state_bytes({"stage": Calls(exec, f"open({str(c)!r}, 'w')")}),
    "open": lambda c: state_bytes({"stage": Calls(open, str(c), "w")}),
    "getattr chain": lambda c: state_bytes({"stage": Calls(getattr, Calls(__import__, "os"), "system")}),
    "__setstate__": lambda c: state_bytes({"stage": Rebuilds(str(c))}),
    "dictionary key": lambda c: state_bytes({"stage": {Calls(Path(c).touch): 1}}),
    "posix.system by name": lambda c: _zipped(f"cposix\nsystem\n(S'touch {c}'\ntR.".encode()),
    "builtins.exec by name": lambda c: _zipped(f"cbuiltins\nexec\n(Vopen('{c}','w')\ntR.".encode()),
    "torch's own loader": lambda c: _zipped(f"ctorch\nload\n(V{c}\ntR.".encode()),
    "runpy": lambda c: _zipped(f"crunpy\nrun_path\n(V{c.with_suffix('.py')}\ntR.".encode()),
    "legacy pickle": lambda c: pickle.dumps(Calls(os.system, f"touch {c}")),
    "legacy pickle, compressed": lambda c: bz2.compress(pickle.dumps(Calls(os.system, f"touch {c}"))),
    "TorchScript": _torchscript,
    "sparse tensor with an index outside": _sparse,
    "numpy object array": lambda c: state_bytes({"stage": np.array([Calls(os.system, f"touch {c}")], dtype=object)}),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_malicious_state_runs_nothing(name, tmp_path, figure):
    canary = tmp_path / "ran"
    canary.with_suffix(".py").write_text(f"open({str(canary)!r}, 'w')")
    put_state(tmp_path, PAYLOADS[name](canary))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_state(tmp_path)
    assert not canary.exists()
    assert "\n" not in str(caught.value) and "step-00000003.pt" in str(caught.value)
    figure("J", f"state, {name}: not run")


@pytest.mark.parametrize("name", ["os.system", "legacy pickle", "posix.system by name", "TorchScript"])
def test_a_malicious_generator_runs_nothing(name, generator_folder, tmp_path, figure):
    canary = tmp_path / "ran"
    shutil.copytree(generator_folder, tmp_path / "g")
    (tmp_path / "g" / "model.safetensors").write_bytes(PAYLOADS[name](canary))
    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "g")
    assert not canary.exists()
    figure("J", f"generator, {name}: not run")


def test_a_config_that_names_a_pickle_for_weights_runs_nothing(generator_folder, tmp_path, figure):
    canary, weights = tmp_path / "ran", tmp_path / "weights.pth"
    torch.save(Calls(os.system, f"touch {canary}"), weights)
    shutil.copytree(generator_folder, tmp_path / "g")
    path = tmp_path / "g" / "config.json"
    config = json.loads(path.read_text())
    config["options"]["weights"] = str(weights)
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "g")
    assert not canary.exists()
    figure("J", "config.json, weights from a pickle: not run")


def test_a_config_yaml_that_would_build_objects_runs_nothing(photo_folder, tmp_path, figure, capsys):
    from gan_color.__main__ import main

    canary = tmp_path / "ran"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: !!python/object/apply:os.system ['touch {canary}']\n")
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "--config", str(recipe), "--out", str(tmp_path / "run")])
    assert end.value.code == 2 and not canary.exists()
    figure("J", "recipe in YAML, Python object: not run")


# Row F


def fuzz_states(seed: int, times: int) -> dict:
    """Load many malformed states; what became of them, as counts."""
    chance = np.random.default_rng(seed)
    folder = Path(os.environ["FUZZ_FOLDER"]) / str(os.getpid())
    whole = state_bytes(STATE)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    outcomes, odd = Counter(), []
    limit_memory(2 << 30)
    for number in range(times):
        data = mutated(whole, chance) if number % 2 else _zipped(mutated_pickle(pickled, chance))
        put_state(folder, data)
        outcomes[outcome(partial(checkpoint.load_state, folder), number, odd)] += 1
    shutil.rmtree(folder)
    return {"outcomes": outcomes, "odd": odd[:5], "rss": peak()}


def fuzz_generators(seed: int, times: int, source: str) -> dict:
    """Load many generators whose two files are malformed."""
    chance = np.random.default_rng(seed)
    folder = Path(os.environ["FUZZ_FOLDER"]) / f"generator{os.getpid()}"
    shutil.copytree(source, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole = {weights: weights.read_bytes(), config: config.read_bytes()}
    header = 8 + int.from_bytes(whole[weights][:8], "little")
    outcomes, odd = Counter(), []
    limit_memory(2 << 30)
    for number in range(times):
        path = (weights, config)[number % 2]
        if path == weights:  # the header is where structure is
            path.write_bytes(mutated(whole[path][:header], chance) + whole[path][header:])
        else:
            path.write_bytes(mutated_json(whole[path], chance) if number % 4 == 1 else mutated(whole[path], chance))
        outcomes[outcome(partial(load_generator, folder), number, odd)] += 1
        path.write_bytes(whole[path])
    shutil.rmtree(folder)
    return {"outcomes": outcomes, "odd": odd[:5], "rss": peak()}


def outcome(load, number: int, odd: list) -> str:
    begun = time.monotonic()
    try:
        load()
        result = "loaded"
    except CheckpointError as error:
        result = "refused" if "\n" not in str(error) else "more than one line"
    except Exception as error:
        result = type(error).__name__
    if result not in ("loaded", "refused"):
        odd.append(f"{number}: {result}")
    if time.monotonic() - begun > 5:
        odd.append(f"{number}: {time.monotonic() - begun:.0f} s")
    return result


def limit_memory(more: int) -> None:
    """Let this process take so many bytes of address space more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))


def peak() -> int:
    """Most memory that this process had at once, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def mutated(data: bytes, chance) -> bytes:
    """Bytes changed, cut, doubled or inserted at one to four places."""
    data = bytearray(data)
    for _ in range(int(chance.integers(1, 5))):
        at = int(chance.integers(len(data) or 1))
        length = int(chance.integers(1, 17))
        kind = chance.integers(5)
        if kind == 0 and data:
            data[at] ^= 1 << int(chance.integers(8))
        elif kind == 1:
            data[at : at + length] = chance.bytes(length)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif chance.integers(4) == 0:
            del data[at:]
        else:  # numbers that lie at the edge of what fits
            data[at : at + 8] = int(chance.choice([0, 2**31 - 1, 2**32 - 1, 2**63 - 1])).to_bytes(8, "little")
    return bytes(data)


def mutated_pickle(pickled: bytes, chance) -> bytes:
    """A pickle whose instructions are taken out, doubled, exchanged, or given names of other functions."""
    ops = list(pickletools.genops(pickled))
    ends = [position for _, _, position in ops[1:]] + [len(pickled)]
    parts = [pickled[position:end] for (_, _, position), end in zip(ops, ends, strict=True)]
    for _ in range(int(chance.integers(1, 5))):
        at, other = (int(i) for i in chance.integers(0, len(parts), 2))
        kind = chance.integers(4)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[other])
        elif kind == 2:
            parts[at] = parts[other]
        else:
            names = ("os system", "builtins eval", "torch._utils _rebuild_tensor_v2", "collections OrderedDict")
            parts[at] = b"c" + str(chance.choice(names)).replace(" ", "\n").encode() + b"\n"
    return b"".join(parts)


def mutated_json(data: bytes, chance) -> bytes:
    """A JSON object with one of its values exchanged for something else."""
    config = json.loads(data)
    holder = config if chance.integers(2) else config["options"]
    odd = [None, 10**30, -1, "", "x" * 10**6, [], {}, [[[]]], 1.5, True, {"a": {}}, "../../etc/passwd", "hf-hub:a/b"]
    holder[str(chance.choice(list(holder)))] = odd[int(chance.integers(len(odd)))]
    return json.dumps(config).encode()


@pytest.mark.parametrize("what", ["states", "generators"])
def test_malformed_files_are_refused_in_one_way(what, generator_folder, tmp_path, full, figure, request, monkeypatch):
    monkeypatch.setenv("FUZZ_FOLDER", str(tmp_path))
    seed, times = request.config.getoption("--fault-seed"), {"states": 1000, "generators": 60}[what]
    times *= 20 if full else 1
    work = partial(fuzz_states, seed, times)
    if what == "generators":
        work = partial(fuzz_generators, seed, times, str(generator_folder))
    work = partial(_with_folder, str(tmp_path), work)
    result = runs.result_of(work, tmp_path / "log", timeout=3600)
    named = {name: result["outcomes"].get(name, 0) for name in ("loaded", "refused")}
    figure(
        "F",
        f"{what}: {times} malformed, {named['refused']} refused, {named['loaded']} loaded, "
        f"{times - sum(named.values())} otherwise; at most {result['rss']} MB",
    )
    assert not result["odd"], f"--fault-seed {seed}: {result['odd']}"
    assert sum(named.values()) == times
    assert result["rss"] < 2048


def _with_folder(folder: str, work):
    os.environ["FUZZ_FOLDER"] = folder
    return work()


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path, figure):
    """A state that torch would load, of some hundred kilobytes, with a tensor of 100 MB: refused unopened."""
    buffer, size = io.BytesIO(), 100_000_000
    whole = state_bytes({"stage": {"weight": torch.zeros(size // 4)}})
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    put_state(tmp_path, buffer.getvalue())
    begun = time.monotonic()
    with pytest.raises(CheckpointError):
        checkpoint.load_state(tmp_path)
    assert len(buffer.getvalue()) < size / 100 and time.monotonic() - begun < 1
    figure("F", f"{len(buffer.getvalue()):,} bytes that unpack to {size:,}: refused at once")


@pytest.mark.parametrize("length", [10**9, 2**63 - 1])
def test_a_header_that_claims_to_be_huge_is_refused(length, generator_folder, tmp_path, figure):
    shutil.copytree(generator_folder, tmp_path / "g")
    path = tmp_path / "g" / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "g")
    figure("F", f"header of {length:,} bytes: refused")


# A state that parses but is not what a run saved: exchanged leaves, up to the command line.


def exchanged(state, chance) -> dict:
    """A state with one leaf or branch, anywhere in it, exchanged for something of another kind."""
    trail, here = [], state
    while isinstance(here, dict | list) and here and (not trail or chance.uniform() < 0.8):
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        trail.append((here, keys[int(chance.integers(len(keys)))]))
        here = here[trail[-1][1]]
    odd = [None, -1, 1e300, "x", [], {}, torch.zeros(3), torch.ones(2, 2).to_sparse(), torch.tensor(float("nan"))]
    holder, key = trail[-1]
    if chance.integers(5) == 0 and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = odd[int(chance.integers(len(odd)))]
    return state


def test_a_state_with_parts_of_another_kind_is_refused_or_harmless(photo_folder, tmp_path, full, chance, figure):
    """Through `--resume`: exit code 0, 1 or 2 and no traceback, whatever was exchanged."""
    out, start = tmp_path / "run", tmp_path / "start"
    argv = ["--max-steps", 2, "--epochs", 9]
    runs.finish(runs.options("pretrain", photo_folder, start, *argv), tmp_path / "log")
    whole = (start / "state" / "step-00000002.pt").read_bytes()
    outcomes, odd = Counter(), []
    times = 200 if full else 6
    for number in range(times):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(start, out)
        buffer = io.BytesIO()
        torch.save(exchanged(torch.load(io.BytesIO(whole), weights_only=True), chance), buffer)
        path = out / "state" / "step-00000002.pt"
        path.write_bytes(buffer.getvalue())
        checkpoint.digest_path(path).write_text(hashlib.sha256(buffer.getvalue()).hexdigest())
        resume = runs.options("pretrain", photo_folder, out, "--epochs", 9, "--max-steps", 3, "--resume")
        run = runs.Run(runs.command(resume), tmp_path / "log")
        code = run.wait()
        outcomes[code] += 1
        if code not in (0, 1, 2) or "Traceback" in run.said():
            odd.append((number, code, run.said().splitlines()[-1]))
    figure("F", f"states with an exchanged part: {times}, {outcomes[0]} harmless, {len(odd)} with a traceback")
    assert not odd


def test_errors_have_the_types_that_are_counted_above():
    assert issubclass(CheckpointError, GanColorError) and not issubclass(UsageError, CheckpointError)
    with pytest.raises(CheckpointError):
        load_generator("/nowhere/at all")
    assert safetensors.torch.load(safetensors.torch.save({"a": torch.ones(1)}))["a"] == 1
