"""What is saved to use, a generator, and what is saved to resume, a training state.

A run folder holds `generator/config.json` and `generator/model.safetensors` for use, and
`state/step-00001234.pt` with its `.sha256` for resuming. At every moment what is there of each fits together.
"""

import contextlib
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_color.device import choose_device
from gan_color.errors import CheckpointError, UsageError, shown
from gan_color.generators import ARCHITECTURES, Generator
from gan_color.generators.hub import FORMAT, read_generator_config, to_files
from gan_color.generators.places import WEIGHTS, generator_folder
from gan_color.onnx_generator import OnnxGenerator
from gan_color.state_dicts import require_finite
from gan_color.writing import write_atomically


def save_generator(folder: Path, generator: nn.Module, architecture: str, options: dict, info: dict) -> None:
    """Save a generator for use.

    Args:
        folder: gets `config.json` and `model.safetensors`.
        generator: its weights are saved in their own precision.
        architecture: name for `generators.build`.
        options: of that architecture, without what it started from.
        info: how it was trained, plain values; `size`, the side it was trained at, is what inference reads.

    Raises:
        CheckpointError: a weight is not finite; nothing was written.
    """
    weights = folder / WEIGHTS
    before = weights.read_bytes() if weights.is_file() else None
    for name, data in to_files(generator, architecture, options, info, before).items():
        write_atomically(folder / name, data)


def generator_is_of(folder: Path, step: int) -> bool:
    """Whether the generator that is there was saved after this step, whole.

    Args:
        folder: of `save_generator`.
        step: optimizer steps taken.
    """
    try:
        config = read_generator_config(folder)
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    except (CheckpointError, OSError):
        return False
    return config["training"].get("step") == step and config.get("sha256", [])[:1] == [digest]


def holds_run(run: Path) -> bool:
    """Whether a folder holds what a run saved; not so when it was killed before it had saved anything."""
    return bool(_states(run)) or os.path.exists(run / "generator")


def load_generator(folder: str | Path, device: str | torch.device = "cpu") -> Generator | OnnxGenerator:
    """Load a generator to colour with.

    Args:
        folder: a run folder, its `generator` folder, the name of a generator that comes with gan_color
            ("general"), the id of a repository on the Hugging Face Hub ("user/name"), which is downloaded once, or
            an .onnx file that `gan-color export` wrote.
        device: where it shall run: as `--device` takes it, such as "auto", or a torch.device.

    Returns:
        The generator in evaluation mode; `generator.trained_size` is the side it was trained at, pixels, and
        `generator.description` what config.json says.

    Raises:
        CheckpointError: nothing there, or a file is broken or does not fit; says the cure.
        UsageError: there is no such device, or an .onnx file is asked to run on another than the CPU.
    """
    if Path(folder).suffix == ".onnx":
        if str(device) not in ("auto", "cpu"):
            raise UsageError(f"--device {device}: an .onnx file runs on the cpu; give the run folder as --checkpoint")
        return OnnxGenerator(folder)
    device = choose_device(device) if isinstance(device, str) else device
    folder = generator_folder(folder)
    architecture = read_generator_config(folder)["architecture"]
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{shown(folder / 'config.json')} asks for the architecture {architecture}, this gan_color has "
            f"{', '.join(ARCHITECTURES)}: update gan_color"
        )
    return ARCHITECTURES[architecture].from_files(folder).to(device)


def require_numbers(ab: Tensor, generator: str) -> None:
    """Check what a generator predicted: its weights are finite, but what they make of a photograph need not be.

    Args:
        ab: (N, 2, H, W) float.
        generator: what the user knows it by.

    Raises:
        CheckpointError: a colour is no number.
    """
    if not ab.isfinite().all():
        raise CheckpointError(
            f"{generator} is broken: it predicts colours that are no numbers; its training diverged: take another, or "
            "go back to an earlier checkpoint and lower the learning rate"
        )


def save_state(run: Path, step: int, state: dict, keep: int = 2) -> None:
    """Save everything a run needs to go on, then drop all but the newest states.

    Args:
        run: the run folder.
        step: optimizer steps taken.
        state: tensors, numbers, strings, and lists and dicts of them.
        keep: how many states stay.

    Raises:
        WriteError: it cannot be written; the earlier states are still there.
        CheckpointError: a tensor in it is not finite; nothing was written.
    """
    require_finite(state)
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    data = buffer.getvalue()
    path = run / "state" / f"step-{step:08d}.pt"
    # The digest first, beside that of a state of the same step: at every moment the file there fits one of them.
    digests = [hashlib.sha256(data).hexdigest()]
    if path.is_file():
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    write_atomically(digest_path(path), "\n".join(digests).encode())
    write_atomically(path, data)
    for old in _states(run)[:-keep]:
        with contextlib.suppress(OSError):  # it is in nobody's way
            digest_path(old).unlink(missing_ok=True)
            old.unlink()


def load_state(run: Path) -> dict:
    """Load the newest training state whose bytes are those that were written.

    Args:
        run: the run folder.

    Returns:
        What `save_state` was given, on the CPU.

    Raises:
        CheckpointError: there is no whole state in the run folder.
    """
    for path, data in whole_states(run):
        try:
            _require_honest_size(data)
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            format_ = int(state.pop("format"))
        except Exception as error:  # the bytes are as they were written, so it was not this code that wrote them
            raise CheckpointError(f"{shown(path)} is no training state of gan_color: do not use it") from error
        if format_ != FORMAT:
            raise CheckpointError(f"{shown(path)} has format {format_}, this gan_color reads {FORMAT}: update it")
        try:
            require_finite(state)
        except CheckpointError as error:
            raise CheckpointError(f"{shown(path)}: {error}; do not use it") from error
        return state
    count = len(_states(run))
    if count:
        raise CheckpointError(f"none of the {count} states in {shown(run / 'state')} is whole: start anew")
    raise CheckpointError(f"there is no state to resume from in {shown(run)}: start the run without --resume")


def _require_honest_size(data: bytes) -> None:
    """Refuse what would unpack to more than it is: torch stores its tensors as they are.

    Raises:
        ValueError: it would.
        zipfile.BadZipFile: it is not torch's format.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(data):
            raise ValueError("compressed")


def whole_states(run: Path) -> Iterator[tuple[Path, bytes]]:
    """Find the training states whose bytes are those that were written.

    Args:
        run: the run folder.

    Yields:
        Path and content, newest first.
    """
    for path in reversed(_states(run)):
        try:
            data = path.read_bytes()
            whole = hashlib.sha256(data).hexdigest() in digest_path(path).read_text().split()
        except (OSError, UnicodeDecodeError):
            continue
        if whole:
            yield path, data


def _states(run: Path) -> list[Path]:
    """Whole or not, oldest first. The name is matched in full: a drive's `step-00000010 (1).pt` is none."""
    folder = run / "state"
    found = folder.glob("step-*.pt") if os.path.isdir(folder) else []  # pathlib would raise where the name is too long
    return sorted(path for path in found if path.stem.removeprefix("step-").isdigit() and path.is_file())


def digest_path(state: Path) -> Path:
    """Where the SHA-256 of a training state stands."""
    return state.with_name(state.name + ".sha256")
