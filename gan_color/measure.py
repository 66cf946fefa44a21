"""Colours photographs by several generators and measures what comes out, one value a photograph."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from gan_color import bootstrap, color, metrics
from gan_color.checkpoint import require_numbers
from gan_color.classifier import Classifier, Moments, class_of, feature_distance
from gan_color.data import lab
from gan_color.network_metrics import NetworkMetrics

# Systems that are no generator's.
TRUE, GREY, HALVED = "true", "grey", "true, half chroma"
# PSNR of a photograph met exactly is infinite, which has no mean.
_PSNR_AT_MOST = 100


class Measured:
    """What was measured on each photograph, and on all together.

    Args:
        systems: names of the colourings, the true one first.
        photographs: how many there are.

    Attributes:
        values: system to measure to one value a photograph, (N,) float64; NaN where it is not defined.
        of_all: system to measure to the value of all photographs together; None where it is not defined.
    """

    def __init__(self, systems: Sequence[str], photographs: int):
        self.photographs = photographs
        self.values: dict[str, dict[str, np.ndarray]] = {name: {} for name in systems}
        self.of_all: dict[str, dict[str, float | None]] = {name: {} for name in systems}

    def put(self, system: str, part: range, values: dict[str, Tensor]) -> None:
        """Keep the values of the photographs of one batch."""
        for measure, value in values.items():
            kept = self.values[system].setdefault(measure, np.full(self.photographs, np.nan))
            kept[part.start : part.stop] = value.cpu().double().numpy()

    def figures(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Mean, and 95 % bootstrap interval over photographs, of each measure of each system.

        `colorfulness_gap` and `colorfulness_abs_gap` are a system's minus those of the true photographs; `recovered` is
        (top1 - that of grey) / (that of true - that of grey) and missing where grey loses nothing. Top-1 is over the
        photographs whose class is known.
        """
        figures = {}
        for system, values in self.values.items():
            columns = dict(values)
            for measure in ("colorfulness", "colorfulness_abs"):
                if system != TRUE:
                    columns[f"{measure}_gap"] = values[measure] - self.values[TRUE][measure]
            top1 = columns.pop("top1", None)
            figures[system] = _means(columns)
            if top1 is not None and not np.isnan(top1).all():
                known = ~np.isnan(top1)
                trio = np.stack([top1, self.values[GREY]["top1"], self.values[TRUE]["top1"]], axis=1)[known]
                figures[system] |= _means({"top1": trio[:, 0]})
                if (recovered := _recovered(trio)) is not None:
                    figures[system]["recovered"] = recovered
        return figures


def _means(columns: dict[str, np.ndarray]) -> dict[str, tuple[float, float, float]]:
    values = np.stack(list(columns.values()), axis=1)
    resampled = bootstrap.resampled_means(values)
    means = values.mean(axis=0).tolist()
    return {name: (means[i], *bootstrap.interval(resampled[:, i])) for i, name in enumerate(columns)}


def _recovered(trio: np.ndarray) -> tuple[float, float, float] | None:
    """Recovered share of top-1 and its interval from (N, 3) of fake, grey and true; None where grey loses nothing."""
    fake, grey, true = trio.mean(axis=0)
    if true <= grey:
        return None
    fakes, greys, trues = bootstrap.resampled_means(trio).T
    lost = trues - greys
    shares = (fakes - greys)[lost > 0] / lost[lost > 0]
    return float((fake - grey) / (true - grey)), *bootstrap.interval(shares)


@torch.inference_mode()
def measure(
    dataset: lab.LabDataset,
    generators: dict[str, nn.Module],
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
    halved: bool = False,
    classifier: Classifier | None = None,
    networks: NetworkMetrics | None = None,
) -> Measured:
    """Colour every photograph by every generator and measure what came out.

    Args:
        dataset: the photographs, as squares.
        generators: by name, in measured mode.
        device: where L and ab are; each generator may run elsewhere.
        batch_size: photographs that are coloured at a time.
        workers: processes that load them.
        halved: also measure the true colours at half their chroma.
        classifier: None = nothing is recognised.
        networks: None = no FID, KID, LPIPS.

    Returns:
        One value a photograph and system, and what is measured on all of them together.

    Raises:
        PhotoError: a photograph that could be read can no longer be.
        CheckpointError: a generator predicts colours that are no numbers.
    """
    measured = Measured([TRUE, GREY, *[HALVED] * halved, *generators], len(dataset))
    moments = {name: Moments() for name in measured.values}
    classes = torch.tensor([-1 if (known := class_of(path)) is None else known for path in dataset.paths])
    parts = [range(i, min(i + batch_size, len(dataset))) for i in range(0, len(dataset), batch_size)]
    bar = tqdm(total=len(dataset), desc="measuring", unit="photo", disable=None)
    for part, (L, ab) in zip(parts, lab.read_batches(lab.loader(dataset, parts, workers), device), strict=True):
        coloured = dict(_colourings(L, ab, generators, halved))
        if device.type == "mps":  # it has no float64
            L, ab, coloured = L.cpu(), ab.cpu(), {name: fake_ab.cpu() for name, fake_ab in coloured.items()}
        real_rgb = color.lab_to_rgb(L, ab)
        fakes = {name: color.lab_to_rgb(L, fake_ab) for name, fake_ab in coloured.items()}
        for name, fake_rgb in (fakes | {TRUE: real_rgb}).items():
            values = _of_the_picture(fake_rgb)
            if name != TRUE:
                values |= _against_the_true(L, coloured[name], ab, fake_rgb, real_rgb)
            if classifier:
                features, top1 = classifier(fake_rgb.to(device))
                moments[name].add(features)
                known = classes[part.start : part.stop]
                values["top1"] = torch.where(known >= 0, (top1.cpu() == known).double(), torch.nan)
            measured.put(name, part, values)
        if networks:
            batch = {name: fake_rgb.to(device) for name, fake_rgb in fakes.items()}
            for name, lpips in networks.add(real_rgb.to(device), batch).items():
                measured.put(name, part, {"lpips": lpips})
        bar.update(len(part))
    bar.close()
    for name in list(fakes):
        if networks:
            measured.of_all[name].update(networks.distances(name))
        if classifier:
            measured.of_all[name]["squeezenet_distance"] = feature_distance(moments[TRUE], moments[name])
    return measured


def _colourings(L: Tensor, ab: Tensor, generators: dict[str, nn.Module], halved: bool) -> Iterator[tuple[str, Tensor]]:
    """Each system's ab of a batch, (N, 2, H, W) float32."""
    yield GREY, torch.zeros_like(ab)
    if halved:
        yield HALVED, ab / 2
    for name, generator in generators.items():
        fake_ab = predicted(generator, L)
        require_numbers(fake_ab, name)
        yield name, fake_ab


def predicted(generator: nn.Module, L: Tensor) -> Tensor:
    """Colour squares of any size as `colorize` does: the network sees them at the side it was trained at.

    Args:
        generator: in measured mode, on any device.
        L: (N, 1, S, S) float32, in [-1, 1].

    Returns:
        ab: (N, 2, S, S) float32, on L's device.
    """
    side, seen = L.shape[-1], generator.trained_size
    if side == seen:
        return generator(L).float().to(L.device)
    # On the CPU: not every torch has the antialiased filter for MPS.
    shown = F.interpolate(L.cpu(), size=(seen, seen), mode="bicubic", antialias=True).clamp(-1, 1)
    ab = generator(shown.to(L.device)).float().cpu()
    return F.interpolate(ab, size=(side, side), mode="bicubic", antialias=side < seen).to(L.device)


def _of_the_picture(rgb: Tensor) -> dict[str, Tensor]:
    return {"colorfulness": metrics.colorfulness(rgb), "colorfulness_abs": metrics.colorfulness_abs(rgb)}


def _against_the_true(L: Tensor, fake_ab: Tensor, ab: Tensor, fake_rgb: Tensor, real_rgb: Tensor) -> dict[str, Tensor]:
    """One value a photograph, each (N,)."""
    fake_lab = color.to_lab_units(*color.rgb_to_lab(fake_rgb))
    differences = metrics.delta_e_map(fake_lab, color.to_lab_units(L, ab)).flatten(1)
    return {
        "l1": (fake_ab - ab).abs().flatten(1).mean(dim=1),
        "psnr": metrics.psnr(fake_rgb, real_rgb).clamp_max(_PSNR_AT_MOST),
        "ssim": metrics.ssim(fake_rgb, real_rgb),
        "delta_e": differences.mean(dim=1),
        # The smallest difference that 95 % of the pixels do not exceed.
        "delta_e_p95": differences.kthvalue(int(np.ceil(0.95 * differences.shape[1])), dim=1).values,
        "gamut_mapped": (~color.in_gamut(L, fake_ab)).float().flatten(1).mean(dim=1),
    }
