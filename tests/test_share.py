"""What is shared is half as large, colours alike, and is whole or not there."""

import json
import math
import re
import shutil

import pytest
import safetensors.torch
import torch
from conftest import draw_photo

from gan_color import checkpoint, colorize, generators, load_generator, share
from gan_color.__main__ import main
from gan_color.errors import CheckpointError

FILES = ["README.md", "config.json", "model.safetensors"]


def failed(capsys, *argv) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["share", *map(str, argv)])
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return end.value.code, error


def test_a_shared_generator_is_half_as_large_and_colours_alike(pretrained, tmp_path, capsys):
    out = tmp_path / "new" / "shared"
    main(["share", str(pretrained), "--out", str(out)])
    said = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == FILES
    own = pretrained / "generator"
    size = (own / "model.safetensors").stat().st_size
    assert 0.4 * size < (out / "model.safetensors").stat().st_size < 0.6 * size
    assert (out / "README.md").read_bytes() == (own / "README.md").read_bytes()
    was, now = (json.loads((folder / "config.json").read_text()) for folder in (own, out))
    assert was.pop("sha256") != now.pop("sha256") and was == now

    one, other = load_generator(pretrained), load_generator(out)
    rounded = {name: tensor.half().float() for name, tensor in one.state_dict().items() if tensor.is_floating_point()}
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in rounded.items())
    L = torch.rand(2, 1, 64, 96) * 2 - 1
    assert 0 < (one(L) - other(L)).abs().mean() < share.BOUND
    told = re.search(r"changes ab of -1..1 by (\S+) on average and (\S+) at most, 8-bit RGB by (\d+) at most\n", said)
    assert 0 < float(told[1]) < share.BOUND and float(told[1]) < float(told[2]) and int(told[3]) <= 2
    colorize(other, draw_photo(1))


def test_what_exceeds_half_precision_stays_single(pretrained):
    generator = load_generator(pretrained)
    (name, weight), *_ = ((name, p) for name, p in generator.named_parameters() if p.dim() == 4)
    weight.data[0, 0, 0, 0] = 1e5
    halved = share.halve(generator).state_dict()
    assert halved.pop(name).dtype == torch.float32
    assert {tensor.dtype for tensor in halved.values()} == {torch.float16, torch.int64}
    assert weight.dtype == torch.float32 and float(weight.data[0, 0, 0, 0]) == 1e5  # the original is as it was


def test_what_half_precision_would_change_is_not_written(tmp_path, capsys):
    torch.manual_seed(0)
    generator = generators.build("resnet_unet", backbone="test_resnet", weights="none", widths=(16, 16, 8, 8, 8))
    norm = [module for module in generator.modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
    head = [module for module in generator.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    # Two channels whose difference is 2, and 4 in half precision, which has every fourth number there.
    norm.bias.data[:2] = torch.tensor([5001.0, 5003.0])
    head.weight.data[:, 0], head.weight.data[:, 1] = 0.01, -0.01
    options = generator.description["options"]
    checkpoint.save_generator(tmp_path / "wild", generator, "resnet_unet", options, {"size": 64})
    code, error = failed(capsys, tmp_path / "wild", "--out", tmp_path / "shared")
    assert code == 1 and "does not bear half precision" in error and "share its own folder" in error
    assert not (tmp_path / "shared").exists()


def test_a_generator_whose_colours_are_no_numbers_is_not_shared(diverged, tmp_path, capsys):
    code, error = failed(capsys, diverged, "--out", tmp_path / "shared")
    assert code == 1 and f"{diverged} is broken: it predicts colours that are no numbers" in error
    assert not (tmp_path / "shared").exists()


def test_half_precision_that_makes_no_numbers_is_a_difference(pretrained):
    generator = load_generator(pretrained)
    halved = share.halve(generator)
    next(halved.parameters()).data.fill_(torch.nan)
    mean, largest, _ = share.difference(generator, halved, "mine")
    assert math.isnan(mean) and math.isnan(largest)


def test_nothing_is_written_over_unasked(pretrained, tmp_path, capsys):
    out = tmp_path / "shared"
    out.mkdir()
    (out / "README.md").write_text("a card that someone wrote")
    code, error = failed(capsys, pretrained, "--out", out)
    assert code == 2 and "README.md is there already" in error
    assert [path.read_text() for path in out.iterdir()] == ["a card that someone wrote"]
    main(["share", str(pretrained), "--out", str(out), "--overwrite"])
    before = (out / "model.safetensors").read_bytes()
    assert safetensors.torch.load(before) and load_generator(out)


def test_a_generator_without_a_card_keeps_none_of_the_one_before(pretrained, tmp_path):
    shutil.copytree(pretrained / "generator", tmp_path / "bare", ignore=shutil.ignore_patterns("README.md"))
    for given in (pretrained, tmp_path / "bare"):
        main(["share", str(given), "--out", str(tmp_path / "shared"), "--overwrite"])
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == FILES[1:]
    assert load_generator(tmp_path / "shared").card is None


def test_a_run_is_not_shared_onto_itself(pretrained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for given, out in ((run, run), (run, run / "generator"), (run / "generator", run / "generator")):
        code, error = failed(capsys, given, "--out", out, "--overwrite")
        assert code == 2 and "own folder" in error
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_kill_between_its_files_leaves_one_that_loads_or_says_so(pretrained, tmp_path, monkeypatch):
    """Over one that is there: the description goes with both weights, so that each moment has a pair that fits."""
    out = tmp_path / "shared"
    main(["share", str(pretrained), "--out", str(out)])
    old = load_generator(out).state_dict()
    write, written = checkpoint.write_atomically, []

    def die(path, data):
        if path.name == "model.safetensors":
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", die)
    with pytest.raises(SystemExit):
        main(["share", str(pretrained / "best"), "--out", str(out), "--overwrite"])
    assert written == ["config.json"]
    now = load_generator(out).state_dict()
    assert all(torch.equal(old[name], now[name]) for name in old)


@pytest.mark.parametrize(("given", "says"), [("nowhere", "there is no generator"), ("a.onnx", "a run folder")])
def test_what_cannot_be_shared_is_one_line(tmp_path, capsys, monkeypatch, given, says):
    monkeypatch.chdir(tmp_path)
    code, error = failed(capsys, given, "--out", "shared")
    assert code in (1, 2) and says in error and not (tmp_path / "shared").exists()


def test_a_broken_generator_is_not_shared(pretrained, tmp_path, capsys):
    shutil.copytree(pretrained / "generator", tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "broken")
    code, error = failed(capsys, tmp_path / "broken", "--out", tmp_path / "shared")
    assert code == 1 and "is broken" in error and not (tmp_path / "shared").exists()
