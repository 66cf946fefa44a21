"""What a run shows: TensorBoard scalars and grids, the same grids as PNG, the same numbers as JSON lines.

The records are torch's and TensorBoard's own. Not written by `SummaryWriter`, whose thread dies of a full disk with its
traceback on the terminal and half a record in the file, behind which TensorBoard reads nothing.
"""

import contextlib
import io
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary
from torchvision.utils import make_grid

from gan_color import color
from gan_color.distributed import say
from gan_color.errors import WriteError
from gan_color.writing import append_whole, write_atomically

# Curves that belong on one chart, under Custom Scalars: chart to tags as regular expressions.
_CHARTS = {
    "gan_color": {
        "losses of generator and discriminator": ["Multiline", ["loss/G$", "loss/D$"]],
        "discriminator's accuracy, real and fake": ["Multiline", ["D/accuracy_real$", "D/accuracy_fake$"]],
        "colourfulness, fake and real": ["Multiline", ["val/colorfulness$", "val/colorfulness_real$"]],
    }
}
# Columns of the table under HParams: options, each with a value of its type, and the tags whose last values follow.
# One list for both stages, because TensorBoard takes that of the first run it finds, and shows the first five of each.
_OPTIONS = {
    **{"size": 0, "batch_size": 0, "epochs": 0, "lambda_l1": 0.0, "gan_objective": "", "architecture": "", "data": ""},
    **{"max_steps": 0, "lr": 0.0, "lr_g": 0.0, "lr_d": 0.0, "seed": 0},
}
_FIGURES = ("val/l1", "val/psnr", "val/ssim", "val/delta_e", "val/colorfulness", "val/l1_and_gap")


class Board:
    """Writes a run's event files, `metrics.jsonl` and `samples/*.png`.

    What cannot be written, as on a full disk, is left out and said once; training goes on.

    Args:
        folder: the run folder.
        resumed_at: the step a run goes on from; what was written of later steps is taken back, so that no step
            stands twice. None = a new run.

    Raises:
        WriteError: the folder cannot be written at the start.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None):
        self.folder = folder
        # What could not be written last time.
        self.failing: set[str] = set()
        self.lines = folder / "metrics.jsonl"
        # The name by which TensorBoard finds it, and sorts it behind those before, also where the clock was put back.
        seconds = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.[0-9]*")]
        begun = max([time.time(), *(int(each) + 1 for each in seconds if each.isdecimal())])
        self.events = folder / f"events.out.tfevents.{begun:.6f}.{socket.gethostname()}.{os.getpid()}"
        append_whole(self.events, _record(Event(wall_time=time.time(), file_version="brain.Event:2")))
        if resumed_at is not None:
            purge = Event(step=resumed_at + 1, session_log=SessionLog(status=SessionLog.START))
            append_whole(self.events, _record(purge))
            if self.lines.is_file():
                kept = [line for line in self.lines.read_text().splitlines(True) if _step_of(line) <= resumed_at]
                write_atomically(self.lines, "".join(kept).encode())
        append_whole(self.lines, b"")

    def config(self, text: str, options: dict[str, str | float | None], step: int) -> None:
        """Show what the run was told: under Text, and under HParams, where runs compare in one table.

        `SummaryWriter.add_hparams` would write a run of its own below this one. Here the table's figures are the last
        values of this run's own scalars.

        Args:
            text: as YAML.
            options: name to value, for the table.
            step: the first of this process; a later resume from before it takes it back.
        """
        config = summary.text("config", "".join(f"    {line}\n" for line in text.splitlines()))
        events = [Event(wall_time=time.time(), step=step, summary=config)]
        if step == 0:  # TensorBoard keeps the first of these that a run brings
            columns, _, _ = summary.hparams(_OPTIONS, dict.fromkeys(_FIGURES))
            _, row, _ = summary.hparams({name: options.get(name) for name in _OPTIONS}, {})
            shown = columns, row, summary.custom_scalars(_CHARTS)
            events += [Event(wall_time=time.time(), summary=each) for each in shown]
        with self.going_on("curves and grids"):
            append_whole(self.events, b"".join(map(_record, events)))

    def warning(self, sentence: str, step: int) -> None:
        """Write a sign that the run is sick, under TensorBoard's Text tab too.

        Args:
            sentence: what is seen, with numbers.
            step: optimizer steps taken.
        """
        event = Event(wall_time=time.time(), step=step, summary=summary.text("warnings", sentence))
        with self.going_on("curves and grids"):
            append_whole(self.lines, (json.dumps({"step": step, "warning": sentence}) + "\n").encode())
            append_whole(self.events, _record(event))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write numbers under their tags.

        Args:
            values: tag to value.
            step: optimizer steps taken.
        """
        now = time.time()
        events = [Event(wall_time=now, step=step, summary=summary.scalar(tag, value)) for tag, value in values.items()]
        with self.going_on("curves and grids"):
            append_whole(self.lines, (json.dumps({"step": step, **values}) + "\n").encode())
            append_whole(self.events, b"".join(map(_record, events)))

    def samples(self, tag: str, L: Tensor, fake_ab: Tensor, real_ab: Tensor, step: int) -> None:
        """Show photographs as rows: grey, fake, real.

        Args:
            tag: such as `samples/val`.
            L: (N, 1, H, W) float, in [-1, 1].
            fake_ab: (N, 2, H, W) float.
            real_ab: (N, 2, H, W) float.
            step: optimizer steps taken.
        """
        shown = summary.image(tag, grey_fake_real(L, fake_ab, real_ab), dataformats="CHW")
        png = shown.value[0].image.encoded_image_string
        with self.going_on("curves and grids"):
            write_atomically(self.folder / "samples" / f"{tag.rsplit('/', 1)[-1]}-{step:08d}.png", png)
            append_whole(self.events, _record(Event(wall_time=time.time(), step=step, summary=shown)))

    @contextlib.contextmanager
    def going_on(self, what: str) -> Iterator[None]:
        """Say once that something cannot be written, instead of ending a training, and once that it can again.

        Args:
            what: is written in the body, such as "checkpoints".
        """
        try:
            yield
        except WriteError as error:
            if what not in self.failing:
                say(f"{error}: training goes on without {what} until they can be written")
            self.failing.add(what)
        else:
            if what in self.failing:
                say(f"{what} are written again")
            self.failing.discard(what)


def _record(event: Event) -> bytes:
    """An event as it stands in an event file."""
    record = io.BytesIO()
    RecordWriter(record).write(event.SerializeToString())
    return record.getvalue()


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
