"""The command that says how good a generator is."""

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import draw_photo
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio
from timm.data import ImageNetInfo
from torchvision import models

from gan_color import bootstrap, color, colorize, images, load_generator
from gan_color.__main__ import main
from gan_color.classifier import Classifier
from gan_color.data import lab, sources, split
from gan_color.data.photos import find_photos
from gan_color.measure import predicted
from gan_color.validate import validate


def run(*argv) -> int:
    try:
        main(["evaluate", *map(str, argv), "--device", "cpu"])
    except SystemExit as end:
        return end.code
    return 0


def figures(path: Path) -> dict:
    return json.loads(path.read_text())["figures"]


def means(path: Path, system: str) -> dict[str, float]:
    return {name: figure["mean"] for name, figure in figures(path)[system].items()}


@pytest.fixture(scope="module")
def classifier(photo_folder, tmp_path_factory) -> Path:
    """SqueezeNet of random weights, its classes made equally likely, so that it tells photographs apart."""
    torch.manual_seed(1)
    network = models.squeezenet1_0().eval()
    pictures = [np.array(Image.open(path).resize((227, 227))) for path in find_photos(photo_folder)]
    with torch.inference_mode():
        maps = network.features((torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225)
        network.classifier[1].bias -= network.classifier[1](maps).mean(dim=(0, 2, 3))
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def evaluated(pretrained, photo_folder, classifier, tmp_path_factory) -> Path:
    """An evaluation with everything in it that needs no download."""
    out = tmp_path_factory.mktemp("evaluated")
    options = ("--halved", "--classifier", classifier, "--workers", "0", "--out", out, "--json", out / "also.json")
    assert run(photo_folder, "--checkpoint", pretrained, *options) == 0
    return out


def test_it_agrees_with_the_validation_of_training(evaluated, pretrained, photo_folder):
    paths = find_photos(photo_folder)
    batches = lab.loader(lab.LabDataset(paths, 32), [[i] for i in range(len(paths))], 0)
    expected = validate(load_generator(pretrained), batches, torch.device("cpu"), len(paths))
    found = means(evaluated / "evaluation.json", str(pretrained))
    for name in ("l1", "psnr", "ssim", "delta_e", "colorfulness"):
        assert found[name] == pytest.approx(expected[f"val/{name}"], rel=1e-5), name
    grey, true = (means(evaluated / "evaluation.json", system) for system in ("grey", "true"))
    assert grey["l1"] == pytest.approx(expected["val/l1_grey"], rel=1e-5)
    assert true["colorfulness"] == pytest.approx(expected["val/colorfulness_real"], rel=1e-5)
    gap = expected["val/colorfulness"] - expected["val/colorfulness_real"]
    assert found["colorfulness_gap"] == pytest.approx(gap, rel=1e-4)


def test_grey_is_measured_as_scikit_image_measures_it(evaluated, photo_folder):
    psnr, differences, percentile = [], [], []
    for path in find_photos(photo_folder):
        photo = Image.open(path)
        left = (photo.width - photo.height) / 2
        square = (left, 0, left + photo.height, photo.height)
        real = np.asarray(photo.resize((32, 32), Image.Resampling.BICUBIC, square))
        truth = rgb2lab(real)
        linear = ((truth[..., 0] + 16) / 116) ** 3
        linear = np.where(truth[..., 0] > 8, linear, truth[..., 0] / 903.3)
        level = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
        grey = np.uint8(np.round(255 * level))[..., None].repeat(3, axis=-1)
        difference = deltaE_ciede2000(truth, rgb2lab(grey))
        psnr.append(peak_signal_noise_ratio(real, grey))
        differences.append(difference.mean())
        percentile.append(np.percentile(difference, 95, method="inverted_cdf"))
    found = means(evaluated / "evaluation.json", "grey")
    # A level of grey may be rounded to the other side.
    assert found["psnr"] == pytest.approx(np.mean(psnr), abs=0.01)
    assert found["delta_e"] == pytest.approx(np.mean(differences), abs=0.01)
    assert found["delta_e_p95"] == pytest.approx(np.mean(percentile), abs=0.02)
    assert found["gamut_mapped"] == 0


def test_intervals_and_means_are_those_of_the_csv(evaluated):
    with (evaluated / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    written = figures(evaluated / "evaluation.json")
    assert len(rows) == 12 * len(written)
    for system, of_system in written.items():
        own = [row for row in rows if row["system"] == system]
        assert len({row["sha256"] for row in own}) == 12
        assert all(row["sha256"] == hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest() for row in own)
        for name in {"l1", "psnr", "delta_e", "colorfulness"} & of_system.keys():
            values = np.array([[float(row[name])] for row in own])
            figure = of_system[name]
            assert figure["mean"] == pytest.approx(values.mean(), rel=1e-4)
            interval = bootstrap.interval(bootstrap.resampled_means(values)[:, 0])
            assert (figure["low"], figure["high"]) == pytest.approx(interval, rel=1e-4)
            assert figure["low"] < figure["mean"] < figure["high"]
    assert written["true, half chroma"]["l1"]["mean"] == pytest.approx(written["grey"]["l1"]["mean"] / 2)


def test_the_protocol_is_in_every_output(evaluated, pretrained, photo_folder):
    protocol = json.loads((evaluated / "evaluation.json").read_text())["protocol"]
    digests = "\n".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in find_photos(photo_folder))
    assert protocol["files_sha256"] == hashlib.sha256(digests.encode()).hexdigest()
    assert protocol["photographs"] == 12 and protocol["size"] == 32 and protocol["precision"] == "float32"
    weights = (pretrained / "generator" / "model.safetensors").read_bytes()
    assert protocol["generators"][str(pretrained)]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert protocol["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert (evaluated / "also.json").read_bytes() == (evaluated / "evaluation.json").read_bytes()
    page = (evaluated / "evaluation.md").read_text()
    assert protocol["files_sha256"] in page and "| PSNR of RGB, dB |" in page and "12 photographs" in page
    sheet = Image.open(evaluated / "contact_sheet.png")
    assert sheet.height > 9 * 160 and sheet.width > 3 * 160


def test_batch_size_and_workers_change_nothing(evaluated, pretrained, photo_folder, classifier, tmp_path):
    options = ("--halved", "--classifier", classifier, "--batch-size", "5", "--workers", "1")
    assert run(photo_folder, "--checkpoint", pretrained, *options, "--json", tmp_path / "f.json") == 0
    for system, expected in figures(evaluated / "evaluation.json").items():
        found = figures(tmp_path / "f.json")[system]
        assert found.keys() == expected.keys()
        for name, figure in expected.items():
            # The sum of squares of random features cancels; the others are rounded to 8 bits.
            tolerance = 1e-3 if name == "squeezenet_distance" else 1e-4
            assert found[name]["mean"] == pytest.approx(figure["mean"], rel=tolerance, abs=1e-4), (system, name)


def test_recovery_is_zero_for_grey_and_one_for_true(evaluated, pretrained, photo_folder, classifier, tmp_path):
    """Photographs get, as their class, what the classifier takes the true ones for."""
    names, network = ImageNetInfo().label_names(), Classifier(classifier)
    folder = tmp_path / "labelled"
    folder.mkdir()
    for i, path in enumerate(find_photos(photo_folder)):
        L, ab = lab.LabDataset([path], 32)[0]
        rgb = color.lab_to_rgb(L[None], ab[None])
        (folder / f"{names[network(rgb)[1].item()]}_{i}.png").write_bytes(path.read_bytes())
    (folder / "unlabelled.png").write_bytes(find_photos(photo_folder)[0].read_bytes())
    options = ("--classifier", classifier, "--json", tmp_path / "f.json", "--workers", "0")
    assert run(folder, "--checkpoint", pretrained, *options) == 0
    found = figures(tmp_path / "f.json")
    assert json.loads((tmp_path / "f.json").read_text())["protocol"]["classifier"]["labelled"] == 12
    assert found["true"]["top1"]["mean"] == 1 and found["grey"]["top1"]["mean"] < 1
    assert found["true"]["recovered"] == {"mean": 1, "low": 1, "high": 1}
    assert found["grey"]["recovered"] == {"mean": 0, "low": 0, "high": 0}
    top1 = {system: found[system]["top1"]["mean"] for system in found}
    expected = (top1[str(pretrained)] - top1["grey"]) / (1 - top1["grey"])
    assert found[str(pretrained)]["recovered"]["mean"] == pytest.approx(expected)
    assert "top1" not in figures(evaluated / "evaluation.json")["true"]  # no class in those names
    assert found[str(pretrained)]["squeezenet_distance"]["mean"] > 0


def test_an_exported_generator_measures_the_same(pretrained, photo_folder, tmp_path):
    pytest.importorskip("onnxruntime")
    main(["export", "--checkpoint", str(pretrained), "--output", str(tmp_path / "g.onnx")])
    both = ("--checkpoint", pretrained, "--checkpoint", tmp_path / "g.onnx")
    assert run(photo_folder, *both, "--json", tmp_path / "f.json", "--workers", "0") == 0
    one, other = (means(tmp_path / "f.json", str(system)) for system in (pretrained, tmp_path / "g.onnx"))
    assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_squashed_photographs_are_those_of_training(pretrained, photo_folder, tmp_path):
    options = ("--resize", "squash", "--workers", "0", "--json", tmp_path / "f.json")
    assert run(photo_folder, "--checkpoint", pretrained, *options) == 0
    dataset = lab.LabDataset(find_photos(photo_folder), 32, resize="squash")
    grey_l1 = np.mean([ab.abs().mean().item() for _, ab in dataset])
    assert means(tmp_path / "f.json", "grey")["l1"] == pytest.approx(grey_l1, rel=1e-5)
    protocol = json.loads((tmp_path / "f.json").read_text())["protocol"]
    assert protocol["resize"].startswith("whole photograph, its aspect not kept")


def test_bad_files_are_named_and_the_others_measured(pretrained, photo_folder, tmp_path, capsys):
    folder = tmp_path / "some"
    folder.mkdir()
    for path in find_photos(photo_folder)[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_text("no photograph")
    draw_photo(1).convert("L").save(folder / "grey.png")
    assert run(folder, "--checkpoint", pretrained, "--json", tmp_path / "f.json", "--workers", "0") == 3
    said = capsys.readouterr()
    assert str(folder / "broken.jpg") in said.out
    assert "left out of the whole set: 1 unreadable, 1 near-grey" in said.out
    assert said.err.startswith("gan-color: 1 file(s) could not be read")
    protocol = json.loads((tmp_path / "f.json").read_text())["protocol"]
    assert (protocol["photographs"], protocol["unreadable"], protocol["near_grey_left_out"]) == (3, 1, 1)


def test_part_val_is_what_a_training_holds_out(pretrained, photo_folder, tmp_path):
    held_out = split.photographs(str(photo_folder), Path(), val_share=0.4, show_progress=False).val
    options = ("--part", "val", "--val-share", "0.4", "--workers", "0", "--out", tmp_path / "out")
    assert run(photo_folder, "--checkpoint", pretrained, *options) == 0
    with (tmp_path / "out" / "per_image.csv").open(newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {str(path) for path in held_out}
    assert 0 < len(held_out) < 12
    # A set with a split of its own gives its val unasked.
    options = ("--workers", "0", "--json", tmp_path / "samples.json", "--count", "1")
    assert run("samples", "--checkpoint", pretrained, *options) == 0
    protocol = json.loads((tmp_path / "samples.json").read_text())["protocol"]
    assert protocol["part"] == "those that a training on it holds out" and protocol["photographs"] == 1
    assert protocol["left_out_of"] == "the part"
    assert all(math.isfinite(value) for value in means(tmp_path / "samples.json", str(pretrained)).values())


@pytest.mark.parametrize("size", [96, 256])
def test_at_another_size_it_measures_what_colorize_gives(size):
    generator = load_generator("general")  # which was trained at 128
    dataset = lab.LabDataset(sources.find("samples", Path())[0][:4], size)
    L = torch.stack([L for L, _ in dataset])
    grey = color.lab_to_rgb(L, L.new_zeros(4, 2, size, size))
    with torch.inference_mode():
        at_its_size = generator(F.pad(L, (0, 8, 0, 8)))[..., :size, :size]
        pictures = [color.lab_to_rgb(L, ab).int() for ab in (predicted(generator, L), at_its_size)]
    expected = torch.cat([images.to_tensor(colorize(generator, images.to_image(rgb))) for rgb in grey]).int()
    off, otherwise = ((picture - expected).abs().float().mean() for picture in pictures)  # in levels of 255
    assert off < 1 and otherwise > 3


@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_of_a_split_by_counts_are_those_of_a_training(part, pretrained, photo_folder, tmp_path):
    sides = split.photographs(str(photo_folder), Path(), split="5/2/3", show_progress=False)
    options = ("--part", part, "--split", "5/2/3", "--workers", "0", "--out", tmp_path / "out")
    assert run(photo_folder, "--checkpoint", pretrained, *options) == 0
    with (tmp_path / "out" / "per_image.csv").open(newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {str(path) for path in getattr(sides, part)}


def test_mistakes_are_one_line(pretrained, diverged, photo_folder, train, tmp_path, capsys):
    larger = train("pretrain", tmp_path / "larger", "--size", "64", "--max-steps", "1")
    (tmp_path / "f.json").write_text("mine")
    (tmp_path / "weights.pth").write_text("none")
    draw_photo(0).convert("L").save(tmp_path / "grey.png")
    capsys.readouterr()
    given = ("--checkpoint", pretrained)
    for argv, code, said in [
        ((photo_folder,), 2, "--checkpoint"),
        ((photo_folder, *given, *given), 2, "names a generator twice"),
        ((photo_folder, "--checkpoint", "grey"), 2, "write ./ before it"),
        ((photo_folder, *given, "--checkpoint", larger), 2, "say with --size"),
        ((photo_folder, *given, "--json", tmp_path / "f.json"), 2, "is there already"),
        ((photo_folder, *given, "--json", tmp_path / "f.txt"), 2, "ends in .json"),
        ((photo_folder, *given, "--classifier", tmp_path / "weights.pth"), 1, "weights.pth"),
        ((tmp_path / "grey.png", *given), 1, "no list of paths"),
        ((tmp_path / "missing", *given), 1, "no such folder"),
        ((photo_folder, "--checkpoint", tmp_path / "none"), 1, "no generator"),
        ((photo_folder, "--checkpoint", diverged), 1, f"{diverged} is broken: it predicts colours that are no numbers"),
    ]:
        assert run(*argv) == code, argv
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error
    assert (tmp_path / "f.json").read_text() == "mine"
    assert run(photo_folder, *given, "--json", tmp_path / "f.json", "--overwrite", "--workers", "0") == 0
    assert means(tmp_path / "f.json", "grey")["psnr"] > 5
