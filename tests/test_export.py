"""What is exported to ONNX gives PyTorch's colours at any size, or is not left behind."""

import contextlib
import io
import json
import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import draw_photo
from PIL import Image

from gan_color import __version__, checkpoint, colorize, export, load_generator
from gan_color.__main__ import main
from gan_color.errors import CheckpointError, GanColorError
from gan_color.onnx_generator import OnnxGenerator


@pytest.fixture(scope="module")
def export_and_words(pretrained, tmp_path_factory):
    """An exported file, in a folder that was not there, and what was said: made once, it takes seconds."""
    path = tmp_path_factory.mktemp("onnx") / "new" / "generator.onnx"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        main(["export", "--checkpoint", str(pretrained), "--output", str(path)])
    return path, said.getvalue()


@pytest.fixture(scope="module")
def exported(export_and_words):
    return export_and_words[0]


def failed(capsys, *argv) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in argv])
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return end.value.code, error


# The smallest, both sides odd, one side a multiple of 32, several at once, and below what was traced.
@pytest.mark.parametrize(
    "shape", [(1, 1, 32, 32), (1, 1, 33, 47), (4, 1, 97, 131), (2, 1, 64, 201), (7, 1, 40, 32), (1, 1, 250, 333)]
)
def test_onnx_gives_the_colours_of_pytorch(pretrained, exported, shape):
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    L = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1
    with torch.no_grad():
        expected = load_generator(pretrained)(L).numpy()
    (ab,) = session.run(None, {"L": L.numpy()})
    assert ab.shape == expected.shape and expected.std() > 1e-3
    assert np.abs(ab - expected).max() < 1e-5


def test_the_file_says_what_it_is(pretrained, exported):
    model = onnx.load(exported)
    described = json.loads({entry.key: entry.value for entry in model.metadata_props}["gan_color"])
    assert described == json.loads((pretrained / "generator" / "config.json").read_text()) | {"version": __version__}
    sizes = [[d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] for port in model.graph.input]
    assert sizes == [["batch", 1, "height", "width"]]
    assert [port.name for port in model.graph.output] == ["ab"]


def test_the_file_does_not_tell_where_it_was_made(exported):
    data = exported.read_bytes()
    assert b"site-packages" not in data and b".py" not in data


def test_it_is_said_how_far_the_file_is_from_pytorch(export_and_words):
    path, said = export_and_words
    assert said.count("\n") == 1
    difference = float(re.search(r"largest difference from PyTorch over 6 shapes (\S+) in ab", said)[1])
    assert 0 < difference < 1e-5
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_other_colours_is_not_left_behind(pretrained, exported, tmp_path, monkeypatch, capsys):
    model = onnx.load(exported)
    bias = next(each for each in model.graph.initializer if each.name == "head.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(2e-4), "head.bias"))
    monkeypatch.setattr(export, "to_onnx", lambda generator: model.SerializeToString())
    code, error = failed(capsys, "export", "--checkpoint", pretrained, "--output", tmp_path / "g.onnx")
    assert code == 1 and "g.onnx was not written" in error and "up to 2.0e-04 (1e-04 is allowed)" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("difference", [float("nan"), float("inf"), 1.01e-4])
def test_a_refused_export_keeps_the_file_that_was_there(pretrained, tmp_path, monkeypatch, capsys, difference):
    (tmp_path / "g.onnx").write_bytes(b"before")
    monkeypatch.setattr(export, "to_onnx", lambda generator: b"after")
    monkeypatch.setattr(export, "largest_difference", lambda *_: difference)
    argv = ["export", "--checkpoint", pretrained, "--output", tmp_path / "g.onnx", "--overwrite"]
    assert failed(capsys, *argv)[0] == 1
    assert (tmp_path / "g.onnx").read_bytes() == b"before"
    # Within the bound the same command replaces it.
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.99e-4)
    main([str(word) for word in argv])
    assert (tmp_path / "g.onnx").read_bytes() == b"after"


def test_a_network_that_torch_cannot_export_is_one_line():
    class Undecided(torch.nn.Module):
        def forward(self, L):
            return torch.cat((L, L), dim=1) if L.sum() > 0 else torch.zeros_like(L)

    with pytest.raises(GanColorError, match="cannot export this generator") as caught:
        export.to_onnx(Undecided())
    assert "\n" not in str(caught.value)


def test_a_result_that_is_no_number_is_no_small_difference(exported):
    class Broken(torch.nn.Module):
        def forward(self, L):
            return torch.full((L.shape[0], 2, *L.shape[2:]), float("nan"))

    assert not export.largest_difference(Broken(), exported.read_bytes(), [(1, 32, 32), (1, 40, 40)]) <= export.BOUND


@pytest.mark.parametrize(
    ("output", "says"), [("there.onnx", "exists: write elsewhere"), ("g.pt", "a file that ends in .onnx")]
)
def test_wrong_outputs_are_refused(pretrained, tmp_path, capsys, output, says):
    (tmp_path / "there.onnx").write_bytes(b"before")
    code, error = failed(capsys, "export", "--checkpoint", pretrained, "--output", tmp_path / output)
    assert code == 2 and says in error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"there.onnx": b"before"}


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_extra_is_said_with_the_cure(pretrained, tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("exported without what it needs"))
    if package == "onnxruntime":
        monkeypatch.setattr(export, "to_onnx", lambda generator: b"")
    code, error = failed(capsys, "export", "--checkpoint", pretrained, "--output", tmp_path / "g.onnx")
    assert code == 1 and f"{package} is not installed: pip install 'gan-color[export]'" in error
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file_colours_as_the_generator_it_is_of(pretrained, exported, tmp_path):
    draw_photo(3, 150, 97).save(tmp_path / "photo.png")
    pictures = []
    for name, source in (("onnx", exported), ("torch", pretrained)):
        out = tmp_path / f"{name}.png"
        main(["colorize", str(tmp_path / "photo.png"), "--checkpoint", str(source), "--output", str(out)])
        pictures.append(np.asarray(Image.open(out)).astype(int))
    assert pictures[0].shape == (97, 150, 3) and np.ptp(pictures[0], axis=2).max() > 0
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_an_onnx_file_is_a_generator_in_python(pretrained, exported):
    generator = load_generator(exported, "auto")
    assert isinstance(generator, OnnxGenerator)
    assert generator.trained_size == load_generator(pretrained).trained_size == 32
    L = torch.rand(2, 1, 50, 37) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(generator(L), load_generator(pretrained)(L), rtol=0, atol=1e-5)
    assert colorize(generator, draw_photo(1, 31, 90)).size == (31, 90)


def break_missing(path):
    path.unlink()


def break_cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def break_garbage(path):
    path.write_bytes(b"no graph at all" * 9)


def break_empty(path):
    path.write_bytes(b"")


def break_of_others(path):
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


def break_newer(path):
    model = onnx.load(path)
    described = json.loads(model.metadata_props[0].value) | {"format": checkpoint.FORMAT + 1}
    onnx.helper.set_model_props(model, {"gan_color": json.dumps(described)})
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (break_missing, "cannot be read"),
        (break_cut, "is broken"),
        (break_garbage, "is broken"),
        (break_empty, "is broken"),
        (break_of_others, "is not of gan_color"),
        (break_newer, "of another gan_color"),
    ],
)
def test_whatever_is_wrong_with_a_file_is_one_line(exported, tmp_path, harm, says):
    path = tmp_path / "g.onnx"
    path.write_bytes(exported.read_bytes())
    harm(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_generator(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_onnx_file_is_not_moved_to_another_device(exported, tmp_path, capsys):
    draw_photo(3).save(tmp_path / "photo.png")
    argv = ["colorize", tmp_path / "photo.png", "--checkpoint", exported, "--output", tmp_path / "out.png"]
    code, error = failed(capsys, *argv, "--device", "cuda")
    assert code == 2 and "--device cuda" in error and not (tmp_path / "out.png").exists()


def test_info_says_what_an_onnx_file_is(exported, capsys):
    main(["info", str(exported)])
    said = capsys.readouterr().out
    assert f"generator     {exported}\narchitecture  resnet_unet (backbone test_resnet, widths [128, " in said
    assert f"exported by   gan_color {__version__}\n" in said and "size          32\n" in said


def test_an_export_is_not_exported_again(exported, tmp_path, capsys):
    code, error = failed(capsys, "export", "--checkpoint", exported, "--output", tmp_path / "again.onnx")
    assert code == 2 and "a run folder, not an export" in error
