"""Measures generators on photographs, beside grey ones: `gan-color evaluate`."""

import hashlib
import io
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gan_color import bootstrap, color, images
from gan_color import evaluation_report as report
from gan_color.checkpoint import load_generator
from gan_color.classifier import Classifier, class_of
from gan_color.commands import EvaluateConfig
from gan_color.contact_sheet import contact_sheet, join
from gan_color.data import lab, scan, sources, split
from gan_color.data.look import Look
from gan_color.data.paths import spread
from gan_color.device import choose_device
from gan_color.errors import DataError, SomeFailed, UsageError, shown
from gan_color.generators.places import WEIGHTS, generator_folder
from gan_color.measure import GREY, HALVED, TRUE, Measured, measure, predicted
from gan_color.network_metrics import NetworkMetrics
from gan_color.version import __version__
from gan_color.writing import require_new, write_atomically

# Photographs shown of each of best, median and worst; where there are fewer than nine, a third of them.
_SHOWN = 3
# How they become squares, in words.
_RESIZED = {
    "crop": "middle square of the short side",
    "squash": "whole photograph, its aspect not kept",
    "pad": "whole photograph, its edges repeated to a square",
}


@dataclass(frozen=True)
class Chosen:
    """The photographs that are measured.

    Attributes:
        looks: one each.
        unreadable: the errors of those that cannot be read.
        described: what was taken and left out, for the protocol.
    """

    looks: list[Look]
    unreadable: list[str]
    described: dict


def run(config: EvaluateConfig) -> None:
    """Measure generators and say how sure each figure is.

    Raises:
        UsageError: options contradict each other, or outputs exist.
        CheckpointError: a generator or the classifier cannot be loaded, or a generator predicts no numbers.
        DataError: there is nothing to measure on.
        SomeFailed: the others were measured.
    """
    require_new(config.out, report.FILES, config.json, config.overwrite)
    device = choose_device(config.device)
    generators = _open(config, device)
    size = config.size or _common_size(generators)
    classifier = Classifier(config.classifier).to(device) if config.classifier else None
    chosen = _choose(config)
    for line in chosen.unreadable:
        print(f"left out, unreadable: {line}")
    systems = [GREY, *[HALVED] * config.halved, *generators]
    networks = NetworkMetrics(systems, len(chosen.looks), device) if config.network_metrics else None

    dataset = lab.LabDataset([look.path for look in chosen.looks], size, resize=config.resize)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 on a GPU as on a CPU, to all its digits
        measured = measure(
            dataset, generators, device, config.batch_size, config.workers, config.halved, classifier, networks
        )
    protocol = chosen.described | _protocol(config, generators, size, device)
    if classifier:
        labelled = sum(class_of(path) is not None for path in dataset.paths)
        protocol["classifier"] = {"network": "squeezenet1_0", "sha256": classifier.sha256, "labelled": labelled}
    if networks:
        protocol["network_metrics"] = networks.weights
    print(report.as_text(protocol, measured), end="")
    if config.out:
        report.write_folder(config.out, protocol, measured, chosen.looks)
        _write_sheet(config.out / report.SHEET, measured, dataset, generators, device)
        print(f"wrote {', '.join(report.FILES)} to {shown(config.out)}")
    if config.json:
        write_atomically(config.json, report.as_json(protocol, measured))
        print(f"wrote {shown(config.json)}")
    if chosen.unreadable:
        count = len(chosen.unreadable)
        raise SomeFailed(f"{count} file(s) could not be read, each named above; the others were measured")


def _open(config: EvaluateConfig, device: torch.device) -> dict[str, nn.Module]:
    """The generators by the names they were given by."""
    if len(set(config.checkpoint)) < len(config.checkpoint):
        raise UsageError("--checkpoint names a generator twice")
    if reserved := {TRUE, GREY, HALVED} & set(config.checkpoint):
        raise UsageError(f"--checkpoint {reserved.pop()} is the name of another row: write ./ before it")
    # An .onnx file runs on the CPU, whatever `auto` is for the others.
    return {
        shown(name): load_generator(name, "auto" if name.endswith(".onnx") and config.device == "auto" else device)
        for name in config.checkpoint
    }


def _common_size(generators: dict[str, nn.Module]) -> int:
    sizes = {generator.trained_size for generator in generators.values()}
    if len(sizes) > 1:
        raise UsageError(
            f"the generators were trained at {', '.join(map(str, sorted(sizes)))} pixels: say with --size at which "
            "side all are measured"
        )
    return sizes.pop()


def _choose(config: EvaluateConfig) -> Chosen:
    """Find the photographs, look at each, leave out what cannot be judged."""
    train, val = sources.find(config.data, config.data_root, config.breed, whole=config.split is not None)
    part = config.part
    if part == "auto":
        part = "val" if val is not None or config.split or config.data in sources.NAMED else "all"
    brought = part == "val" and val is not None and config.split is None
    paths = val if brought else train + (val or [])
    looks = scan.scan(paths)
    usable = [look for look in looks if not look.error and look.chroma >= config.min_chroma]
    unreadable = [look.error for look in looks if look.error]
    if not usable:
        raise DataError(
            f"{shown(config.data)} leaves nothing to measure on: of {len(looks)} files {len(unreadable)} cannot be "
            f"read, the others are near-grey (mean chroma below {config.min_chroma}): lower --min-chroma to keep those"
        )
    near_grey = len(looks) - len(unreadable) - len(usable)
    if part != "all" and not brought:
        sides = split.choose(config.data, looks, None, config.val_share, config.split, config.min_chroma, 1.0)
        held_out = set(sides.val if part == "val" else sides.test)
        usable = [look for look in usable if look.path in held_out]
    usable = spread(usable, config.count)
    described = {
        "data": config.data,
        "part": {
            "all": "all photographs",
            "val": "those that a training on it holds out",
            "test": "those that a training on it leaves for a test",
        }[part],
        "split": config.split,
        "photographs": len(usable),
        "files_sha256": hashlib.sha256("\n".join(look.digest for look in usable).encode()).hexdigest(),
        # What cannot be read is on no side of a split.
        "left_out_of": "the part" if brought else "the whole set",
        "unreadable": len(unreadable),
        "near_grey_left_out": near_grey,
        "min_chroma": config.min_chroma,
    }
    return Chosen(usable, unreadable, described)


def _protocol(config: EvaluateConfig, generators: dict[str, nn.Module], size: int, device: torch.device) -> dict:
    """How the figures were made, the photographs apart."""
    libraries = ("torch", "torchvision", "timm", "numpy", "pillow", *["torchmetrics"] * config.network_metrics)
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    resamples = f"{bootstrap.RESAMPLES} resamples, seed {bootstrap.SEED}"
    return {
        "resize": f"{_RESIZED[config.resize]}, resized to {size}x{size} by torch's antialiased bicubic filter; "
        "each network sees it at the side that it was trained at",
        "size": size,
        "colours_outside_srgb": "chroma lowered at constant L* and hue",
        "intervals": f"95 %, percentile bootstrap over photographs, {resamples}",
        "precision": "float32",
        "device": f"{device}{gpu}, {platform.machine()}",
        "batch_size": config.batch_size,
        "generators": {name: _identity(given, generators[name]) for name, given in _named(config).items()},
        "gan_color": __version__,
        "python": platform.python_version(),
        "libraries": {library: version(library) for library in libraries},
    }


def _named(config: EvaluateConfig) -> dict[str, str]:
    return {shown(given): given for given in config.checkpoint}


def _identity(given: str, generator: nn.Module) -> dict:
    """What tells a generator from any other: its file's SHA-256, and how it was trained."""
    path = Path(os.path.expanduser(given)) if given.endswith(".onnx") else generator_folder(given) / WEIGHTS
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **generator.description["training"]}


@torch.inference_mode()
def _write_sheet(
    path: Path, measured: Measured, dataset: lab.LabDataset, generators: dict[str, nn.Module], device: torch.device
) -> None:
    """Draw the best, median and worst photographs of each generator by CIEDE2000."""
    each = min(_SHOWN, max(1, len(dataset) // 3))
    middle = (len(dataset) - each) // 2
    pages = []
    for name, generator in generators.items():
        errors = measured.values[name]["delta_e"]
        order = np.argsort(errors, kind="stable")
        groups = {"best": order[:each], "median": order[middle : middle + each], "worst": order[-each:]}
        rows = []
        for group, items in groups.items():
            for i in items:
                L, ab = (part.unsqueeze(0).to(device) for part in dataset[int(i)])
                trio = (torch.zeros_like(ab), predicted(generator, L), ab)
                pictures = [images.to_image(color.lab_to_rgb(L, shown_ab)) for shown_ab in trio]
                rows.append((f"{group}: CIEDE2000 {errors[i]:.1f}, {dataset.paths[i].name}", pictures))
        pages.append(contact_sheet(name, rows, ("grey", "fake", "real"), side=160))
    buffer = io.BytesIO()
    join(pages).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
