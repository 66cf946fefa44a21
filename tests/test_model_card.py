"""A run's model card says what the run's own files say."""

import json
import re
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard

from gan_color import load_generator, model_card

DESCRIBED = {
    "architecture": "resnet_unet",
    "options": {"backbone": "resnet34"},
    "training": {"stage": "gan", "step": 70, "size": 96, "data": "/home/someone/pictures"},
}
MEASURED = {
    "step": 64,
    "val/l1": 0.08125,
    "val/l1_grey": 0.09876,
    "val/psnr": 23.456,
    "val/ssim": 0.91234,
    "val/delta_e": 11.117,
    "val/colorfulness": 14.04,
    "val/colorfulness_real": 42.35,
}


def options(**changed) -> dict:
    from gan_color.config import GanConfig
    from gan_color.options import to_dict

    return to_dict(GanConfig()) | {"data": "/home/someone/pictures", "out": "/home/someone/runs/gan"} | changed


def figures(card: str) -> list[tuple[str, ...]]:
    """Numbers of the table, row by row."""
    rows = [line for line in card.split("## Figures")[1].splitlines() if line.startswith("| ")][2:]
    return [tuple(re.findall(r"(?<![\w.])\d+\.\d+", row)) for row in rows]


def test_figures_are_those_of_the_last_validation(pretrained):
    lines = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "val/l1" in line]
    last = measured[-1]
    assert len(measured) > 1 and last["step"] == lines[-1]["step"] and measured[0]["val/l1"] != last["val/l1"]
    card = (pretrained / "generator" / "README.md").read_text()
    assert figures(card) == [
        (f"{last['val/l1']:.4f}", f"{last['val/l1_grey']:.4f}"),
        (f"{last['val/psnr']:.2f}",),
        (f"{last['val/ssim']:.4f}",),
        (f"{last['val/delta_e']:.2f}",),
        (f"{last['val/colorfulness']:.1f}", f"{last['val/colorfulness_real']:.1f}"),
    ]
    assert f"after step {last['step']}, measured" in card


def test_a_run_that_went_on_elsewhere_without_its_figures_has_a_card_without(pretrained, train, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    (run / "metrics.jsonl").unlink()
    train("pretrain", run, "--epochs", "2", "--resume")
    card = (run / "generator" / "README.md").read_text()
    assert figures(card) == [] and "holds none that were measured" in card


def test_figures_are_of_no_later_step(pretrained, train, tmp_path):
    """Of a run that goes on from an older state, the newest being broken."""
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    train("pretrain", run, "--epochs", "3", "--resume", "--save-every", "5")
    (run / "state" / "step-00000006.pt").write_bytes(b"")
    train("pretrain", run, "--epochs", "3", "--max-steps", "5", "--resume")
    card = (run / "generator" / "README.md").read_text()
    assert "saved after step 5" in card and "after step 4, measured" in card


def test_figures_stand_in_their_rows():
    card = model_card.compose(DESCRIBED, options(), MEASURED)
    assert figures(card) == [("0.0813", "0.0988"), ("23.46",), ("0.9123",), ("11.12",), ("14.0", "42.4")]
    assert "after step 64, measured" in card and "saved after step 70 of stage `gan`" in card


def test_the_recipe_is_the_runs_options(pretrained):
    card = (pretrained / "generator" / "README.md").read_text()
    recipe = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.S)[1])
    run = yaml.safe_load((pretrained / "config.yaml").read_text())
    assert {"size", "backbone", "lr", "loss", "seed", "epochs"} <= recipe.keys()
    assert {name: run[name] for name in recipe if name != "data"} == {n: v for n, v in recipe.items() if n != "data"}


def test_no_folder_of_the_user_is_told():
    files = {"weights": "/home/someone/resnet34.pth", "perceptual_weights": "/home/someone/squeezenet.pth"}
    card = model_card.compose(DESCRIBED, options(**files, generator="/home/someone/runs/pretrain"), MEASURED)
    assert "someone" not in card and "perceptual_weights: squeezenet.pth" in card
    assert "`pictures`" in card and "weights: resnet34.pth" in card


@pytest.mark.parametrize(("from_scratch", "said"), [(False, True), (True, False)])
def test_it_is_said_what_stage_two_started_from(from_scratch, said):
    card = model_card.compose(DESCRIBED, options(from_scratch=from_scratch, generator="general"), MEASURED)
    assert ("from the generator `general`" in card) is said


def test_the_hub_can_read_it_and_the_licence_is_left_open(pretrained):
    card = ModelCard.load(pretrained / "generator" / "README.md")
    assert card.data.library_name == "gan_color" and card.data.license is None
    assert "## Limits" in card.text and "load_generator" in card.text


def test_the_card_travels_with_the_generator(pretrained, tmp_path):
    load_generator(pretrained).save_pretrained(tmp_path)
    copy = ModelCard.load(tmp_path / "README.md")
    assert copy.text == ModelCard.load(pretrained / "generator" / "README.md").text
    assert copy.data.library_name == "gan_color"
