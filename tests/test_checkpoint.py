"""What is saved is whole, and what is loaded fits."""

import hashlib
import io
import json
import os
import stat
import zipfile

import pytest
import safetensors.torch
import torch

from gan_color import checkpoint, generators, load_generator
from gan_color.errors import CheckpointError

DESCRIBED = {"architecture": "resnet_unet", "options": {"backbone": "test_resnet"}}


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return generators.build("resnet_unet", backbone="test_resnet").eval()


@pytest.fixture
def saved(generator, tmp_path):
    folder = tmp_path / "run" / "generator"
    checkpoint.save_generator(folder, generator, **DESCRIBED, info={"stage": "pretrain", "step": 3, "size": 96})
    return folder


def edit(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder, weights):
    """As someone who converts them does."""
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    edit(folder, sha256=None)


def test_a_generator_comes_back_as_it_was(generator, saved):
    loaded = load_generator(saved)
    L = torch.rand(1, 1, 40, 56)
    assert torch.equal(loaded(L), generator(L))
    assert not loaded.training and loaded.trained_size == 96


def test_a_run_folder_will_do(saved):
    assert load_generator(saved.parent).trained_size == 96


def test_config_rebuilds_the_architecture(saved):
    config = json.loads((saved / "config.json").read_text())
    rebuilt = generators.build(config["architecture"], **config["options"])
    rebuilt.load_state_dict(safetensors.torch.load_file(saved / "model.safetensors"))


def test_half_precision_is_widened(saved):
    path = saved / "model.safetensors"
    weights = {name: w.half() if w.is_floating_point() else w for name, w in safetensors.torch.load_file(path).items()}
    change_weights(saved, weights)
    assert next(load_generator(saved).parameters()).dtype == torch.float32


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(generator, saved, prefix):
    path = saved / "model.safetensors"
    change_weights(saved, {prefix + name: w for name, w in safetensors.torch.load_file(path).items()})
    L = torch.rand(1, 1, 40, 56)
    assert torch.equal(load_generator(saved)(L), generator(L))


def test_files_are_readable_by_others(saved):
    for path in saved.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert {path.name for path in saved.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_generator_saved_anew_is_whole_at_every_moment(generator, saved, monkeypatch, name):
    write = checkpoint.write_atomically

    def cut_off(path, data):
        if path.name == name:
            raise KeyboardInterrupt
        write(path, data)

    before = generator.head.bias.detach().clone()
    with torch.no_grad():
        generator.head.bias += 1
    monkeypatch.setattr(checkpoint, "write_atomically", cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_generator(saved, generator, **DESCRIBED, info={"step": 4})
    assert torch.equal(load_generator(saved).head.bias, before) and not checkpoint.generator_is_of(saved, 4)
    monkeypatch.undo()
    checkpoint.save_generator(saved, generator, **DESCRIBED, info={"step": 4})
    assert torch.equal(load_generator(saved).head.bias, before + 1) and checkpoint.generator_is_of(saved, 4)


def test_weights_that_are_not_finite_are_never_saved(generator, saved):
    before = (saved / "model.safetensors").read_bytes()
    with torch.no_grad():
        generator.head.bias[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"head\.bias is not finite"):
        checkpoint.save_generator(saved, generator, **DESCRIBED, info={})
    assert (saved / "model.safetensors").read_bytes() == before


def break_nothing_there(folder):
    (folder / "config.json").unlink()


def break_no_weights(folder):
    (folder / "model.safetensors").unlink()


def break_truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def break_not_json(folder):
    (folder / "config.json").write_text("{")


def break_other_architecture(folder):
    edit(folder, architecture="transformer")


def break_other_backbone(folder):
    edit(folder, options={"backbone": "resnet10t"})


def break_newer_format(folder):
    edit(folder, format=99)


def break_options_that_load_a_file(folder):
    edit(folder, options={"backbone": "test_resnet", "weights": "/tmp/weights.pth"})


def break_options_beyond_memory(folder):
    edit(folder, options={"backbone": "test_resnet", "widths": [2**40] * 5})


def break_huge_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes((9 * 2**20).to_bytes(8, "little") + b" " * 9 * 2**20 + path.read_bytes())


def break_huge_file(folder):
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(2**36)  # a hole: nothing is on the disk


def break_integers(folder):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["head.bias"] = weights["head.bias"].long()
    change_weights(folder, weights)


def break_nan(folder):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["head.bias"][1] = float("inf")
    change_weights(folder, weights)


def break_one_bit(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (break_nothing_there, "there is no generator in"),
        (break_no_weights, "cannot be read"),
        (break_truncated, "is broken"),
        (break_not_json, "does not describe a generator"),
        (break_other_architecture, "transformer"),
        (break_other_backbone, "does not fit the architecture"),
        (break_newer_format, "update gan_color"),
        (break_options_that_load_a_file, "does not describe a generator"),
        (break_options_beyond_memory, "is not of a ResNetUNet"),
        (break_huge_header, "is broken (its header is too large)"),
        (break_huge_file, "is broken (larger than"),
        (break_integers, "head.bias is torch.int64, not torch.float32"),
        (break_nan, "head.bias is not finite"),
        (break_one_bit, "is broken (not the bytes that were saved)"),
    ],
)
def test_whatever_is_wrong_is_one_line_with_the_cure(saved, harm, says):
    harm(saved)
    with pytest.raises(CheckpointError) as caught:
        load_generator(saved)
    assert says in str(caught.value) and str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def state(step: int) -> dict:
    return {"step": step, "stage": {"weight": torch.full((3,), float(step))}, "text": "a", "list": [1, 2.5]}


def test_the_newest_state_comes_back(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save_state(tmp_path, step, state(step))
    loaded = checkpoint.load_state(tmp_path)
    assert loaded["step"] == 3 and torch.equal(loaded["stage"]["weight"], torch.full((3,), 3.0))


def test_only_the_newest_states_are_kept(tmp_path):
    for step in (1, 20, 3, 100):
        checkpoint.save_state(tmp_path, step, state(step))
    names = sorted(path.name for path in (tmp_path / "state").glob("*.pt"))
    assert names == ["step-00000020.pt", "step-00000100.pt"]


@pytest.mark.parametrize("harm", ["flip", "cut", "no digest"])
def test_a_broken_state_gives_way_to_the_one_before(tmp_path, harm):
    for step in (1, 2):
        checkpoint.save_state(tmp_path, step, state(step))
    newest = tmp_path / "state" / "step-00000002.pt"
    data = bytearray(newest.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
    elif harm == "cut":
        newest.write_bytes(data[:-1])
    else:
        newest.with_name(newest.name + ".sha256").unlink()
    assert checkpoint.load_state(tmp_path)["step"] == 1


def test_no_whole_state_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no state to resume from"):
        checkpoint.load_state(tmp_path)
    checkpoint.save_state(tmp_path, 1, state(1))
    (tmp_path / "state" / "step-00000001.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 1 states"):
        checkpoint.load_state(tmp_path)


def test_a_state_that_would_run_code_is_not_run(tmp_path):
    """A payload with a digest that fits it: weights_only must be what stops it."""
    canary = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    put(tmp_path, {"step": 1, "stage": Payload()})
    with pytest.raises(CheckpointError):
        checkpoint.load_state(tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["step-00000002.pt", "step-00000002.pt.sha256"])
def test_a_state_saved_anew_is_whole_at_every_moment(tmp_path, monkeypatch, name):
    """A run that is cut off while it saves its only state a second time still has one of the two."""
    checkpoint.save_state(tmp_path, 2, state(2) | {"text": "first"})
    write = checkpoint.write_atomically

    def cut_off(path, data):
        if path.name == name:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_state(tmp_path, 2, state(2) | {"text": "second"})
    assert checkpoint.load_state(tmp_path)["text"] == "first"
    monkeypatch.undo()
    checkpoint.save_state(tmp_path, 2, state(2) | {"text": "second"})
    assert checkpoint.load_state(tmp_path)["text"] == "second"


def test_links_to_nowhere_folders_and_pipes_are_no_states(tmp_path):
    checkpoint.save_state(tmp_path, 1, state(1))
    folder = tmp_path / "state"
    (folder / "step-00000002.pt").symlink_to("nowhere")
    (folder / "step-00000003.pt").mkdir()
    os.mkfifo(folder / "step-00000004.pt")
    assert checkpoint.load_state(tmp_path)["step"] == 1
    for step in (5, 6, 7):
        checkpoint.save_state(tmp_path, step, state(step))
    assert checkpoint.load_state(tmp_path)["step"] == 7


def put(run, state, compression=zipfile.ZIP_STORED) -> None:
    """Lay a state into a run folder with a digest that fits it: what must refuse it comes after the digest."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    if compression != zipfile.ZIP_STORED:
        packed = io.BytesIO()
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(packed, "w", compression) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        buffer = packed
    checkpoint.write_atomically(run / "state" / "step-00000001.pt", buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    checkpoint.write_atomically(run / "state" / "step-00000001.pt.sha256", digest.encode())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.tensor([1.0, float("nan")]), "is not finite"),
        (lambda: torch.eye(3).to_sparse(), "is no dense tensor"),
        (lambda: torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.quint8), "is no dense tensor"),
        (lambda: torch.zeros(1).expand(10**13), "is larger than what is stored of it"),
        (lambda: torch.float32, "is a dtype"),
    ],
    ids=["not finite", "sparse", "quantised", "spread over any size", "no tensor"],
)
@pytest.mark.filterwarnings("ignore")
def test_only_dense_finite_tensors_are_loaded(tmp_path, make, says):
    put(tmp_path, {"format": 1} | state(1) | {"stage": {"weight": make()}})
    with pytest.raises(CheckpointError, match=f"stage.weight {says}; do not use it") as caught:
        checkpoint.load_state(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_not_finite_is_not_saved_to_resume_either(tmp_path):
    checkpoint.save_state(tmp_path, 1, state(1))
    with pytest.raises(CheckpointError, match=r"stage\.weight is not finite"):
        checkpoint.save_state(tmp_path, 2, state(2) | {"stage": {"weight": torch.tensor([float("inf")])}})
    assert checkpoint.load_state(tmp_path)["step"] == 1


def test_a_state_that_would_unpack_to_more_than_it_is_is_not_unpacked(tmp_path, monkeypatch):
    put(tmp_path, {"format": 1} | state(1) | {"stage": {"weight": torch.zeros(10**6)}}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(CheckpointError, match="is no training state"):
        checkpoint.load_state(tmp_path)


def test_a_state_of_a_newer_format_says_so(tmp_path):
    put(tmp_path, {"format": 2} | state(1))
    with pytest.raises(CheckpointError, match="has format 2, this gan_color reads 1: update it"):
        checkpoint.load_state(tmp_path)


@pytest.mark.timeout(20)
def test_a_state_nested_without_end_takes_no_time(tmp_path):
    nested = [0]
    for _ in range(200):
        nested = [nested, nested]  # 2**200 leaves by name, 201 lists
    put(tmp_path, {"format": 1} | state(1) | {"list": nested})
    assert checkpoint.load_state(tmp_path)["step"] == 1
