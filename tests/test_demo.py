"""The page in the browser, asked as the browser asks it: found generators, results, visitors, what cannot be read."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, draw_photo
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'gan-color[demo]'")

from gan_color import demo, inference, load_generator, visits
from gan_color.__main__ import main
from gan_color.commands import DemoConfig
from gan_color.data import photos
from gan_color.errors import CheckpointError, UsageError


def upload(visits_: visits.Visits, path: Path, name: str) -> dict:
    """Put a file where Gradio puts uploads, and say what the page says of it."""
    target = visits_.folder / name / path.name
    target.parent.mkdir(exist_ok=True)
    shutil.copy(path, target)
    return {"path": str(target)}


def test_results_are_the_files_that_the_command_writes(pretrained, tmp_path, photo_folder):
    picture = draw_photo(3, 90, 70)
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "grandmother", 6
    picture.save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300))
    draw_photo(4).convert("RGBA").save(tmp_path / "b.gif")
    (tmp_path / "notes.png").write_text("no picture")
    inputs = [tmp_path / name for name in ("a.jpg", "b.gif", "notes.png")]
    out, options = tmp_path / "out", ["--size", "64", "--saturation", "1.5"]
    with pytest.raises(SystemExit) as end:
        main(["colorize", *map(str, inputs), "--checkpoint", str(pretrained), "--output", str(out), *options])
    assert end.value.code == 3

    (tmp_path / "page").mkdir()
    everyone = visits.Visits(tmp_path / "page")
    uploads = everyone.take("me", [upload(everyone, path, path.stem) for path in inputs])
    visit, generators = everyone.of("me"), {"one": load_generator(pretrained)}
    told = list(visits.colour(visit, uploads, generators, size=64, saturation=1.5))
    assert [outcome.result for outcome in told] == ["coloured", "coloured", "failed"]
    assert [result.target.name for result in visit.results] == ["a.jpg", "b.gif.png"]
    for result in visit.results:
        assert result.target.read_bytes() == (out / result.target.name).read_bytes()
        grey, coloured = (Image.open(path) for path in visits.grey_and_coloured(result))
        assert grey.size == coloured.size == Image.open(result.target).size
        assert np.ptp(np.asarray(grey).astype(int), axis=2).max() <= 4
        assert Image.open(visits.histogram(result)).size == (960, 600)
    with zipfile.ZipFile(visits.bundle(visit)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in out.iterdir()
        }


def test_a_photograph_stands_beside_itself_and_what_is_said_names_no_folder(pretrained, tmp_path, photo_folder):
    everyone = visits.Visits(tmp_path)
    (tmp_path / "notes.jpg").write_text("no picture")
    sent = [*sorted(photo_folder.iterdir())[:2], tmp_path / "notes.jpg"]
    uploads = everyone.take("me", [upload(everyone, path, path.stem) for path in sent])
    generators = dict.fromkeys(["runs/gan", "runs/pretrain"], load_generator(pretrained))
    told = everyone.told(list(visits.colour(everyone.of("me"), uploads, generators)))
    assert [result.name for result in everyone.of("me").results] == [
        f"photo0{number}.png · runs/{stage}" for number in (0, 1) for stage in ("gan", "pretrain")
    ]
    assert told[0] == "coloured 4 of 6" and told[1].startswith("notes.jpg: not a photograph") and len(told) == 4
    with zipfile.ZipFile(visits.bundle(everyone.of("me"))) as archive:
        assert archive.namelist()[:2] == ["runs-gan/photo00.png", "runs-pretrain/photo00.png"]


def test_what_a_visitor_sent_is_gone_when_the_visit_ends_but_not_another_visitors(tmp_path, photo_folder):
    everyone = visits.Visits(tmp_path)
    photograph = next(photo_folder.iterdir())
    mine = everyone.take("a", [upload(everyone, photograph, "hash")])
    yours = everyone.take("b", [upload(everyone, photograph, "hash")])  # the same file: Gradio's path is the same
    assert [path.read_bytes() for path in mine + yours] == [photograph.read_bytes()] * 2
    everyone.end("a")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == yours
    everyone.end("b")
    everyone.end("b")
    assert not any(path.is_file() for path in tmp_path.rglob("*")) and everyone.open == {}


def test_closing_the_page_ends_its_work_and_leaves_no_file(pretrained, tmp_path, photo_folder):
    everyone = visits.Visits(tmp_path)
    sent = [upload(everyone, path, path.stem) for path in sorted(photo_folder.iterdir())]
    working = visits.colour(everyone.of("me"), everyone.take("me", sent), {"one": load_generator(pretrained)})
    assert next(working).result == "coloured"
    everyone.end("me")
    assert len(list(working)) < 11
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("path", ["/etc/passwd", "{folder}/../other/y.png", "{folder}/examples/grey/coffee.jpg"])
def test_only_uploads_are_read(tmp_path, path):
    other = tmp_path / "other" / "y.png"
    example = tmp_path / "page" / "examples" / "grey" / "coffee.jpg"
    for file in (other, example):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"a file")
    everyone = visits.Visits(tmp_path / "page")
    with pytest.raises(UsageError, match="upload it again"):
        everyone.take("a", [{"path": path.format(folder=everyone.folder)}])
    assert other.is_file() and example.is_file()


def test_nobody_reads_what_another_visitor_uploaded(tmp_path, photo_folder):
    everyone = visits.Visits(tmp_path)
    sent = upload(everyone, next(photo_folder.iterdir()), "hash")
    (mine,) = everyone.take("a", [sent])
    assert everyone.take("a", [sent, {"path": str(mine)}]) == [mine]  # the page may still name it as it was sent
    for path in (sent["path"], str(mine), str(mine.parent), str(mine.parent.parent)):
        with pytest.raises(UsageError, match="upload it again"):
            everyone.take("b", [{"path": path}])
    assert mine.is_file()


def test_a_session_is_no_path(tmp_path, photo_folder):
    everyone = visits.Visits(tmp_path / "page")
    (tmp_path / "page").mkdir()
    everyone.take("../../..", [upload(everyone, next(photo_folder.iterdir()), "hash")])
    assert everyone.of("../../..").folder.is_relative_to(everyone.folder / "visits")
    everyone.end("../../..")
    assert tmp_path.is_dir()


def test_grey_is_the_lightness_that_is_kept(pretrained):
    photo = photos.as_photo(draw_photo(5, 70, 50))
    coloured = inference.colorize(load_generator(pretrained), photo, saturation=0)
    assert np.array_equal(np.asarray(inference.grey(photo)), np.asarray(coloured))


def test_generators_are_found_and_stage_two_comes_first(pretrained, tmp_path, capsys, monkeypatch):
    checkpoints = tmp_path / "checkpoints"
    for name in ("a/pretrain", "b/gan"):
        shutil.copytree(pretrained / "generator", checkpoints / name / "generator")
    shutil.copytree(pretrained / "generator", checkpoints / "shared")
    shutil.copytree(pretrained / "generator", checkpoints / "b" / "gan" / "snapshots" / "step-00000001")
    config = checkpoints / "b" / "gan" / "generator" / "config.json"
    described = json.loads(config.read_text())
    described["training"]["stage"] = "gan"
    config.write_text(json.dumps(described))
    shutil.copytree(pretrained / "generator", checkpoints / "broken")
    (checkpoints / "broken" / "config.json").write_text("{")
    assert list(demo.offered(checkpoints)) == ["general", "flowers", "b/gan", "a/pretrain", "shared"]
    assert "broken" in capsys.readouterr().err
    assert list(demo.offered(tmp_path / "nowhere")) == ["general", "flowers"]
    monkeypatch.setattr(demo, "shipped", dict)
    with pytest.raises(CheckpointError, match="no generator in"):
        demo.offered(tmp_path / "nowhere")


def test_options_out_of_range_and_a_missing_extra_are_one_line(tmp_path):
    with pytest.raises(UsageError, match="--port is 0"):
        DemoConfig(port=0)
    hidden = "import sys; sys.modules['gradio'] = None; from gan_color.__main__ import main; main(['demo'])"
    ended = subprocess.run([sys.executable, "-c", hidden], cwd=PROJECT, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "gradio is not installed: pip install 'gan-color[demo]'" in ended.stderr


def test_the_page_is_served_with_nothing_from_elsewhere(pretrained, capsys):
    import httpx

    page = demo.launch([str(pretrained)], device="cpu")
    try:
        assert "open http://127.0.0.1:" in capsys.readouterr().out
        served = httpx.get(page.local_url).text
        config = httpx.get(page.local_url + "config").json()
        assert "window.gradio_config" in served and not config["analytics_enabled"]
        assert "googleapis" not in served + httpx.get(page.local_url + "theme.css").text
        sent = httpx.post(page.local_url + "gradio_api/upload", files={"files": ("x.bin", io.BytesIO(b"1"))})
        assert sent.status_code == 200 and Path(sent.json()[0]).is_relative_to(page.temporary.name)
    finally:
        page.close(verbose=False)
        page.temporary.cleanup()
    assert not Path(page.temporary.name).exists()
