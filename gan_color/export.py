"""Writes a generator as ONNX: `gan-color export`. The file is checked against PyTorch before it is left behind."""

import contextlib
import io
import json
import logging
import os
import warnings

import torch
from torch import nn

from gan_color.checkpoint import load_generator
from gan_color.commands import ExportConfig
from gan_color.errors import GanColorError, UsageError, shown
from gan_color.onnx_generator import METADATA_KEY, open_session
from gan_color.version import __version__
from gan_color.writing import require_writable, write_atomically

# The largest difference from PyTorch that is let through, in ab of -1..1: a hundredth of a Lab unit.
BOUND = 1e-4
# (N, H, W) that every export is run at: the smallest, odd, not square, several at once, larger than a photograph's
# working size usually is.
CHECKED_SHAPES = ((1, 32, 32), (1, 33, 47), (2, 97, 131), (3, 64, 200), (1, 256, 256), (1, 250, 333))


def run(config: ExportConfig) -> None:
    """Export a generator and say how far it is from PyTorch.

    Raises:
        UsageError: the file exists.
        CheckpointError: there is no generator, or it is broken.
        GanColorError: onnx is not installed, the export failed, or its results differ; nothing is left behind.
    """
    if os.path.lexists(config.output) and not config.overwrite:
        raise UsageError(f"--output {shown(config.output)} exists: write elsewhere, or give --overwrite")
    require_writable(config.output.parent, "--output")
    generator = load_generator(config.checkpoint)
    data = to_onnx(generator)
    difference = largest_difference(generator, data)
    if not difference <= BOUND:  # also when it is not a number
        raise GanColorError(
            f"{shown(config.output)} was not written: its colours would differ from PyTorch's by up to "
            f"{difference:.1e} ({BOUND:.0e} is allowed): update torch and onnxruntime"
        )
    write_atomically(config.output, data)
    print(
        f"wrote {shown(config.output)} ({len(data) / 1e6:.1f} MB): any height and width from 32 on, any batch; largest "
        f"difference from PyTorch over {len(CHECKED_SHAPES)} shapes {difference:.1e} in ab of -1..1"
    )


def to_onnx(generator: nn.Module) -> bytes:
    """Turn a generator into an ONNX file: input `L` (N, 1, H, W), output `ab` (N, 2, H, W), float32.

    The graph is traced for H, W >= 33, because at 32 the deepest feature map is one pixel, and torch.export never
    generalises over a size of one. The file carries no such bound: nothing in the graph depends on it, and 32 is
    among the shapes that `largest_difference` runs.

    Args:
        generator: from `load_generator`, on the CPU.

    Returns:
        The whole file; its metadata hold what config.json says and the version of gan_color.

    Raises:
        GanColorError: onnx or onnxscript is not installed, or torch cannot export the architecture.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  what the file is checked with
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise GanColorError(f"{error.name} is not installed: pip install 'gan-color[export]'") from error
    sizes = {
        0: torch.export.Dim("batch", min=1),
        2: torch.export.Dim("height", min=33),
        3: torch.export.Dim("width", min=33),
    }
    try:
        with _quiet():
            program = torch.onnx.export(
                generator.eval(),
                (torch.zeros(2, 1, 64, 96),),
                input_names=["L"],
                output_names=["ab"],
                dynamic_shapes={"L": sizes},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever torch finds that it cannot express
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise GanColorError(f"torch {torch.__version__} cannot export this generator: {reason}") from error
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del part.metadata_props[:]  # torch leaves the source lines it traced, with this machine's paths
    described = generator.description | {"version": __version__}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(described)})
    model.producer_name, model.producer_version = "gan_color", __version__
    onnx.checker.check_model(model)
    return model.SerializeToString()


def largest_difference(generator: nn.Module, data: bytes, shapes=CHECKED_SHAPES) -> float:
    """Run an exported generator beside the original on random lightness.

    Args:
        generator: on the CPU, in evaluation mode.
        data: what `to_onnx` made of it.
        shapes: (N, H, W) to run at.

    Returns:
        The largest absolute difference in ab, which is in -1..1; nan if a result is no number.
    """
    session = open_session(data)
    chance = torch.Generator().manual_seed(0)
    differences = []
    for count, height, width in shapes:
        L = torch.rand(count, 1, height, width, generator=chance) * 2 - 1
        with torch.inference_mode():
            expected = generator(L)
        ab = torch.from_numpy(session.run(["ab"], {"L": L.numpy()})[0])
        if ab.shape != expected.shape:
            return float("inf")
        differences.append((ab - expected).abs().max())
    return float(torch.stack(differences).max())


@contextlib.contextmanager
def _quiet():
    """Without the exporters' notes of progress and of deprecations within themselves."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
