"""A generator that was exported to ONNX, run by onnxruntime, for `colorize` the same as one of PyTorch."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_color.errors import CheckpointError, GanColorError, shown
from gan_color.generators.hub import FORMAT, require_description

# The key in the file's metadata under which `gan-color export` leaves config.json and its own version.
METADATA_KEY = "gan_color"


class OnnxGenerator(nn.Module):
    """A generator from an .onnx file; without parameters, on the CPU.

    Args:
        path: a file that `gan-color export` wrote.

    Raises:
        CheckpointError: the file is missing, broken, or not of gan_color.
        GanColorError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.eval()  # it knows no other mode
        path = Path(os.path.expanduser(path))
        try:
            self.session = open_session(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{shown(path)} cannot be read: {error.strerror}") from error
        except GanColorError:
            raise
        except Exception as error:  # onnxruntime has a class of its own for each kind of damage
            raise CheckpointError(f"{shown(path)} is broken, or no ONNX file: copy or export it again") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        try:
            self.description = json.loads(metadata[METADATA_KEY])
            format_ = self.description["format"]
            self.trained_size = require_description(self.description)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{shown(path)} is not of gan_color: write it with gan-color export") from error
        if format_ != FORMAT:
            raise CheckpointError(f"{shown(path)} is of another gan_color: export it again with this one")

    def forward(self, L: Tensor) -> Tensor:
        """Predict colour.

        Args:
            L: (N, 1, H, W) float32, in [-1, 1].

        Returns:
            ab: (N, 2, H, W) float32 on the CPU, in (-1, 1).
        """
        return torch.from_numpy(self.session.run(["ab"], {"L": L.cpu().numpy()})[0])


def open_session(data: bytes):
    """An onnxruntime session on the CPU with as many threads as PyTorch.

    Raises:
        GanColorError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise GanColorError("onnxruntime is not installed: pip install 'gan-color[export]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # what matters comes as an exception
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
