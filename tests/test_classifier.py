"""The classifier against torchvision's own way of feeding it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_photo
from PIL import Image
from torchvision import models, transforms
from torchvision.transforms import InterpolationMode

from gan_color.classifier import Classifier, Moments, class_of, feature_distance
from gan_color.data.photos import find_photos
from gan_color.errors import CheckpointError


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(models.squeezenet1_0().state_dict(), path)
    return path


def to_tensor(*pictures: Image.Image) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])


@pytest.mark.parametrize("side", [256, 128])
def test_features_and_classes_are_those_of_torchvision(weights, side):
    pictures = [draw_photo(seed, side, side) for seed in range(3)]
    feed = transforms.Compose(
        [
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float32),
            transforms.Resize(256, InterpolationMode.BILINEAR, antialias=True),
            transforms.CenterCrop(227),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    network = models.squeezenet1_0().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    with torch.inference_mode():
        x = torch.stack([feed(picture) for picture in pictures])
        maps, scores = network.features(x), network(x)
    features, top1 = Classifier(weights)(to_tensor(*pictures))
    # The middle 227 of 256 lies half a pixel off centre: either rounding is right.
    torch.testing.assert_close(features, maps.mean(dim=(2, 3)), rtol=0.02, atol=0.002)
    assert top1.tolist() == scores.argmax(dim=1).tolist()


def test_shared_weights_know_photographs_in_colour_and_fewer_in_grey(shared):
    classifier = Classifier(shared / "weights" / "squeezenet1_0_imagenet_deepcompression.pth")
    paths = [path for path in find_photos(shared / "data" / "scenes") if path.name.startswith("inet_")][::12]
    truth = torch.tensor([class_of(path) for path in paths])
    right = {}
    for mode in ("RGB", "L"):
        pictures = [
            transforms.CenterCrop(256)(transforms.Resize(256)(Image.open(path).convert(mode).convert("RGB")))
            for path in paths
        ]
        right[mode] = (classifier(to_tensor(*pictures))[1] == truth).float().mean().item()
    assert len(paths) == 35
    assert right["RGB"] > 0.5 and right["RGB"] > right["L"] > 0.2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("inet_n01440764_tench.jpg", 0),
        ("val/n15075141/ILSVRC2012_val_00000293.JPEG", 999),
        ("n01443537/n01440764_1.JPEG", 0),
        ("n00000000.jpg", None),
        ("tench.jpg", None),
        ("n014407641.jpg", None),
        ("xn01440764.jpg", None),
    ],
)
def test_the_class_is_read_from_the_name_or_the_folder(path, expected):
    assert class_of(Path(path)) == expected


def test_files_that_are_no_squeezenet_are_named(tmp_path):
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other.pth", "text.pth", "missing.pth"):
        with pytest.raises(CheckpointError, match=name):
            Classifier(tmp_path / name)


def test_moments_are_those_of_all_features_at_once():
    features = torch.randn(50, 6) * 3 + 100
    moments = Moments()
    for part in features.split(8):
        moments.add(part)
    mean, covariance = moments.mean_and_covariance()
    np.testing.assert_allclose(mean, features.double().mean(dim=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy(), rowvar=False), rtol=0, atol=1e-9)
    assert feature_distance(moments, moments) == pytest.approx(0, abs=1e-6)
    lonely = Moments()
    lonely.add(features[:1])
    assert feature_distance(moments, lonely) is None
