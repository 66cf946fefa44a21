"""A generator as the files that are shared, `config.json` and `model.safetensors`, and the way back."""

import hashlib
import json
import os
import re
from pathlib import Path

import safetensors.torch
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import Tensor, nn

from gan_color.errors import CheckpointError, GanColorError, shown
from gan_color.generators.places import CARD, CONFIG, WEIGHTS, download, generator_folder, shipped

# Raised when a reader of the old layout could not use the new one.
FORMAT = 1
# Bytes that the names and shapes in a file of weights may take; some hundred tensors take 100 KB.
_LARGEST_HEADER = 8 * 2**20


class Generator(
    nn.Module, PyTorchModelHubMixin, library_name="gan_color", pipeline_tag="image-to-image", tags=["colorization"]
):
    """What every architecture is: `save_pretrained`, `from_pretrained` and `push_to_hub` of huggingface_hub.

    They write and read the very files that a run writes, so that each loads what the other saved.
    """

    # What it predicts, and is compared in when it is pretrained: "ab", or "rgb". `forward` returns ab all the same.
    target: str = "ab"
    # Pixels of the photograph, along a side, to one of the deepest batch norm.
    stride: int = 32
    # Side of the square it was trained at, pixels; what `colorize` shows it unless told otherwise.
    trained_size: int = 256
    # What config.json says; set by `generators.build` and by loading.
    description: dict | None = None
    # The model card that lay beside the weights, to travel on with them.
    card: str | None = None

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.description is None:
            raise GanColorError("this generator does not know its options: make it with gan_color.generators.build")
        described = {name: self.description[name] for name in ("architecture", "options")}
        for name, data in to_files(self, **described, info=self.description["training"]).items():
            (save_directory / name).write_bytes(data)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        map_location: str | torch.device = "cpu",
    ) -> "Generator":
        """Load a generator of this class; huggingface_hub's own loading would not check what it loads.

        Args:
            pretrained_model_name_or_path: a folder, the name of a generator that comes with gan_color, or the id of a
                repository on the Hub.
            force_download: download again what is here already.
            token: for a private repository.
            cache_dir: where downloads lie.
            local_files_only: take what was downloaded before, without asking the Hub.
            revision: branch, tag or commit.
            map_location: device it shall run on.

        Returns:
            The generator in evaluation mode.

        Raises:
            CheckpointError: nothing there, broken, or of another architecture than this class.
        """
        folder = pretrained_model_name_or_path
        if not os.path.isdir(folder) and str(folder) not in shipped():
            options = {"cache_dir": cache_dir, "force_download": force_download, "local_files_only": local_files_only}
            folder = download(str(folder), revision=revision, token=token, **options)
        return cls.from_files(generator_folder(folder)).to(map_location)

    @classmethod
    def from_files(cls, folder: Path) -> "Generator":
        """Build a generator of this class from the files of a local folder.

        Args:
            folder: holds `config.json` and `model.safetensors`.

        Returns:
            The generator in evaluation mode, on the CPU.

        Raises:
            CheckpointError: a file is missing or broken, or they are not of this class; says the cure.
        """
        config = read_generator_config(folder)
        path = folder / WEIGHTS
        try:
            generator = cls(**config["options"])
        except (TypeError, ValueError, AttributeError, RuntimeError, MemoryError, GanColorError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise CheckpointError(f"{shown(folder / CONFIG)} is not of a {cls.__name__}: {reason}") from error
        try:
            data = _read_bounded(path, generator)
            require_as_saved(data, config, path)
            weights = safetensors.torch.load(data)
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(f"{shown(path)} cannot be read: {error.strerror}") from error
        except Exception as error:  # SafetensorError, and what torch makes of a dtype or shape that it has not
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise CheckpointError(f"{shown(path)} is broken ({reason}): copy it again or save it anew") from error
        _load_strictly(generator, weights, path)
        generator.description = config
        generator.trained_size = require_description(config)
        if os.path.isfile(folder / CARD):
            generator.card = (folder / CARD).read_text(encoding="utf-8", errors="replace")
        return generator.eval()

    def generate_model_card(self, *args, **kwargs) -> ModelCard:
        """The card the generator came with, or else huggingface_hub's."""
        return ModelCard(self.card) if self.card else super().generate_model_card(*args, **kwargs)


def to_files(
    generator: nn.Module, architecture: str, options: dict, info: dict, before: bytes | None = None
) -> dict[str, bytes]:
    """Turn a generator into the files it is shared as.

    Args:
        generator: its weights keep their own precision.
        architecture: name for `generators.build`.
        options: of that architecture, without what it started from.
        info: how it was trained, plain values; `size`, the side it was trained at, is what inference reads.
        before: the weights that the new ones are to replace; until then they are to go with the new description.

    Returns:
        Name to content, in the order they are to be written.

    Raises:
        CheckpointError: a weight is not finite.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    _require_finite(weights, "the generator")
    data = safetensors.torch.save(weights)
    digests = [hashlib.sha256(each).hexdigest() for each in (data, before) if each is not None]
    config = {"format": FORMAT, "architecture": architecture, "options": options, "training": info, "sha256": digests}
    return {CONFIG: (json.dumps(config, indent=2) + "\n").encode(), WEIGHTS: data}


def read_generator_config(folder: Path) -> dict:
    """Read a generator's `config.json`.

    Raises:
        CheckpointError: it is broken, or written by a newer gan_color.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        format_ = config["format"]
        require_description(config)
    except OSError as error:
        raise CheckpointError(f"{shown(path)} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{shown(path)} does not describe a generator: copy it again") from error
    if format_ != FORMAT:
        raise CheckpointError(f"{shown(path)} has format {format_}, this gan_color reads {FORMAT}: update gan_color")
    return config


def require_description(config: dict) -> int:
    """Check that a description read from anyone's file has the shape that is relied on.

    Args:
        config: what `config.json`, or the metadata of an .onnx file, says.

    Returns:
        The side the generator was trained at, pixels.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it has not.
    """
    size = int(config["training"].get("size", 256))
    if not (isinstance(config["architecture"], str) and isinstance(config["options"], dict) and 1 <= size <= 65536):
        raise ValueError("not a description of a generator")
    if "weights" in config["options"]:
        raise ValueError("it names weights to start from, which are in the file beside it")
    return size


def _read_bounded(path: Path, generator: nn.Module) -> bytes:
    """Read weights, unless file or header are too large to be of this generator, in whatever precision.

    Raises:
        ValueError: they are.
        OSError: the file cannot be read.
    """
    most = _LARGEST_HEADER + 2 * sum(tensor.nbytes for tensor in generator.state_dict().values())
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise ValueError(f"larger than {most} bytes, which is more than {CONFIG} describes")
        data = file.read()
    if int.from_bytes(data[:8], "little") > _LARGEST_HEADER:
        raise ValueError("its header is too large")
    return data


def require_as_saved(data: bytes, config: dict, path: Path) -> None:
    """Check weights by the digest that their description carries; one that was written without has none.

    Raises:
        CheckpointError: they are others.
    """
    if config.get("sha256") and hashlib.sha256(data).hexdigest() not in str(config["sha256"]):
        raise CheckpointError(
            f"{shown(path)} is broken (not the bytes that were saved): copy it again or save it anew; if you changed "
            f"its weights yourself, take sha256 out of {CONFIG}"
        )


def _load_strictly(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights that must fit by name and shape; half precision is widened.

    The prefixes that DistributedDataParallel and torch.compile put before names are taken off.
    """
    expected = module.state_dict()
    weights = {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in weights.items()}
    differing = [
        *(f"{name} is missing" for name in expected.keys() - weights.keys()),
        *(f"{name} is not in the architecture" for name in weights.keys() - expected.keys()),
        *(
            f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
            for name in expected.keys() & weights.keys()
            if weights[name].shape != expected[name].shape
        ),
        *(
            f"{name} is {weights[name].dtype}, not {expected[name].dtype}"
            for name in expected.keys() & weights.keys()
            if weights[name].is_floating_point() != expected[name].is_floating_point()
        ),
    ]
    if differing:
        first = "; ".join(sorted(differing)[:3])
        raise CheckpointError(
            f"{shown(path)} does not fit the architecture in {CONFIG} ({len(differing)} weights: {first}): keep "
            "both files of one run together"
        )
    _require_finite(weights, shown(path))
    module.load_state_dict(weights)


def _require_finite(weights: dict[str, Tensor], where: str) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(
                f"{where}: {name} is not finite; the training diverged: go back to an earlier checkpoint and lower "
                "the learning rate"
            )
