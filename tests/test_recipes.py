"""Every recipe is whole, is what --print-config prints, and trains."""

import json
from pathlib import Path

import pytest
from conftest import PROJECT

from gan_color import generators, load_generator
from gan_color.__main__ import VERBS, main
from gan_color.options import from_yaml, to_yaml

RECIPES = sorted((PROJECT / "recipes").glob("*/*.yaml"))
NAMES = sorted({path.parent.name for path in RECIPES})


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_a_recipe_is_what_print_config_prints_of_it(path):
    text = path.read_text()
    comments = text[: text.index("\ndata: ") + 1]
    command = f"# python train_{path.stem}.py --config {path.relative_to(PROJECT)}"
    assert all(line.startswith("# ") for line in comments.splitlines()) and command in comments.splitlines()
    printed = to_yaml(from_yaml(VERBS[path.stem][0], path))
    assert text == comments + printed, f"write it anew: its comments, then what {command[2:]} --print-config prints"


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_the_stages_of_a_recipe_fit_together(path):
    config = from_yaml(VERBS[path.stem][0], path)
    assert config.out == Path("checkpoints", path.parent.name, path.stem)
    first = path.with_name("pretrain.yaml")
    if path.stem == "gan" and not config.from_scratch:
        before = from_yaml(VERBS["pretrain"][0], first)
        assert config.generator == before.out
        same = ("data", "split", "breed", "min_chroma", "resize", "size", "architecture", "backbone", "target")
        assert [getattr(config, name) for name in same] == [getattr(before, name) for name in same]
    else:
        assert path.stem == "pretrain" or not first.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains(name, tmp_path):
    overridden = [
        *("--data", "samples", "--split", "None", "--breed", "None", "--crops", "2", "--size", "32", "--device", "cpu"),
        *("--weights", "none", "--batch-size", "4", "--max-steps", "2", "--workers", "0", "--sample-count", "2"),
        *("--log-every", "1"),
    ]
    run = None
    for stage in ("pretrain", "gan"):
        recipe = PROJECT / "recipes" / name / f"{stage}.yaml"
        if recipe.exists():
            started = ["--generator", str(run)] if run else []
            if "backbone" in generators.options_of(from_yaml(VERBS[stage][0], recipe).architecture):
                started += ["--backbone", "test_resnet"]
            run = tmp_path / stage
            main([stage, "--config", str(recipe), "--out", str(run), *overridden, *started])
    measured = [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "val/l1" in line]
    assert measured[-1]["step"] == 2 and 0 < measured[-1]["val/l1"] < 1
    asked = from_yaml(VERBS[run.name][0], PROJECT / "recipes" / name / f"{run.name}.yaml")
    assert load_generator(run).description["architecture"] == asked.architecture
