"""Stage one: the generator learns colour from photographs by a reconstruction loss on ab, or on RGB."""

import shlex

import torch
from torch import Tensor, nn

from gan_color import color, distributed, losses, run_state
from gan_color.config import PretrainConfig
from gan_color.device import autocast
from gan_color.distributed import say
from gan_color.errors import UsageError
from gan_color.fit import fit
from gan_color.guard import Guard, can_fuse
from gan_color.options import as_options
from gan_color.prepare import given_generator, new_generator, open_run, prepare
from gan_color.state_dicts import load_parts


class Pretrain:
    """What stage one does with a batch.

    Args:
        generator: the network to train.
        device: where it trains.
        precision: type of the convolutions.
        loss: "l1", "l2" or "smooth_l1".
        lr: learning rate.
        accumulate: parts a batch is cut into.
        optimizer: "adam" or "sgd".
        momentum: of sgd.
        target: what is compared, "ab", or "rgb" for a generator that predicts it.
        lr_encoder: learning rate of the generator's `encoder`; None = lr.
    """

    def __init__(
        self,
        generator: nn.Module,
        device: torch.device,
        precision: torch.dtype,
        loss: str = "l1",
        lr: float = 1e-3,
        accumulate: int = 1,
        optimizer: str = "adam",
        momentum: float = 0.9,
        target: str = "ab",
        lr_encoder: float | None = None,
    ):
        self.device, self.precision, self.loss, self.accumulate = device, precision, loss, accumulate
        self.target = target
        self.generator = generator.to(device, memory_format=torch.channels_last).train()
        self.generator_to_use = self.generator
        self.parallel = distributed.wrap(self.generator, device)
        weights = _groups(self.generator, lr_encoder)
        if optimizer == "sgd":
            # Fused, its momentum begins with memory as it lies there where half precision overflows at the first step.
            fused = can_fuse(device) and precision != torch.float16
            self.optimizer = torch.optim.SGD(weights, lr=lr, momentum=momentum, fused=fused)
        else:
            self.optimizer = torch.optim.Adam(weights, lr=lr, fused=can_fuse(device))
        self.optimizers = {"G": self.optimizer}
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self.guard = Guard(device)

    def step(self, L: Tensor, ab: Tensor) -> dict[str, Tensor]:
        """Move the generator once towards the batch's true colours.

        Args:
            L: (N, 1, H, W) float32, in [-1, 1].
            ab: (N, 2, H, W) float32, in about [-1, 1].

        Returns:
            `loss/G_L1`, whatever the loss, and `loss/G`, the loss that is trained on.
        """
        parts = list(zip(L.chunk(self.accumulate), ab.chunk(self.accumulate), strict=True))
        total_l1 = total = torch.zeros((), device=self.device)
        self.optimizer.zero_grad()
        for number, (L_part, ab_part) in enumerate(parts, start=1):
            with distributed.local_gradients(self.parallel, number < len(parts)):
                loss, fake_ab = self._compare(L_part, ab_part)
                loss = loss / len(parts)
                self.scaler.scale(loss).backward()
            total = total + loss.detach()
            total_l1 = total_l1 + losses.reconstruction(fake_ab, ab_part) / len(parts)
        self.guard.update(self.optimizer, self.scaler, total)
        return {"loss/G_L1": total_l1, "loss/G": total}

    def _compare(self, L: Tensor, ab: Tensor) -> tuple[Tensor, Tensor]:
        """The loss in what is predicted, and the ab of that, detached."""
        if self.target == "rgb":
            with autocast(self.device, self.precision):
                fake_rgb = self.parallel(L, as_rgb=True)
            loss = losses.reconstruction(fake_rgb, color.lab_to_srgb(L, ab), self.loss)
            return loss, color.srgb_to_lab(fake_rgb.detach())[1]
        with autocast(self.device, self.precision):
            fake_ab = self.parallel(L)
        return losses.reconstruction(fake_ab, ab, self.loss), fake_ab.detach()

    def state_dict(self) -> dict:
        """Weights, optimizer and loss scale."""
        return {
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave.

        Raises:
            CheckpointError: it does not fit.
        """
        load_parts({"generator": self.generator, "optimizer": self.optimizer, "scaler": self.scaler}, state)


def _groups(generator: nn.Module, lr_encoder: float | None) -> list[dict]:
    """Weights as an optimizer takes them: all at its own learning rate, or the encoder's apart."""
    if lr_encoder is None:
        return [{"params": list(generator.parameters())}]
    rest = [weight for name, weight in generator.named_parameters() if not name.startswith("encoder.")]
    return [{"params": rest}, {"params": list(generator.encoder.parameters()), "lr": lr_encoder}]


def run(config: PretrainConfig) -> None:
    """Pretrain a generator: what `train_pretrain.py` does.

    Raises:
        GanColorError: anything the user can mend, in one line.
    """
    with open_run(config) as state:
        torch.manual_seed(config.seed)
        if state:
            if (config.lr_encoder is None) != (state["config"].get("lr_encoder") is None):
                raise UsageError("--resume: --lr-encoder may change but not come or go: give another --out")
            generator = run_state.build_generator(state, config)
        elif config.generator:
            generator, config = given_generator(config, "leave --generator out to begin with a new one")
        else:
            generator, config = new_generator(config)
        if config.lr_encoder is not None and not hasattr(generator, "encoder"):
            raise UsageError(f"--lr-encoder: {config.architecture} has no encoder of its own: leave it out")
        prepared = prepare(config, state)
        stage = Pretrain(
            generator,
            prepared.device,
            prepared.precision,
            config.loss,
            config.lr,
            config.accumulate,
            config.optimizer,
            config.momentum,
            generator.target,
            config.lr_encoder,
        )
        fit(stage, config, prepared)
        del stage  # the processes part here, and none may hold on to their group
    chosen = ("data", "data_root", "breed", "val_share", "split", "min_chroma", "max_unreadable")
    same = as_options(config, (*chosen, "resize", "crops", "min_crop", "augment", "size"))
    say(f"next:  python train_gan.py --generator {shlex.quote(str(config.out))}{same}")
