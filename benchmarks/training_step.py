"""Time, memory and arithmetic of a training step, ours and the tutorial's, in one run.

python benchmarks/training_step.py                       # 256 px, batch 8, as the tables in docs/performance.md
python benchmarks/training_step.py --size 128 --batch-size 16 --grow

On a CPU each way has one thread and its own processor time is what counts, so that other work disturbs little; on a
GPU (--device cuda) it is the time on the wall. The ways take turns, round by round; a ratio is the median of the
rounds' ratios to the tutorial's. The share of the roofline is what a step achieves, in multiplications and additions,
over what the fastest of several plain 3x3 convolutions achieves in the same precision.
"""

import dataclasses

import torch
import tyro
from paired import machine, paired
from reference import StageOne, StageTwo, generator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gan_color import generators
from gan_color.config import GanConfig
from gan_color.device import autocast, choose_device
from gan_color.discriminator import PatchDiscriminator
from gan_color.errors import one_line_errors
from gan_color.gan import Gan
from gan_color.pretrain import Pretrain


@dataclasses.dataclass
class Options:
    """What is measured."""

    size: int = 256
    batch_size: int = 8
    # Times each way is measured, beside one that does not count.
    rounds: int = 3
    # cpu, cuda, or auto.
    device: str = "cpu"
    # Also ours alone at other sizes and batches.
    grow: bool = False
    # Also ours compiled.
    compiled: bool = False


def ours() -> nn.Module:
    """The default generator, random weights."""
    return generators.build("resnet_unet", backbone="resnet18", weights="none")


def backward(network: nn.Module, L: Tensor, ab: Tensor, precision: torch.dtype) -> None:
    """One pass forwards and backwards."""
    network.zero_grad()
    with autocast(L.device, precision):
        fake_ab = network(L)
    (fake_ab.float() - ab).abs().mean().backward()


def kept(network: nn.Module, L: Tensor, precision: torch.dtype) -> float:
    """MiB of tensors that a pass forwards keeps for the one backwards, weights left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    seen = {}

    def note(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    alive = []  # as autograd would: a storage that is freed may come again
    keeping = torch.autograd.graph.saved_tensors_hooks(lambda x: alive.append(x) or note(x), lambda x: x)
    with keeping, autocast(L.device, precision):
        network(L)
    return sum(seen.values()) / 2**20


def flops(run) -> float:
    """Multiplications and additions of a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def peak(device: torch.device, precision: torch.dtype) -> float:
    """The most that a 3x3 convolution achieves, multiplications and additions a second."""
    ways, work = {}, {}
    for channels, size in ((64, 64), (128, 32), (256, 16)):
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, precision)
        x = torch.rand(16, channels, size, size, device=device, dtype=precision)
        layer, x = layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

        @torch.no_grad()
        def run(layer=layer, x=x) -> None:
            for _ in range(8):
                layer(x)

        ways[channels], work[channels] = run, flops(run)
    return max(work[name] / seconds for name, (seconds, _) in paired(ways, 5, device.type == "cuda").items())


def main(options: Options) -> None:
    torch.set_num_threads(1)
    device = choose_device(options.device)
    wall = device.type == "cuda"
    print(machine(), "\n")
    torch.manual_seed(0)

    def batch(size: int, count: int) -> tuple[Tensor, Tensor]:
        return torch.rand(count, 1, size, size, device=device) * 2 - 1, torch.rand(count, 2, size, size, device=device)

    L, ab = batch(options.size, options.batch_size)
    L_last, ab_last = (x.to(memory_format=torch.channels_last) for x in (L, ab))
    theirs, lean = generator().to(device).train(), ours().to(device, memory_format=torch.channels_last).train()
    fp32, bf16 = torch.float32, torch.bfloat16

    def gan(precision: torch.dtype) -> Gan:
        return Gan(ours(), PatchDiscriminator(), device, precision, GanConfig())

    def report(title: str, ways: dict) -> None:
        print(f"### {title}, {options.size} px, batch {options.batch_size}\n")
        print("| way | ms | images/s | times as fast |\n| --- | ---: | ---: | ---: |")
        for name, (seconds, ratio) in paired(ways, options.rounds, wall).items():
            print(f"| {name} | {1e3 * seconds:.0f} | {options.batch_size / seconds:.1f} | {ratio:.1f} |")
        print(flush=True)

    @torch.no_grad()
    def forward(network: nn.Module, x: Tensor, precision: torch.dtype) -> None:
        with autocast(device, precision):
            network(x)

    ways = {
        "tutorial, fp32": lambda: forward(theirs, L, fp32),
        "ours, fp32": lambda: forward(lean, L_last, fp32),
        "ours, bf16": lambda: forward(lean, L_last, bf16),
    }
    report("Generator forwards", ways)
    ways = {
        "tutorial, fp32": lambda: backward(theirs, L, ab, fp32),
        "ours, fp32": lambda: backward(lean, L_last, ab_last, fp32),
        "ours, bf16": lambda: backward(lean, L_last, ab_last, bf16),
    }
    if options.compiled:
        compiled = torch.compile(ours().to(device, memory_format=torch.channels_last).train())
        ways["ours, bf16, compiled"] = lambda: backward(compiled, L_last, ab_last, bf16)
    report("Generator forwards and backwards", ways)

    print("| kept for the pass backwards | MiB | share |\n| --- | ---: | ---: |")
    reference = kept(theirs, L, fp32)
    for name, network, x, precision in (
        ("tutorial, fp32", theirs, L, fp32),
        ("ours, fp32", lean, L_last, fp32),
        ("ours, bf16", lean, L_last, bf16),
    ):
        mib = kept(network, x, precision)
        print(f"| {name} | {mib:.0f} | {mib / reference:.2f} |")
    print()

    one, two = StageOne(), StageTwo()
    for network in (one.generator, two.generator, two.discriminator):
        network.to(device)
    pretrain = {precision: Pretrain(ours(), device, precision) for precision in (fp32, bf16)}
    ways = {
        "tutorial, fp32": lambda: one.step(L, ab),
        "ours, fp32": lambda: pretrain[fp32].step(L_last, ab_last),
        "ours, bf16": lambda: pretrain[bf16].step(L_last, ab_last),
    }
    report("Step of stage one", ways)
    stage_two = {precision: gan(precision) for precision in (fp32, bf16)}
    ways = {
        "tutorial, fp32": lambda: two.step(L, ab),
        "ours, fp32": lambda: stage_two[fp32].step(L_last, ab_last),
        "ours, bf16": lambda: stage_two[bf16].step(L_last, ab_last),
    }
    report("Step of stage two", ways)

    print("| share of the roofline, ours | GFLOP a pass | achieved, GFLOP/s | peak | share |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for precision, name in ((fp32, "fp32"), (bf16, "bf16")):
        work = flops(lambda precision=precision: backward(lean, L_last, ab_last, precision))
        way = {name: lambda precision=precision: backward(lean, L_last, ab_last, precision)}
        achieved, best = work / paired(way, options.rounds, wall)[name][0], peak(device, precision)
        figures = f"{work / 1e9:.0f} | {achieved / 1e9:.0f} | {best / 1e9:.0f} | {achieved / best:.0%}"
        print(f"| forwards and backwards, {name} | {figures} |")
    print()

    if options.grow:
        print("| ours, bf16, images/s | stage one | stage two |\n| --- | ---: | ---: |")
        for size, count in ((128, 4), (128, 16), (128, 64), (256, 4), (256, 16)):
            x, y = (part.to(memory_format=torch.channels_last) for part in batch(size, count))
            both = {"one": lambda: pretrain[bf16].step(x, y), "two": lambda: stage_two[bf16].step(x, y)}  # noqa: B023
            pace = [count / seconds for seconds, _ in paired(both, options.rounds, wall).values()]
            print(f"| {size} px, batch {count} | {pace[0]:.1f} | {pace[1]:.1f} |", flush=True)


if __name__ == "__main__":
    with one_line_errors("training_step.py"):
        main(tyro.cli(Options, description=__doc__))
