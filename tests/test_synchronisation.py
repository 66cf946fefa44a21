"""A step never waits for the device: nothing in it asks for a value, for which a GPU would stand still."""

from pathlib import Path

import pytest
import torch
from test_pretrain import CPU, batch
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import squeezenet1_0

from gan_color import generators
from gan_color.config import GanConfig
from gan_color.discriminator import PatchDiscriminator
from gan_color.gan import Gan
from gan_color.meter import Meter
from gan_color.perceptual import Perceptual
from gan_color.pretrain import Pretrain

aten = torch.ops.aten
# What brings a value to the host, or a shape that depends on values.
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.is_nonzero, aten.masked_select, aten._unique2}


class Waits(TorchDispatchMode):
    """Counts operations that wait for the device, autograd's among them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in WAITING:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(squeezenet1_0().state_dict(), path)
    return path


def stage(name: str, precision: torch.dtype, squeezenet: Path, **options):
    torch.manual_seed(0)
    generator = generators.build("resnet_unet", backbone="test_resnet", weights="none")
    if name == "pretrain":
        return Pretrain(generator, CPU, precision, **options)
    config = GanConfig(perceptual_weights=squeezenet if "perceptual" in options else None, **options)
    discriminator = PatchDiscriminator(depth=1, width=8, colours=3 if config.discriminator_input == "rgb" else 2)
    return Gan(generator, discriminator, CPU, precision, config, Perceptual(squeezenet))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pretrain", {}),
        ("pretrain", {"accumulate": 2}),
        ("gan", {}),
        ("gan", {"accumulate": 2}),
        ("gan", {"discriminator_batch": "apart"}),
        ("gan", {"discriminator_warmup": 9}),
        ("gan", {"r1": 1.0}),
        ("gan", {"r1": 1.0, "discriminator_batch": "apart"}),
        ("gan", {"discriminator_input": "rgb", "r1": 1.0}),
        ("gan", {"perceptual": 1.0}),
    ],
)
def test_a_step_does_not_wait(name, options, precision, squeezenet):
    tested, meter = stage(name, precision, squeezenet, **options), Meter()
    L, ab = batch(size=64)
    tested.step(L, ab)  # the optimizers' state is made in the first
    with Waits() as waits:
        meter.add(tested.step(L, ab), len(L), tested.guard.tripped)
    assert waits.found == []
    with Waits() as waits:
        assert meter.bad_step(2) is None
    assert waits.found  # asking whether all was finite does
