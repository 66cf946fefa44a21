"""What a run shows: TensorBoard scalars and grids, the same grids as PNG, the same numbers as JSON lines."""

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from gan_color import color, images
from gan_color.checkpoint import write_atomically


class Board:
    """Writes a run's event files, `metrics.jsonl` and `samples/*.png`.

    Args:
        folder: the run folder.
        resumed_at: the step a run goes on from; what was written of later steps is taken back, so that no step
            stands twice. None = a new run.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None):
        self.folder = folder
        self.writer = SummaryWriter(str(folder), purge_step=None if resumed_at is None else resumed_at + 1)
        lines = folder / "metrics.jsonl"
        if resumed_at is not None and lines.is_file():
            kept = [line for line in lines.read_text().splitlines(True) if _step_of(line) <= resumed_at]
            write_atomically(lines, "".join(kept).encode())
        self.lines = lines.open("a", encoding="utf-8")

    def text(self, tag: str, markdown: str) -> None:
        """Show a text under TensorBoard's Text tab."""
        self.writer.add_text(tag, markdown)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write numbers under their tags.

        Args:
            values: tag to value.
            step: optimizer steps taken.
        """
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)
        self.lines.write(json.dumps({"step": step, **values}) + "\n")
        self.lines.flush()

    def samples(self, tag: str, L: Tensor, fake_ab: Tensor, real_ab: Tensor, step: int) -> None:
        """Show photographs as rows: grey, fake, real.

        Args:
            tag: such as `samples/val`.
            L: (N, 1, H, W) float, in [-1, 1].
            fake_ab: (N, 2, H, W) float.
            real_ab: (N, 2, H, W) float.
            step: optimizer steps taken.
        """
        grid = grey_fake_real(L, fake_ab, real_ab)
        self.writer.add_image(tag, grid, step)
        self.writer.flush()
        path = self.folder / "samples" / f"{tag.rsplit('/', 1)[-1]}-{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        images.to_image(grid).save(path)

    def flush(self) -> None:
        """Bring everything to the disk, as at each checkpoint."""
        self.writer.flush()
        self.lines.flush()

    def close(self) -> None:
        """Finish the files."""
        self.writer.close()
        self.lines.close()


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; a line that was cut off while it was written comes last of all."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def grey_fake_real(L: Tensor, fake_ab: Tensor, real_ab: Tensor) -> Tensor:
    """Draw one grid of three rows.

    Args:
        L: (N, 1, H, W) float, in [-1, 1].
        fake_ab: (N, 2, H, W) float.
        real_ab: (N, 2, H, W) float.

    Returns:
        (3, height, width) uint8 on the CPU: N columns of grey, fake and real.
    """
    rows = [color.lab_to_rgb(L, ab) for ab in (torch.zeros_like(real_ab), fake_ab, real_ab)]
    return make_grid(torch.cat(rows).cpu(), nrow=L.shape[0], padding=2, pad_value=255)
