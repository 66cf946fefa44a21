"""Writes the model card of a run's generator: what it was made of, what was measured, what to beware of."""

import json
from pathlib import Path

import yaml

from gan_color.generators.hub import read_generator_config
from gan_color.writing import write_atomically

# Options that say where a run lay, how fast it went or how often it was looked at, and not what came of it.
_NOT_THE_RECIPE = {
    *(
        "data_root",
        "workers",
        "cache",
        "device",
        "log_every",
        "sample_every",
        "sample_count",
        "save_every",
        "snapshot_every",
    ),
    *("generator", "out"),
}
# Tag in metrics.jsonl: what it is called, decimals, and the tag it is to be compared with.
_FIGURES = {
    "val/l1": ("L1 of ab, which lie in -1..1 (lower is better)", 4, "val/l1_grey", "a grey picture"),
    "val/psnr": ("PSNR of RGB, dB (higher is better)", 2, None, None),
    "val/ssim": ("SSIM of RGB (higher is better)", 4, None, None),
    "val/delta_e": ("CIEDE2000 (lower is better)", 2, None, None),
    "val/colorfulness": ("colourfulness", 1, "val/colorfulness_real", "the true photographs"),
}

_CARD = """\
---
library_name: gan_color
pipeline_tag: image-to-image
tags:
- colorization
# license: to be chosen by whoever shares this
---

# A generator that colours grey photographs

Architecture `{architecture}`{options}, saved after step {step} of stage `{stage}`.

## Use

```python
from gan_color import colorize, load_generator

generator = load_generator(".")  # this folder, or user/name once it lies on the Hub
colorize(generator, "photo.jpg").save("coloured.png")
```

## Data

`{data}`, crops of {size} x {size} pixels; a part was held out to measure on.

## Recipe

Every option that bears on the result, as `--config` reads them, of paths the last name{start}:

```yaml
{recipe}```

## Figures

{figures}

## Limits

- Colour that lightness does not tell (clothes, cars, painted walls) is guessed. What comes out is plausible at best;
  it is never evidence of what the colours were.
- It is at home with photographs like those it was trained on. Elsewhere expect dull browns, colour that runs over
  edges and patches of a wrong hue.
- Lightness is the photograph's own: scratches, stains and blur stay.

## Licence

Not chosen yet: whoever shares this generator chooses it, with the terms of the photographs it was trained on, and of
the weights its encoder started from, in mind. Write it into `license:` above.
"""
_MEASURED = """\
Means over {counted} after step {step}, measured while training:

| measure | this generator | to compare |
| --- | --- | --- |
{rows}

Not measured: anything on other photographs than those of this data set."""
_NOT_MEASURED = "The run's folder holds none that were measured up to this step."


def write(run: Path, name: str = "generator") -> None:
    """Write the `README.md` of one of a run's generators, with what was last measured up to its step.

    Args:
        run: run folder with `config.yaml` and the generator's `config.json`; the figures come from `metrics.jsonl`.
        name: the generator's folder in it.

    Raises:
        GanColorError: it cannot be written.
    """
    described = read_generator_config(run / name)
    options = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    measured = _last_measured(run / "metrics.jsonl", described["training"]["step"])
    write_atomically(run / name / "README.md", compose(described, options, measured).encode())


def _last_measured(path: Path, step: int) -> dict[str, float] | None:
    """The last line with a validation up to a step; None where there is none, as where the file was left behind."""
    if not path.is_file():
        return None
    *whole, _ = path.read_text(encoding="utf-8").split("\n")  # what follows the last end of a line was cut off
    lines = map(json.loads, whole)
    measured = [line for line in lines if "val/l1" in line and line["step"] <= step]
    return measured[-1] if measured else None


def compose(described: dict, options: dict, measured: dict[str, float] | None) -> str:
    """Compose a model card.

    Args:
        described: what the generator's `config.json` says.
        options: of the run, as in `config.yaml`; of folders and files only the last name is shown.
        measured: a line of `metrics.jsonl` with `val/` in it; None = there are no figures.

    Returns:
        Markdown with YAML front matter, as the Hugging Face Hub reads it.
    """
    training = described["training"]
    recipe = {name: value for name, value in options.items() if name not in _NOT_THE_RECIPE}
    for name in ("data", "weights", "perceptual_weights"):
        if recipe.get(name):
            recipe[name] = Path(recipe[name]).resolve().name
    starts = options.get("generator") and not options.get("from_scratch")
    return _CARD.format(
        architecture=described["architecture"],
        options="".join(f", {name} {value}" for name, value in described["options"].items()),
        step=training["step"],
        stage=training["stage"],
        data=recipe["data"],
        size=training["size"],
        start=f", from the generator `{Path(options['generator']).resolve().name}`" if starts else "",
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        figures=_figures(measured, options["val_count"]) if measured else _NOT_MEASURED,
    )


def _figures(measured: dict[str, float], val_count: int | None) -> str:
    rows = [
        f"| {title} | {measured[tag]:.{decimals}f} | " + (f"{whose} {measured[other]:.{decimals}f} |" if other else "|")
        for tag, (title, decimals, other, whose) in _FIGURES.items()
    ]
    at_most = f"at most {val_count} " if val_count else ""
    return _MEASURED.format(counted=f"{at_most}held-out photographs", step=measured["step"], rows="\n".join(rows))
