"""What the commands that do not train are told: one dataclass each. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from gan_color.config import require, require_split


@dataclass(frozen=True, kw_only=True)
class ColorizeConfig:
    """Colour photographs at their own size; the lightness stays theirs."""

    # Photographs, folders of them, patterns in quotes ('scans/**/*.tif'), - for a list of paths on standard input
    # (one a line, or ended by NUL), or samples for the embedded ones.
    inputs: tyro.conf.Positional[tuple[str, ...]]
    # Generator: a run folder, a generator folder, an .onnx file, general or flowers (they come with gan_color), or
    # the id of a repository on the Hugging Face Hub.
    checkpoint: str = "general"
    # File (for one photograph) or folder to write to, which keeps the inputs' folders; .png, .jpg, .webp, .tif, .bmp.
    output: Path
    # Short side the network sees, pixels; None = the size it was trained at.
    size: int | None = None
    # Factor on chroma: 1 = as predicted, 0 = grey.
    saturation: float = 1.0
    # Also write grey | coloured (| original) beside each output, as NAME.compare.png.
    compare: bool = False
    # Also draw the histograms of red, green and blue beside each output, as NAME.histogram.png.
    histogram: bool = False
    # Leave out where the photograph was taken; the rest of its EXIF is kept.
    drop_gps: bool = False
    # Write what became of each photograph to this file, NAME.json.
    report: Path | None = None
    # Leave photographs that are in colour already (mean chroma from 4 on) as they are.
    skip_colored: bool = False
    # Write over outputs that exist; otherwise they are skipped.
    overwrite: bool = False
    # Photographs that pass the network together where they have one size to it; None = 1 on a CPU, 8 on a GPU.
    batch_size: int | None = None
    # cpu, cuda, cuda:N, mps, or auto.
    device: str = "auto"

    def __post_init__(self):
        require(self.batch_size is None or self.batch_size >= 1, "batch_size", self.batch_size, "1 or more, or None")
        require(self.size is None or 32 <= self.size <= 4096, "size", self.size, "between 32 and 4096 pixels")
        require(0 <= self.saturation <= 4, "saturation", self.saturation, "between 0 and 4")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measure generators on photographs, beside grey ones; says how sure each figure is."""

    # Photographs to measure on: what --data of a training takes.
    data: tyro.conf.Positional[str]
    # Generator: a run folder, a generator folder, an .onnx file, general or flowers (they come with gan_color), or
    # the id of a repository on the Hugging Face Hub. May be given several times.
    checkpoint: tyro.conf.UseAppendAction[tuple[str, ...]]
    # Which of DATA: val = those that a training on it holds out, test = those that its --split leaves for a test, all,
    # or auto = all of a folder without train and val in it and of a list file, else val.
    part: Literal["auto", "val", "test", "all"] = "auto"
    # Share of the photographs held out where the data set brings no split of its own, as in training.
    val_share: float = 0.1
    # The --split of the training, such as 134/36/30; None = it had none.
    split: str | None = None
    # Where named data sets lie or are downloaded to.
    data_root: Path = Path("datasets")
    # One breed of oxford_pets; None = all 37.
    breed: str | None = None
    # Photographs whose mean chroma is below this, in Lab units, are near-grey and left out; 0 keeps all.
    min_chroma: float = 4.0
    # Photographs measured, evenly spread; None = all.
    count: int | None = None
    # Side of the square that is measured, pixels; each network sees it at the side it was trained at, as in colorize.
    # None = the size the generators were trained at.
    size: int | None = None
    # How a photograph becomes a square, as in training: crop takes the middle, squash or pad take all of it.
    resize: Literal["crop", "squash", "pad"] = "crop"
    # Also measure the true colours at half their chroma.
    halved: bool = False
    # Weights of torchvision's SqueezeNet 1.0: measure what it recognises, and the distance of its features.
    classifier: Path | None = None
    # Also measure FID, KID and LPIPS through torchmetrics; downloads their networks once.
    network_metrics: bool = False
    # Folder for evaluation.json, evaluation.md, per_image.csv and contact_sheet.png; None = they are not written.
    out: Path | None = None
    # Write the figures and how they were measured to this file, NAME.json.
    json: Path | None = None
    # Write over files of an earlier evaluation.
    overwrite: bool = False
    # Photographs that are coloured at a time; changes speed and memory only.
    batch_size: int = 8
    # Processes that load photographs.
    workers: int = 1
    # cpu, cuda, cuda:N, mps, or auto.
    device: str = "auto"

    def __post_init__(self):
        require(len(self.checkpoint) > 0, "checkpoint", "missing", "given once or more")
        require(0 < self.val_share < 1, "val_share", self.val_share, "between 0 and 1, both excluded")
        require_split(self.split)
        given = self.split is not None and self.split.count("/") == 2
        require(self.part != "test" or given, "part", self.part, "given with a --split of three counts")
        require(0 <= self.min_chroma < 100, "min_chroma", self.min_chroma, "from 0 to below 100")
        require(self.count is None or self.count >= 1, "count", self.count, "1 or more, or None")
        require(self.size is None or 32 <= self.size <= 4096, "size", self.size, "between 32 and 4096 pixels")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        require(self.workers >= 0, "workers", self.workers, "0 or more")
        require(self.json is None or self.json.suffix == ".json", "json", self.json, "a file that ends in .json")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Show what a training on photographs would see: counts, sizes, bad and grey files, duplicates, colours."""

    # Photographs: what --data of a training takes.
    data: tyro.conf.Positional[str]
    # Where named data sets lie or are downloaded to.
    data_root: Path = Path("datasets")
    # One breed of oxford_pets; None = all 37.
    breed: str | None = None
    # Share of the photographs held out for validation where the data set brings no split of its own.
    val_share: float = 0.1
    # Counts to train on, to validate on and, as a third, for a test, as --split of a training; None = no counts.
    split: str | None = None
    # Photographs whose mean chroma is below this, in Lab units, are near-grey and left out; 0 keeps all.
    min_chroma: float = 4.0
    # Largest share of unreadable files that is skipped before a training refuses (10 files are always allowed).
    max_unreadable: float = 0.01
    # Bits of 64 in which the difference hashes of photographs may differ that are compared for looking alike.
    hash_distance: int = 8
    # Folder for data.json, colours.png and contact_sheet.png; None = they are not written.
    out: Path | None = None
    # Write what was found to this file, NAME.json.
    json: Path | None = None
    # Write over files of an earlier report.
    overwrite: bool = False

    def __post_init__(self):
        require(0 < self.val_share < 1, "val_share", self.val_share, "between 0 and 1, both excluded")
        require_split(self.split)
        require(0 <= self.min_chroma < 100, "min_chroma", self.min_chroma, "from 0 to below 100")
        require(0 <= self.max_unreadable <= 1, "max_unreadable", self.max_unreadable, "from 0 to 1")
        require(0 <= self.hash_distance <= 16, "hash_distance", self.hash_distance, "from 0 to 16")
        require(self.json is None or self.json.suffix == ".json", "json", self.json, "a file that ends in .json")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a generator as ONNX, for any height, width and batch, and check it against PyTorch."""

    # Generator: a run folder, a generator folder, general or flowers (they come with gan_color), or the id of a
    # repository on the Hugging Face Hub.
    checkpoint: str
    # File to write, ending in .onnx.
    output: Path
    # Write over a file that exists.
    overwrite: bool = False

    def __post_init__(self):
        require(self.output.suffix == ".onnx", "output", self.output, "a file that ends in .onnx")
        require(not self.checkpoint.endswith(".onnx"), "checkpoint", self.checkpoint, "a run folder, not an export")


@dataclass(frozen=True, kw_only=True)
class ShareConfig:
    """Write a generator to be shared: in half precision, which halves the file, with its model card."""

    # Generator: a run folder or a generator folder, such as checkpoints/gan/best.
    checkpoint: tyro.conf.Positional[str]
    # Folder for config.json, model.safetensors and README.md.
    out: Path
    # Write over a generator that is there.
    overwrite: bool = False

    def __post_init__(self):
        require(not self.checkpoint.endswith(".onnx"), "checkpoint", self.checkpoint, "a run folder, not an export")


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Print what a checkpoint is: architecture, parameters, how it was trained."""

    # Generator: a run folder, a generator folder, an .onnx file, general or flowers (they come with gan_color), or
    # the id of a repository on the Hugging Face Hub.
    checkpoint: tyro.conf.Positional[str]


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Colour photographs in a browser: serve a page on this computer."""

    # Generator: a run folder, a generator folder, an .onnx file, general or flowers (they come with gan_color), or
    # the id of a repository on the Hugging Face Hub. May be given several times; without it those that come with
    # gan_color and those found in the folder checkpoints.
    checkpoint: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    # Address to listen on; any but 127.0.0.1 lets others in.
    host: str = "127.0.0.1"
    # Port to listen on; None = the first that is free from 7860 on.
    port: int | None = None
    # Also make a public link, through a server of Gradio's: what is uploaded passes it.
    share: bool = False
    # Largest file that may be uploaded, MB.
    max_megabytes: int = 200
    # cpu, cuda, cuda:N, mps, or auto.
    device: str = "auto"

    def __post_init__(self):
        require(self.port is None or 1 <= self.port <= 65535, "port", self.port, "between 1 and 65535")
        require(self.max_megabytes >= 1, "max_megabytes", self.max_megabytes, "1 or more")
