"""FID, KID and LPIPS with networks of random weights, against formulas written here. Nothing is downloaded."""

import urllib.error

import numpy as np
import pytest
import torch
from torchvision import models

from gan_color.errors import GanColorError
from gan_color.network_metrics import NetworkMetrics

fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of torch's hub with both networks in it, their weights random."""
    home = tmp_path_factory.mktemp("torch")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = fidelity.FeatureExtractorInceptionV3("random", ["2048"], str(folder / "empty.pth"))
    torch.save(network.state_dict(), folder / fidelity.URL_INCEPTION_V3.rsplit("/", 1)[1])
    torch.save(models.alexnet().state_dict(), folder / models.AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(home))
        yield folder


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Unbiased squared MMD under the kernel (x.y / d + 1)^3: Binkowski et al. 2018."""

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    n = len(one)
    within = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (n * (n - 1)) for x in (one, other))
    return within - 2 * kernel(one, other).mean()


def test_fid_and_kid_are_those_of_the_features(cache):
    real, fake = torch.randint(0, 256, (2, 3, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    networks = NetworkMetrics(["a", "b"], 3, torch.device("cpu"))
    for part in (slice(0, 2), slice(2, 3)):
        lpips = networks.add(real[part], {"a": fake[part], "b": real[part]})
        assert lpips["a"].shape == (part.stop - part.start,)
        assert lpips["b"].tolist() == [0] * len(lpips["b"]) and (lpips["a"] > 0).all()
    with torch.inference_mode():
        x, y = (networks.inception(images).double().numpy() for images in (real, fake))
    # The eigenvalues of C1 C2 are those of a matrix as small as the photographs are few.
    one, other = (features - features.mean(axis=0) for features in (x, y))
    product = np.linalg.eigvals((one @ other.T) @ (other @ one.T)).real / (len(x) - 1) ** 2
    spread = (np.square(one).sum() + np.square(other).sum()) / (len(x) - 1)
    fid = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + spread - 2 * np.sqrt(product.clip(0)).sum()
    distances = networks.distances("a")
    assert distances["fid"] == pytest.approx(fid, rel=1e-3)
    assert distances["kid"] == pytest.approx(kernel_distance(x, y), rel=1e-3, abs=1e-6)
    assert sorted(len(digest) for digest in networks.weights.values()) == [64, 64]


def test_weights_that_cannot_be_had_are_one_line_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(GanColorError, match=r"inception.*no route.*copy the file to") as caught:
        NetworkMetrics(["a"], 3, torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_weights_that_hold_code_are_refused(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"weights": print}, folder / fidelity.URL_INCEPTION_V3.rsplit("/", 1)[1])
    with pytest.raises(GanColorError, match="cannot be had"):
        NetworkMetrics(["a"], 3, torch.device("cpu"))
