"""The notebooks run from a fresh kernel, show pictures, leave checkpoints, and go on where they were cut off."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import PROJECT, draw_photo
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = PROJECT / "notebooks"
# Fewer and smaller than anyone would train with: seconds instead of minutes.
TRAINING = {
    "SIZE": 32,
    "OPTIONS": "--crops 1 --batch-size 4 --backbone test_resnet --weights none --workers 0 --device cpu "
    "--precision fp32 --log-every 1 --sample-count 2",
    "PRETRAIN_EPOCHS": 2,
    "GAN_EPOCHS": 1,
}
# What the notebook asks of Colab.
COLAB = {
    "google/colab/__init__.py": "",
    "google/colab/drive.py": "def mount(path):\n    print('mounted', path)\n",
    "google/colab/files.py": """
def upload():
    return {"upload.png": b""}


def download(path):
    print("downloaded", path)
""",
}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook in a folder of its own: `execute("train.ipynb", "work", DATA="samples")`."""
    python = Path(sys.executable).parent
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("PATH", str(python), prepend=os.pathsep)  # where tensorboard is
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where tensorboard says which process it is
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(name: str, folder: str, first_line: str = "", **parameters) -> nbformat.NotebookNode:
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        cell.source = "\n".join(
            [first_line, cell.source, *(f"{variable} = {value!r}" for variable, value in parameters.items())]
        )
        (tmp_path / folder).mkdir(exist_ok=True)
        client = NotebookClient(notebook, timeout=300, kernel_name="python3")
        client.execute(cwd=str(tmp_path / folder))
        if "GAN_COLOR_KEEP_NOTEBOOKS" in os.environ:  # to look at the pictures
            nbformat.write(notebook, Path(os.environ["GAN_COLOR_KEEP_NOTEBOOKS"]) / f"{folder}-{name}")
        return notebook

    yield run
    for info in (tmp_path / ".tensorboard-info").glob("pid-*.info"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(info.read_text())["pid"], signal.SIGTERM)


def cell_of(notebook, name: str):
    return next(cell for cell in notebook.cells if cell.id == name)


def text_of(cell) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def pictures_of(cell) -> list[bytes]:
    shown = [output.data for output in cell.outputs if output.output_type == "display_data"]
    return [base64.b64decode(data["image/png"]) for data in shown if "image/png" in data]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert f"/gan-color/gan_color/blob/main/notebooks/{path.name})" in notebook.cells[0].source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
        # No path of anyone's machine; Colab's place for Drive is the same for all.
        for found in re.findall(r"""(?<![\w.:/\])])(?:~|[A-Z]:\\|/)[\w.]+[/\w.-]*""", cell.source):
            assert found.startswith("/content/drive"), f"{path.name}, cell {cell.id}: {found}"
        for link in re.findall(r"\]\((?!https:)([^)]+)\)", cell.source):
            assert (path.parent / link).is_file(), link


@pytest.mark.parametrize("name", ["colorize.ipynb", "train.ipynb"])
def test_a_session_with_an_older_pillow_is_told_to_begin_again(name):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    stale = nbformat.v4.new_code_cell("import PIL; PIL.__version__ = '11.0.0'")
    notebook.cells = [stale, notebook.cells[1]]
    with pytest.raises(CellExecutionError, match="Restart session"):
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()


def test_colouring_the_samples(execute, tmp_path):
    notebook = execute("colorize.ipynb", "work")
    pictures = pictures_of(cell_of(notebook, "colour"))
    assert len(pictures) == 7
    assert all(len(picture) > 10_000 for picture in pictures)
    assert len(list((tmp_path / "work" / "coloured").glob("*.png"))) == 7


def test_colouring_uploads_on_colab(execute, pretrained, tmp_path, monkeypatch):
    for name, source in COLAB.items():
        (tmp_path / "colab" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "colab" / name).write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "colab"), prepend=os.pathsep)
    (tmp_path / "work").mkdir()
    draw_photo(3).convert("L").save(tmp_path / "work" / "upload.png")
    notebook = execute("colorize.ipynb", "work", first_line="import google.colab", CHECKPOINT=str(pretrained))
    assert len(pictures_of(cell_of(notebook, "colour"))) == 1
    assert (tmp_path / "work" / "coloured" / "001-upload.png").is_file()
    assert "coloured.zip" in text_of(cell_of(notebook, "download"))


def test_without_a_generator_one_line_says_the_cure(execute):
    with pytest.raises(CellExecutionError) as error:
        execute("colorize.ipynb", "work", CHECKPOINT="checkpoints/gan")
    said = error.value.traceback
    assert "there is no generator in checkpoints/gan: give a run folder" in said
    assert "Traceback" not in said and 'File "' not in said


def test_training_both_stages_and_going_on_on_a_new_machine(execute, tmp_path):
    drive = str(tmp_path / "drive")
    notebook = execute("train.ipynb", "machine", BACKUP=drive, **TRAINING)
    for stage in ("pretrain", "gan"):
        run = tmp_path / "machine" / "checkpoints" / "first" / stage
        assert (run / "generator" / "model.safetensors").is_file()
        assert "copied to" in text_of(cell_of(notebook, stage))
        assert len(pictures_of(cell_of(notebook, f"look-{stage}"))) == 1
    beside = cell_of(notebook, "general")
    assert len(pictures_of(beside)) == 1
    assert re.search(r"grey +general +checkpoints/first/gan\nL1 of ab,.*" + 3 * r" 0\.\d+ \[.*", text_of(beside))
    assert any("tensorboard-frame" in str(output) for output in cell_of(notebook, "tensorboard").outputs)

    # The machine vanishes; on the next one stage one is finished, and stage two is told to take longer.
    shutil.rmtree(tmp_path / "machine")
    notebook = execute("train.ipynb", "machine", BACKUP=drive, **TRAINING | {"GAN_EPOCHS": 2})
    assert "nothing to do" in text_of(cell_of(notebook, "pretrain"))
    assert "resuming at step 1" in text_of(cell_of(notebook, "gan"))
    assert len(pictures_of(cell_of(notebook, "look-pretrain"))) == 1
    metrics = (tmp_path / "machine" / "checkpoints" / "first" / "gan" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in metrics if "loss/D" in line]
    assert steps == [1, 2]
    assert sorted(path.name for path in (tmp_path / "drive" / "first" / "gan").iterdir()) == [
        "0001-step-00000001",
        "0002-step-00000002",
    ]


def test_a_training_that_fails_says_why(execute, tmp_path):
    with pytest.raises(CellExecutionError) as error:
        execute("train.ipynb", "work", BACKUP=str(tmp_path / "drive"), **TRAINING | {"DATA": "nowhere"})
    assert "pretrain has not finished: the lines above say why" in error.value.traceback
