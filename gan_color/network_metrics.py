"""FID, KID and LPIPS, which need networks of others: through torchmetrics, with the weights it takes itself."""

import contextlib
import hashlib
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from gan_color.errors import GanColorError, shown

# Seconds that an unreachable server may take.
_PATIENCE = 10
# KID is the mean over 100 subsets of at most this many photographs, as torchmetrics has it.
_KID_SUBSET = 1000
# Features of Inception's last pooling layer.
_FEATURES = 2048


class NetworkMetrics:
    """FID, KID and LPIPS of several colourings against the true photographs.

    FID and KID: Inception of the original TensorFlow code as torch-fidelity has it, resized to 299 by torchmetrics'
    antialiased bilinear filter; the real set are the same photographs in colour. LPIPS: AlexNet, linear weights v0.1.

    Args:
        systems: names of the colourings.
        photographs: how many of each will come.
        device: where the networks run.

    Attributes:
        weights: SHA-256 of each network's file, by its name.

    Raises:
        GanColorError: torchmetrics is missing, or weights can be neither found nor downloaded.
    """

    def __init__(self, systems: list[str], photographs: int, device: torch.device):
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
            from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
            from torchmetrics.image.kid import KernelInceptionDistance
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        except ImportError as error:
            raise GanColorError(
                f"--network-metrics: {error.name} is not installed: pip install 'gan-color[metrics]'"
            ) from error
        if photographs < 2:
            raise GanColorError("--network-metrics: FID and KID need two photographs or more")
        files = [_fetched(url) for url in (URL_INCEPTION_V3, AlexNet_Weights.IMAGENET1K_V1.url)]
        self.weights = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        self.inception = NoTrainInceptionV3("inception-v3-compat", [str(_FEATURES)], str(files[0])).to(device)
        self.lpips = LearnedPerceptualImagePatchSimilarity("alex").to(device)
        # Every photograph passes Inception once; the metrics are given its features.
        features = nn.Identity()
        features.num_features = _FEATURES
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # KID says that it keeps all features
            self.fid = {name: FrechetInceptionDistance(features).to(device) for name in systems}
            subset = min(_KID_SUBSET, photographs)
            self.kid = {name: KernelInceptionDistance(features, subset_size=subset).to(device) for name in systems}

    @torch.inference_mode()
    def add(self, real_rgb: Tensor, fakes: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take a batch of photographs.

        Args:
            real_rgb: (N, 3, S, S) uint8.
            fakes: each system's colouring of them, (N, 3, S, S) uint8.

        Returns:
            LPIPS of each system, (N,) float32.
        """
        real = self.inception(real_rgb)
        lpips = {}
        for name, fake_rgb in fakes.items():
            fake = self.inception(fake_rgb)
            for metric in (self.fid[name], self.kid[name]):
                metric.update(real, real=True)
                metric.update(fake, real=False)
            lpips[name] = self.lpips.net(fake_rgb / 255, real_rgb / 255, normalize=True).flatten()
        return lpips

    def distances(self, name: str) -> dict[str, float]:
        """FID and KID of a system, once all photographs were taken."""
        with torch.random.fork_rng():
            torch.manual_seed(0)  # KID draws its subsets
            return {"fid": self.fid[name].compute().item(), "kid": self.kid[name].compute()[0].item()}


def _fetched(url: str) -> Path:
    """A network's file in torch's cache, downloaded if it is not there, and found to hold tensors only."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f"downloading {url}")
            with _patience(), contextlib.redirect_stdout(sys.stderr):
                torch.hub.download_url_to_file(url, str(path))
        torch.load(path, map_location="meta", weights_only=True)  # the libraries read it without this limit
    except Exception as error:  # offline, blocked, no room, broken
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise GanColorError(
            f"--network-metrics: {path.name} cannot be had ({reason}): connect to the internet once, or copy the file "
            f"to {shown(path.parent)}"
        ) from error
    return path


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
