"""What a training is told: a dataclass for each stage. Imports no torch.

A field is an option: `lambda_l1` is `--lambda-l1`, the comment above a field is its help.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gan_color.errors import UsageError, shown

# Mean chroma, Lab units, below which a photograph counts as grey: nothing to learn from, and what there is to colour.
NEAR_GREY = 4.0
# What a generator can be chosen by; all but psnr and ssim are the better the lower.
Figure = Literal["val/l1", "val/psnr", "val/ssim", "val/delta_e", "val/colorfulness_gap", "val/l1_and_gap"]


def require(holds: bool, option: str, value: object, allowed: str) -> None:
    """Raise a UsageError that names the option, its value and what is allowed."""
    if not holds:
        raise UsageError(f"--{option.replace('_', '-')} is {shown(str(value))}: it must be {allowed}")


def require_split(split: str | None) -> None:
    """Raise a UsageError unless --split is two or three counts."""
    two_or_three = split is None or re.fullmatch(r"[1-9]\d*/[1-9]\d*(/[1-9]\d*)?", split)
    require(bool(two_or_three), "split", split, "two or three counts of photographs, such as 134/36/30")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What both training stages are told."""

    # Photographs to train on: samples (embedded), flowers102, oxford_pets, coco_sample, a folder (searched
    # recursively; its train and val subfolders are kept apart), or a text file with one path a line.
    data: str = "samples"
    # Where named data sets lie or are downloaded to.
    data_root: Path = Path("datasets")
    # One breed of oxford_pets, such as american_bulldog; None = all 37.
    breed: str | None = None
    # Share of the photographs held out for validation where the data set brings no split of its own.
    val_share: float = 0.1
    # Photographs to train on, to validate on and, if a third number is given, to leave for a test, such as 134/36/30,
    # chosen by content out of the whole set; None = the set's own split, or --val-share.
    split: str | None = None
    # Photographs whose mean chroma is below this, in Lab units, are near-grey and left out; 0 keeps all.
    min_chroma: float = NEAR_GREY
    # Largest share of unreadable files that is skipped before the run refuses (10 files are always allowed).
    max_unreadable: float = 0.01
    # How a photograph becomes a square: crop keeps its aspect and takes a part; squash takes all of it without keeping
    # its aspect; pad takes all of it, keeps its aspect and repeats its edges.
    resize: Literal["crop", "squash", "pad"] = "crop"
    # Random crops of each photograph in one epoch; None = 1, for the few embedded samples 24 with --augment.
    crops: int | None = None
    # Smallest random crop of --resize crop, as a share of the photograph's short side.
    min_crop: float = 0.6
    # Crop and mirror photographs at random in training; off, each is its middle square every time.
    augment: bool = True
    # Side of the square the networks are trained on, pixels.
    size: int = 128

    # Architecture of the generator; resnet_unet is a U-Net on a timm encoder, docs/recipes.md has the others.
    architecture: Literal[
        "resnet_unet", "dynamic_unet", "pix2pix_unet", "plain_cnn", "autoencoder", "resnet_deconv", "squeezenet_unet"
    ] = "resnet_unet"
    # Encoder of resnet_unet, dynamic_unet and resnet_deconv: any ResNet-family name of timm.
    backbone: str = "resnet18"
    # Weights the encoder starts from: imagenet (timm's; torchvision's of squeezenet_unet), none, a file, or auto =
    # imagenet when they are cached or can be reached within seconds, else none.
    weights: str = "auto"
    # What autoencoder predicts: ab, or rgb, whose ab are taken and joined with the input's own lightness.
    target: Literal["ab", "rgb"] = "ab"

    # Photographs in one optimizer step, over all processes and accumulated parts together.
    batch_size: int = 16
    # Parts each process cuts its share of a batch into, to fit memory: the gradients add up to the same step.
    accumulate: int = 1
    # Passes over the photographs.
    epochs: int = 20
    # Stop after this many optimizer steps, if that comes before the last epoch; None = no limit.
    max_steps: int | None = None
    # Share of the run over which the learning rate rises from 0.
    warmup: float = 0.02
    # Share of the run after which the learning rate falls linearly to 0.
    decay_from: float = 0.0

    # Seed of weights, order and augmentation.
    seed: int = 0
    # Processes that load photographs; None = 1 on a CPU, up to 8 beside a GPU.
    workers: int | None = None
    # Folder to keep decoded photographs in, for all runs that need them at this size; None = files are decoded each
    # time. It changes nothing but speed.
    cache: Path | None = None
    # cpu, cuda, cuda:N, mps, or auto.
    device: str = "auto"
    # Arithmetic of the networks; auto = bf16 where the hardware has it, else fp32. Losses and colour are fp32.
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    # Steps between points in TensorBoard's loss curves.
    log_every: int = 10
    # Steps between sample grids (grey / fake / real rows); step 0 and the end are always drawn.
    sample_every: int = 200
    # Photographs in a sample grid.
    sample_count: int = 8
    # Steps between checkpoints; the end and a clean stop are always saved.
    save_every: int = 500
    # Epochs between validations.
    val_every: int = 1
    # Photographs measured in a validation, evenly spread; None = all.
    val_count: int | None = 500
    # Figure of the validation by which the generator in best/ is chosen; l1, psnr, ssim and delta_e reward grey.
    best_by: Figure = "val/l1"
    # Steps between generators kept in snapshots/; None = none are kept.
    snapshot_every: int | None = None

    # Continue the run in --out; options not given again are taken from its config.yaml.
    resume: bool = False

    def __post_init__(self):
        counts = ("batch_size", "accumulate", "epochs", "sample_count")
        for option in (*counts, "log_every", "sample_every", "save_every", "val_every"):
            require(getattr(self, option) >= 1, option, getattr(self, option), "1 or more")
        for option in ("crops", "max_steps", "val_count", "snapshot_every"):
            value = getattr(self, option)
            require(value is None or value >= 1, option, value, "1 or more, or None")
        repeats = self.crops is not None and self.crops > 1 and not self.augment
        require(not repeats, "crops", self.crops, "1 with --no-augment, where all would be the same square")
        require(self.workers is None or self.workers >= 0, "workers", self.workers, "0 or more, or None")
        require(32 <= self.size <= 4096, "size", self.size, "between 32 and 4096 pixels")
        require(0 < self.val_share < 1, "val_share", self.val_share, "between 0 and 1, both excluded")
        require_split(self.split)
        require(0 < self.min_crop <= 1, "min_crop", self.min_crop, "above 0 and at most 1")
        require(0 <= self.min_chroma < 100, "min_chroma", self.min_chroma, "from 0 to below 100")
        for option in ("max_unreadable", "warmup", "decay_from"):
            require(0 <= getattr(self, option) <= 1, option, getattr(self, option), "from 0 to 1")
        require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more, below 2**63")
        require(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            self.accumulate,
            f"a divisor of --batch-size {self.batch_size}",
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """Stage one: pretrain the generator with a reconstruction loss on Lab's a and b channels."""

    # Generator to train on, instead of a new one: a run folder or generator folder, such as one that was trained at a
    # smaller --size, or the name of one that comes with gan_color.
    generator: Path | None = None
    # Reconstruction loss between generated and true ab (RGB with --target rgb).
    loss: Literal["l1", "l2", "smooth_l1"] = "l1"
    # Optimizer: Adam, or sgd = gradient descent with --momentum.
    optimizer: Literal["adam", "sgd"] = "adam"
    # Learning rate of the optimizer.
    lr: float = 1e-3
    # Learning rate of the encoder, which forgets less of what it knows at a smaller one; None = --lr.
    lr_encoder: float | None = None
    # Momentum of --optimizer sgd; 0 = plain gradient descent.
    momentum: float = 0.9
    # Run folder: checkpoints, event files, sample grids.
    out: Path = Path("checkpoints/pretrain")

    def __post_init__(self):
        super().__post_init__()
        begun = self.generator is None or self.weights in ("auto", "none")
        require(begun, "weights", self.weights, "left out with --generator, whose encoder has its own")
        require(0 < self.lr < 10, "lr", self.lr, "above 0 and below 10")
        lr_encoder = self.lr if self.lr_encoder is None else self.lr_encoder
        require(0 < lr_encoder < 10, "lr_encoder", lr_encoder, "above 0 and below 10")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class GanConfig(TrainConfig):
    """Stage two: train the generator against a PatchGAN with GAN + lambda * L1."""

    # Generator to start from: stage one's run folder or generator folder, or the name of one that comes with gan_color.
    generator: Path = Path("checkpoints/pretrain")
    # Start from an untrained generator instead of --generator.
    from_scratch: bool = False
    # GAN objective: vanilla = cross-entropy on patch logits, lsgan = squared error, hinge.
    gan_objective: Literal["vanilla", "lsgan", "hinge"] = "vanilla"
    # Weight of L1 beside the GAN term.
    lambda_l1: float = 100.0
    # Strided layers of the discriminator; 3 sees patches of 70x70 pixels.
    discriminator_depth: int = 3
    # Normalisation in the discriminator.
    discriminator_norm: Literal["batch", "instance", "spectral", "none"] = "batch"
    # Real and fake photographs pass the discriminator in one batch (together) or in two (apart).
    discriminator_batch: Literal["together", "apart"] = "together"
    # What the discriminator sees beside L: lab = ab, or rgb = the photograph in sRGB.
    discriminator_input: Literal["lab", "rgb"] = "lab"
    # Weight gamma of R1, which keeps the discriminator from judging real photographs steeply; 0 = none.
    r1: float = 0.0
    # Weight of the distance of SqueezeNet's features between generated and true photographs; 0 = none.
    perceptual: float = 0.0
    # State dict of torchvision's squeezenet1_0, for --perceptual.
    perceptual_weights: Path | None = None
    # Steps at the start that train the discriminator alone.
    discriminator_warmup: int = 0
    # Learning rate of the generator's Adam.
    lr_g: float = 2e-4
    # Learning rate of the discriminator's Adam.
    lr_d: float = 2e-4
    # Adam's beta1 for both networks.
    beta1: float = 0.5
    # Adam's beta2 for both networks.
    beta2: float = 0.999
    # Decay of the generator's moving average, which is what is validated, sampled and saved for use.
    ema_decay: float = 0.999
    # Share of the run after which the learning rate falls linearly to 0.
    decay_from: float = 0.5
    # Figure of the validation by which the generator in best/ is chosen; l1, psnr, ssim and delta_e reward grey.
    # l1_and_gap does not: val/l1 as a share of grey's, plus val/colorfulness_gap; 0 for true colours, 2 for grey.
    best_by: Figure = "val/l1_and_gap"
    # Run folder: checkpoints, event files, sample grids.
    out: Path = Path("checkpoints/gan")

    def __post_init__(self):
        super().__post_init__()
        for option in ("lr_g", "lr_d"):
            require(0 < getattr(self, option) < 10, option, getattr(self, option), "above 0 and below 10")
        for option in ("beta1", "beta2", "ema_decay"):
            require(0 <= getattr(self, option) < 1, option, getattr(self, option), "from 0 to below 1")
        for option in ("lambda_l1", "r1", "perceptual"):
            require(0 <= getattr(self, option) < float("inf"), option, getattr(self, option), "0 or more and finite")
        require(
            not self.perceptual or self.perceptual_weights is not None,
            "perceptual_weights",
            self.perceptual_weights,
            "a state dict of torchvision's squeezenet1_0 for --perceptual",
        )
        weightless = self.perceptual_weights is not None and not self.perceptual
        require(
            not weightless, "perceptual_weights", self.perceptual_weights, "left out, or --perceptual given a weight"
        )
        require(1 <= self.discriminator_depth <= 5, "discriminator_depth", self.discriminator_depth, "1 to 5")
        require(
            self.size >> self.discriminator_depth >= 3,
            "discriminator_depth",
            self.discriminator_depth,
            f"lower, or --size larger: {self.size} pixels leave it no patch to judge",
        )
        require(self.discriminator_warmup >= 0, "discriminator_warmup", self.discriminator_warmup, "0 or more")


# What may differ between a run and its continuation. Everything else would make the curves lie.
MAY_CHANGE_ON_RESUME = frozenset(
    [
        "lr",
        "lr_encoder",
        "lr_g",
        "lr_d",
        "lambda_l1",
        "ema_decay",
        "epochs",
        "max_steps",
        "warmup",
        "decay_from",
        "workers",
        "cache",
        "device",
        "accumulate",
        "log_every",
        "sample_every",
        "sample_count",
        "save_every",
        "val_every",
        "snapshot_every",
        "data_root",
        "weights",
        "perceptual_weights",
        "out",
    ]
)
