"""What is saved of a run so that it can be resumed, and how it is put back."""

import torch
from torch import Tensor

from gan_color import generators
from gan_color.config import TrainConfig
from gan_color.device import precision_name
from gan_color.distributed import say, world
from gan_color.errors import CheckpointError, shown
from gan_color.generators import Generator
from gan_color.meter import Meter
from gan_color.options import to_dict
from gan_color.version import __version__

# What a state holds beside its format, and as what.
KINDS = {
    "step": int,
    "config": dict,
    "data": str,
    "world": int,
    "precision": str,
    "versions": list,
    "generator": dict,
    "stage": dict,
    "rng": dict,
    "meter": dict,
    "best": dict,
    "health": dict,
    "due": bool,
}


def versions() -> str:
    """Of what a run's figures depend on."""
    return f"gan_color {__version__}, torch {torch.__version__}"


def collect(stage, meter: Meter, best, health, config: TrainConfig, prepared, step: int, due: bool) -> dict:
    """Gather everything that a run needs to go on; in every process, for each has a part of the sums.

    Args:
        stage: a `fit.Stage`.
        meter: its sums not yet read.
        best: a `judge.Best`.
        health: a `judge.Health`.
        config: what the run was told.
        prepared: a `prepare.Prepared`.
        step: optimizer steps taken.
        due: a validation that a stop, or a photograph that is gone, came before.

    Returns:
        The state, by the names of KINDS.
    """
    before = [str(each) for each in prepared.state["versions"]] if prepared.state else []
    return {
        "step": step,
        "config": to_dict(config),
        "data": prepared.data_digest,
        "world": world(),
        "precision": precision_name(prepared.precision),
        # All that it was trained with, the newest last.
        "versions": before if before[-1:] == [versions()] else [*before, versions()],
        # How it is built: after a kill the files for use may be older, or not there yet.
        "generator": described(stage.generator_to_use),
        "stage": stage.state_dict(),
        "rng": _rng_state(prepared.device),
        "meter": meter.state_dict(),
        "best": best.state_dict(),
        "health": health.state_dict(),
        "due": due,
    }


def described(network: Generator) -> dict:
    """What `generators.build` makes such a generator of."""
    return {name: network.description[name] for name in ("architecture", "options")}


def build_generator(state: dict, config: TrainConfig) -> Generator:
    """Build the generator of a saved run; its weights come with `put_back`.

    Raises:
        CheckpointError: its description is none.
    """
    try:
        return generators.build(state["generator"]["architecture"], **state["generator"]["options"])
    except Exception as error:  # a description of another's making can ask for anything
        raise _unfit(config, error) from error


def put_back(state: dict, stage, meter: Meter, best, health, config: TrainConfig, device: torch.device) -> None:
    """Put everything back to a saved state.

    Raises:
        CheckpointError: it does not fit the stage; names the first difference.
    """
    try:
        if state["step"] < 0:
            raise ValueError(f"step is {state['step']}")
        stage.load_state_dict(state["stage"])
        meter.load_state_dict(state["meter"], device)
        best.load_state_dict(state["best"])
        health.load_state_dict(state["health"])
        _set_rng_state(state["rng"], device)
    except Exception as error:  # whatever a state of another's making makes of them
        raise _unfit(config, error) from error
    say(f"resuming at step {state['step']}")


def _unfit(config: TrainConfig, error: Exception) -> CheckpointError:
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    return CheckpointError(f"the state in {shown(config.out)} does not fit this run: {reason}")


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
