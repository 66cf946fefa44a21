"""What a board writes can be read back."""

import contextlib
import json
import resource
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gan_color import color
from gan_color.board import Board, grey_fake_real


def lab_batch(count: int = 3, size: int = 20):
    torch.manual_seed(0)
    rgb = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    return rgb, *color.rgb_to_lab(rgb)


def test_rows_are_grey_fake_and_real():
    rgb, L, ab = lab_batch()
    grid = grey_fake_real(L, ab.flip(1), ab)
    assert grid.shape == (3, 3 * 22 + 2, 3 * 22 + 2) and grid.dtype == torch.uint8
    cells = [
        [grid[:, 2 + 22 * row : 22 + 22 * row, 2 + 22 * column : 22 + 22 * column] for column in range(3)]
        for row in range(3)
    ]
    for column in range(3):
        grey, fake, real = (cells[row][column] for row in range(3))
        assert torch.equal(real, rgb[column])
        assert torch.equal(fake, color.lab_to_rgb(L, ab.flip(1))[column])
        assert (grey.amax(0) - grey.amin(0)).max() <= 1
    assert (grid[:, :2] == 255).all()


def test_scalars_and_pictures_come_back(tmp_path):
    _, L, ab = lab_batch()
    board = Board(tmp_path)
    for step in range(3):
        board.scalars({"loss/G": 1.5 * step, "lr/G": 0.1}, step)
    board.samples("samples/val", L, ab, ab, 2)
    read = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss/G")] == [(0, 0.0), (1, 1.5), (2, 3.0)]
    png = np.asarray(Image.open(tmp_path / "samples" / "val-00000002.png"))
    assert np.array_equal(png, grey_fake_real(L, ab, ab).permute(1, 2, 0).numpy())
    assert read.Images("samples/val")[0].width == png.shape[1]


def test_a_resumed_board_has_each_step_once(tmp_path):
    board = Board(tmp_path)
    for step in range(8):
        board.scalars({"loss/G": float(step)}, step)
    # A line cut off in the middle, as a killed process leaves it.
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 8, "lo')
    board = Board(tmp_path, resumed_at=4)
    for step in range(5, 10):
        board.scalars({"loss/G": 100.0 + step}, step)
    read = EventAccumulator(str(tmp_path)).Reload().Scalars("loss/G")
    assert [event.step for event in read] == list(range(10))
    assert [event.value for event in read[5:]] == [105.0, 106.0, 107.0, 108.0, 109.0]
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == list(
        range(10)
    )


def test_a_clock_that_was_put_back_changes_nothing(tmp_path, monkeypatch):
    board = Board(tmp_path)
    for step in range(8):
        board.scalars({"loss/G": float(step)}, step)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 1e7)
    board = Board(tmp_path, resumed_at=4)
    for step in range(5, 10):
        board.scalars({"loss/G": 100.0 + step}, step)
    read = EventAccumulator(str(tmp_path)).Reload().Scalars("loss/G")
    assert [event.value for event in read] == [0.0, 1.0, 2.0, 3.0, 4.0, 105.0, 106.0, 107.0, 108.0, 109.0]


def test_options_charts_and_config_are_there_once_after_a_resume(tmp_path):
    for resumed_at, told in ((None, "epochs: 1"), (4, "epochs: 2"), (4, "epochs: 3")):
        board = Board(tmp_path, resumed_at)
        options = {"epochs": 1, "data": "samples", "max_steps": None, "workers": 2}
        board.config(told, options, 0 if resumed_at is None else resumed_at + 1)
        board.scalars({"loss/G": 1.0}, 4 if resumed_at is None else 5)
    read = plugin_event_accumulator.EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    assert sorted(read.Tags()["tensors"]).count("config/text_summary") == 1
    shown = [(event.step, event.tensor_proto.string_val[0].decode()) for event in read.Tensors("config/text_summary")]
    assert shown == [(0, "    epochs: 1\n"), (5, "    epochs: 3\n")]
    told = HParamsPluginData.FromString(read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    options = {
        name: value.number_value or value.string_value for name, value in told.session_start_info.hparams.items()
    }
    assert options == {"epochs": 1, "data": "samples"}
    table = HParamsPluginData.FromString(read.SummaryMetadata("_hparams_/experiment").plugin_data.content).experiment
    assert {"lr", "lambda_l1"} <= {info.name for info in table.hparam_infos}  # of either stage
    assert table.metric_infos[0].name.tag == "val/l1"
    (layout,) = read.Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(layout.tensor_proto.string_val[0]).category
    assert list(category.chart[0].multiline.tag) == ["loss/G$", "loss/D$"] and len(category.chart) == 3


@contextlib.contextmanager
def files_end_at(size: int):
    """As on a full disk, no file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 30, 100])
def test_a_full_disk_leaves_a_gap_and_nothing_broken(tmp_path, capsys, room):
    _, L, ab = lab_batch()
    board = Board(tmp_path)
    board.scalars({"loss/G": 1.0}, 1)
    full = max(path.stat().st_size for path in tmp_path.iterdir()) + room
    with files_end_at(full):
        for step in range(2, 9):
            board.scalars({"loss/G": 2.0, "a/much/longer/tag" * 9: 1.0}, step)
            board.samples("samples/val", L, ab, ab, step)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "File too large: training goes on without curves and grids" in said
    board.scalars({"loss/G": 3.0}, 9)
    board.samples("samples/val", L, ab, ab, 9)
    assert capsys.readouterr().out == "curves and grids are written again\n"
    read = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in read.Scalars("loss/G")] == [1.0, 3.0]
    assert [event.step for event in read.Images("samples/val")] == [9]
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 9]
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["val-00000009.png"]
