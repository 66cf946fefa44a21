"""Which generator is the best, and which curves are sick: on drawn curves, on real ones and through whole runs."""

import json
import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_color import checkpoint, judge, load_generator
from gan_color.data import lab
from gan_color.errors import UsageError
from gan_color.judge import Best, Health
from gan_color.validate import validate

CURVES = Path(__file__).parent / "curves"


def names(health: Health, lines: list[dict]) -> list[str]:
    """What is told, in short, of lines as `metrics.jsonl` holds them."""
    told = [sign for line in lines for sign in health.signs(line, line["step"])]
    return [sign.split(":")[0].split()[-1] for sign in told]


def accuracies(*values: float, every: int = 10) -> list[dict]:
    """A discriminator that judges so many real and generated patches rightly at each reading."""
    return [
        {"step": every * i, "D/accuracy_real": value, "D/accuracy_fake": value, "loss/G_GAN": 1.0}
        for i, value in enumerate(values, start=1)
    ]


def validations(colorfulness: list[float], l1: list[float]) -> list[dict]:
    """As shares of the true colourfulness and of grey's L1."""
    return [
        {
            "step": 100 * i,
            "val/l1": 0.1 * distance,
            "val/l1_grey": 0.1,
            "val/colorfulness": 50 * share,
            "val/colorfulness_real": 50,
        }
        for i, (share, distance) in enumerate(zip(colorfulness, l1, strict=True))
    ]


def colours(*shares: float) -> list[dict]:
    return validations(list(shares), [0.9] * len(shares))


def distances(*shares: float) -> list[dict]:
    return validations([0.6] * len(shares), list(shares))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (accuracies(*[1.0] * 30), ["won"]),
        (accuracies(*[1.0] * 5, *[0.85] * 25), []),
        (accuracies(*[1.0] * 20, *[0.7] * 20, *[1.0] * 20), ["won", "won"]),
        (accuracies(*[0.5] * 30), ["lost"]),
        (accuracies(*[0.5] * 5, *[0.8] * 25), []),
        (accuracies(*[0.0] * 20, *[0.8] * 20, *[0.4] * 20), ["lost", "lost"]),
        (accuracies(*[0.8] * 200), []),
        (colours(0.1, 0.4, 0.4, 0.15, 0.1, 0.05), ["grey"]),
        (colours(0.4, 0.1, 0.4, 0.1), ["grey", "grey"]),
        (colours(0.02, 0.05, 0.15, 0.4), []),
        (colours(0.46, 0.39, 0.35, 0.3), ["grey"]),
        (colours(0.9, 0.7, 0.55), []),
        (colours(0.3, 0.5, 0.4, 0.3), []),
        (distances(0.8, 1.1, 1.2, 1.1), ["wrong"]),
        (distances(0.8, 1.1, 0.95, 1.1, 0.85, 1.1), ["wrong", "wrong"]),
        (distances(1.1, 1.2, 1.2), []),
        (distances(0.6, 0.9, 0.95), []),
    ],
)
def test_each_sign_is_told_once_until_it_is_over(lines, told):
    assert names(Health(), lines) == told


@pytest.mark.parametrize("every", [1, 10, 50])
def test_how_often_a_run_is_logged_does_not_matter(every):
    def told_at(every: int) -> int:
        health = Health()
        lines = accuracies(*[1.0] * (500 // every), every=every)
        return next(line["step"] for line in lines if health.signs(line, line["step"]))

    assert 0 <= told_at(every) - told_at(1) < every


def test_a_discriminator_that_warms_up_has_not_won():
    lines = accuracies(*[1.0] * 30)
    for line in lines:
        del line["loss/G_GAN"]
    assert names(Health(), lines) == []


def test_one_side_alone_is_no_victory():
    lines = [line | {"D/accuracy_fake": 0.9} for line in accuracies(*[1.0] * 50)]
    assert names(Health(), lines) == []


# What benchmarks/gan_health.py logged, see docs/is-my-gan-training.md.
@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("good", []),
        ("discriminator-wins", ["won"]),
        ("lambda-too-small", ["wrong"]),
        ("lambda-too-large", ["won"]),
        ("rate-too-high", ["grey"]),
        ("no-stage-one", []),
    ],
)
def test_signs_of_real_runs(run, told):
    lines = [json.loads(line) for line in (CURVES / f"{run}.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 405
    assert names(Health(), lines) == told


def test_a_sign_comes_with_its_numbers():
    health = Health()
    said = [sign for line in colours(0.4, 0.1) for sign in health.signs(line, line["step"])]
    assert said[0].startswith("the colours go grey: val/colorfulness is 5.0, real 50.0, and was 20.0 before")
    said = [sign for line in accuracies(*[1.0] * 30) for sign in health.signs(line, line["step"])]
    assert "96% of the real and 96% of the generated patches" in said[0] and "loss/G_GAN is 1.00" in said[0]


def test_what_is_remembered_outlives_a_resume():
    lines = [*accuracies(*[1.0] * 30, *[0.7] * 30, *[1.0] * 30), *colours(0.4, 0.1, 0.05)]
    whole = names(Health(), lines)
    for cut in range(len(lines)):
        before, after = Health(), Health()
        told = names(before, lines[:cut])
        after.load_state_dict(before.state_dict())
        assert told + names(after, lines[cut:]) == whole


@pytest.mark.parametrize(
    ("by", "values", "best"),
    [
        ("val/l1", [0.3, 0.2, 0.25, 0.1], [True, True, False, True]),
        ("val/psnr", [20.0, 22.0, 21.0, 23.0], [True, True, False, True]),
        ("val/l1_and_gap", [1.5, math.nan, 1.5, 1.4], [True, False, False, True]),
    ],
)
def test_the_best_is_the_best_so_far(by, values, best):
    judged = Best(by)
    found = []
    for step, value in enumerate(values):
        after = Best(by)
        after.load_state_dict(judged.state_dict())
        judged = after
        found.append(judged.improves({by: value}))
        if found[-1]:
            judged.take({by: value}, step)
    assert found == best and judged.step == 3


class Fixed(torch.nn.Module):
    """Makes the true colours times a factor."""

    def __init__(self, ab: torch.Tensor, factor: float):
        super().__init__()
        self.ab = ab * factor

    def forward(self, L: torch.Tensor) -> torch.Tensor:
        return self.ab


def test_the_default_of_stage_two_does_not_take_grey_for_good(photo_folder):
    dataset = lab.LabDataset(sorted(photo_folder.iterdir()), 48)
    ab = torch.stack([ab for _, ab in dataset])

    def measured(factor: float) -> dict[str, float]:
        batches = lab.loader(dataset, [range(len(dataset))], workers=0)
        return validate(Fixed(ab, factor), batches, torch.device("cpu"), len(dataset))

    grey, pale, true, garish = (measured(factor) for factor in (0.0, 0.5, 1.0, 1.5))
    assert grey["val/l1_and_gap"] == pytest.approx(2, abs=0.02) and true["val/l1_and_gap"] < 0.02
    assert grey["val/colorfulness_gap"] == pytest.approx(1, abs=0.02)
    assert pale["val/l1_and_gap"] == pytest.approx(1, abs=0.1)
    assert garish["val/l1_and_gap"] > 0.5


def events(run) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def lines_of(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_keeps_its_best_generator_and_its_snapshots(train, pretrained, tmp_path):
    run = train("gan", tmp_path / "run", "--generator", str(pretrained), "--epochs", "3", "--snapshot-every", "4")
    measured = [line for line in lines_of(run) if "val/l1" in line]
    best = min(measured, key=lambda line: line["val/l1_and_gap"])
    assert json.loads((run / "best" / "config.json").read_text())["training"]["step"] == best["step"]
    assert checkpoint.load_state(run)["best"] == {"value": best["val/l1_and_gap"], "step": best["step"]}
    assert f"after step {best['step']}, measured" in (run / "best" / "README.md").read_text()
    last = measured[-1]["step"]
    assert [path.name for path in sorted((run / "snapshots").iterdir())] == [
        f"step-{step:08d}" for step in range(4, last + 1, 4)
    ]
    assert load_generator(run).description["training"]["step"] == last
    assert load_generator(run / "snapshots" / "step-00000004").description["training"]["step"] == 4


def test_the_figure_that_decides_can_be_chosen(train, pretrained, tmp_path):
    run = tmp_path / "run"
    train("gan", run, "--generator", str(pretrained), "--max-steps", "4", "--best-by", "val/psnr")
    psnr = {line["step"]: line["val/psnr"] for line in lines_of(run) if "val/psnr" in line}
    assert checkpoint.load_state(run)["best"]["step"] == max(psnr, key=psnr.get)


def test_signs_are_said_once_and_written_down(train, pretrained, tmp_path, monkeypatch, capsys):
    """Also over a resume between the sign and the end. What counts as lost is made a thing that these runs are."""
    monkeypatch.setattr(judge, "_LOST", 2.0)
    monkeypatch.setattr(judge, "_LOST_NO_MORE", 3.0)
    run = tmp_path / "run"
    train("gan", run, "--generator", str(pretrained), "--epochs", "1")
    train("gan", run, "--generator", str(pretrained), "--epochs", "2", "--resume")
    assert capsys.readouterr().out.count("warning at step 1: the discriminator has lost: over about 50 steps") == 1
    assert [line["step"] for line in lines_of(run) if "warning" in line] == [1]
    written = events(run).Tensors("warnings/text_summary")
    assert [(event.step, b"has lost" in event.tensor_proto.string_val[0]) for event in written] == [(1, True)]


@pytest.mark.parametrize("value", ["0", "-5"])
def test_snapshots_need_an_interval(train, tmp_path, capsys, value):
    with pytest.raises(SystemExit) as end:
        train("pretrain", tmp_path / "run", "--snapshot-every", value)
    assert end.value.code == UsageError.exit_code
    assert f"--snapshot-every is {value}: it must be 1 or more, or None" in capsys.readouterr().err
