"""Stage two: the generator against a PatchGAN, with pix2pix's objective GAN + lambda * L1.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, sec. 3. R1 and the
perceptual loss are not pix2pix's, and off unless asked for.
"""

import contextlib
import copy
import shlex
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gan_color import color, distributed, losses, run_state
from gan_color.config import GanConfig
from gan_color.device import autocast
from gan_color.discriminator import PatchDiscriminator
from gan_color.distributed import say
from gan_color.errors import CheckpointError, shown
from gan_color.fit import fit
from gan_color.guard import Guard, can_fuse
from gan_color.perceptual import Perceptual
from gan_color.prepare import given_generator, new_generator, open_run, prepare
from gan_color.state_dicts import load_parts


class Gan:
    """What stage two does with a batch: one step of the discriminator, then one of the generator.

    Args:
        generator: from stage one, or fresh.
        discriminator: judges L and what `config.discriminator_input` says of colour.
        device: where they train.
        precision: type of the convolutions.
        config: objective, weights, learning rates, order of the batches.
        perceptual: distance of photographs in sRGB; needed where config.perceptual is above 0.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        device: torch.device,
        precision: torch.dtype,
        config: GanConfig,
        perceptual: nn.Module | None = None,
    ):
        self.device, self.precision = device, precision
        self.objective, self.lambda_l1, self.r1 = config.gan_objective, config.lambda_l1, config.r1
        self.input, self.weight_perceptual = config.discriminator_input, config.perceptual
        self.together = config.discriminator_batch == "together"
        self.accumulate, self.discriminator_warmup = config.accumulate, config.discriminator_warmup

        self.generator = generator.to(device, memory_format=torch.channels_last).train()
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last).train()
        if perceptual is not None:
            perceptual = perceptual.to(device, memory_format=torch.channels_last)
        self.perceptual = perceptual
        self.parallel_generator = distributed.wrap(self.generator, device)
        self.parallel_discriminator = distributed.wrap(self.discriminator, device)
        betas = (config.beta1, config.beta2)
        adam = partial(torch.optim.Adam, betas=betas, fused=can_fuse(device))
        self.optimizer_g = adam(generator.parameters(), lr=config.lr_g)
        self.optimizer_d = adam(discriminator.parameters(), lr=config.lr_d)
        self.optimizers = {"G": self.optimizer_g, "D": self.optimizer_d}
        scaled = precision == torch.float16
        self.scaler_g = torch.amp.GradScaler(device.type, enabled=scaled)
        self.scaler_d = torch.amp.GradScaler(device.type, enabled=scaled)
        self.guard = Guard(device)

        self.steps = 0
        self.ema_decay = config.ema_decay
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.generator_to_use = self.ema

    def step(self, L: Tensor, ab: Tensor) -> dict[str, Tensor]:
        """Move the discriminator once, then the generator once.

        Args:
            L: (N, 1, H, W) float32, in [-1, 1].
            ab: (N, 2, H, W) float32, in about [-1, 1].

        Returns:
            `loss/D_real`, `loss/D_fake`, `loss/D` (their mean), `D/accuracy_real`, `D/accuracy_fake`; and, but for
            the discriminator's warm-up, `loss/G_GAN`, `loss/G_L1` and `loss/G` = G_GAN + lambda * G_L1. Where they are
            on, `loss/D_R1`, and `loss/G_perceptual`, which is part of `loss/G` by its weight.
        """
        warming_up = self.steps < self.discriminator_warmup
        parts = list(zip(L.chunk(self.accumulate), ab.chunk(self.accumulate), strict=True))
        # One pass of the generator serves both networks, but for a batch in parts: all their graphs would be kept.
        one_pass = len(parts) == 1 and not warming_up
        measured: dict[str, Tensor] = {}
        statistics: list[list[Tensor]] = []  # of the discriminator's batch norm, of each part

        # Discriminator: real photographs up, generated ones down.
        self.discriminator.requires_grad_(True)
        self.optimizer_d.zero_grad()
        for number, (L_part, ab_part) in enumerate(parts, start=1):
            with contextlib.nullcontext() if one_pass else torch.no_grad():
                fake_ab = self._generate(L_part)
            self._discriminate(L_part, ab_part, fake_ab.detach(), number < len(parts), len(parts), measured)
            statistics.append([buffer.clone() for buffer in self.discriminator.buffers()])
        measured["loss/D"] = (measured["loss/D_real"] + measured["loss/D_fake"]) / 2
        self.guard.update(self.optimizer_d, self.scaler_d, measured["loss/D"] + measured.get("loss/D_R1", 0))

        # Generator: past the discriminator as it is now, and close to the true colours.
        if not warming_up:
            self.discriminator.requires_grad_(False)
            self.optimizer_g.zero_grad()
            for number, (L_part, ab_part) in enumerate(parts, start=1):
                with distributed.local_gradients(self.parallel_generator, number < len(parts)):
                    if not one_pass:
                        fake_ab = self._generate(L_part)
                    patch_logits = self._judge(L_part, fake_ab, statistics[number - 1])
                    gan = losses.generator_loss(patch_logits, self.objective)
                    l1 = losses.reconstruction(fake_ab, ab_part)
                    loss = gan + self.lambda_l1 * l1
                    values = {"loss/G_GAN": gan, "loss/G_L1": l1}
                    if self.weight_perceptual:
                        values["loss/G_perceptual"] = self._perceive(L_part, fake_ab, ab_part)
                        loss = loss + self.weight_perceptual * values["loss/G_perceptual"]
                    self.scaler_g.scale(loss / len(parts)).backward()
                _add(measured, values | {"loss/G": loss}, len(parts))
            self.guard.update(self.optimizer_g, self.scaler_g, measured["loss/G"])
            self._average()
        self.steps += 1
        return measured

    def _generate(self, L: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            fake_ab = self.parallel_generator(L)
        return fake_ab.float()

    def _seen(self, L: Tensor, ab: Tensor) -> Tensor:
        """What the discriminator sees of colour: ab, or sRGB in [-1, 1], (N, 3, H, W) float32."""
        return ab if self.input == "lab" else 2 * color.lab_to_srgb(L, ab) - 1

    def _perceive(self, L: Tensor, fake_ab: Tensor, ab: Tensor) -> Tensor:
        fake_rgb, real_rgb = color.lab_to_srgb(L, fake_ab), color.lab_to_srgb(L, ab)
        with autocast(self.device, self.precision):
            return self.perceptual(fake_rgb, real_rgb)

    def _judge(self, L: Tensor, fake_ab: Tensor, statistics: list[Tensor]) -> Tensor:
        """Patch logits of generated photographs for the generator's step.

        Batch norm judges them by the statistics that it had of them in the discriminator's own step, of real and fake
        together where they passed together: by others it would judge otherwise than it learnt. Not through
        DistributedDataParallel: no gradient is kept here.
        """
        for buffer, of_its_part in zip(self.discriminator.buffers(), statistics, strict=True):
            buffer.copy_(of_its_part)
        self.discriminator.train(not self.together)
        seen = self._seen(L, fake_ab)
        with autocast(self.device, self.precision):
            patch_logits = self.discriminator(L, seen)
        self.discriminator.train()
        return patch_logits

    def _discriminate(self, L, ab, fake_ab, local, num_parts, measured) -> None:
        """Add one part's gradients to the discriminator's."""
        forward = self.parallel_discriminator
        real, fake = self._seen(L, ab), self._seen(L, fake_ab)
        values = {}
        with distributed.local_gradients(forward, local or not self.together):
            with autocast(self.device, self.precision):
                if self.together:
                    both = forward(torch.cat((L, L)), torch.cat((real, fake)))
                    real_logits, fake_logits = both.chunk(2)
                else:
                    real_logits = forward(L, real)
            loss_real = losses.discriminator_loss(real_logits, True, self.objective)
            of_real = loss_real
            if self.r1:
                values["loss/D_R1"] = self._steepness(L, real)
                of_real = loss_real + self.r1 / 2 * values["loss/D_R1"]
            if not self.together:
                # Backward before the second pass: both would otherwise need batch norm's buffers as they were.
                self.scaler_d.scale(of_real / 2 / num_parts).backward()
        with distributed.local_gradients(forward, local):
            if not self.together:
                with autocast(self.device, self.precision):
                    fake_logits = forward(L, fake)
            loss_fake = losses.discriminator_loss(fake_logits, False, self.objective)
            loss = of_real + loss_fake if self.together else loss_fake
            self.scaler_d.scale(loss / 2 / num_parts).backward()
        values |= {
            "loss/D_real": loss_real,
            "loss/D_fake": loss_fake,
            "D/accuracy_real": losses.accuracy(real_logits, True, self.objective),
            "D/accuracy_fake": losses.accuracy(fake_logits, False, self.objective),
        }
        _add(measured, values, num_parts)

    def _steepness(self, L: Tensor, real: Tensor) -> Tensor:
        """R1 of true photographs, in float32.

        Batch norm has the statistics that it kept of the pass before, so each photograph's logits are its own alone.
        Not through DistributedDataParallel: these gradients and those of that pass go back together.
        """
        real = real.detach().requires_grad_()
        self.discriminator.eval()
        steepness = losses.r1(self.discriminator(L, real), real)
        self.discriminator.train()
        return steepness

    @torch.no_grad()
    def _average(self) -> None:
        """Moving average whose decay grows with the steps, so that short runs are not all beginning.

        Not by torch's AveragedModel, which waits for the device at every update.
        """
        decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        averaged, current = self.ema.state_dict(), self.generator.state_dict()
        floats = [name for name, value in current.items() if value.is_floating_point()]
        get_ema_multi_avg_fn(decay)([averaged[name] for name in floats], [current[name] for name in floats], None)
        for name in current.keys() - set(floats):
            averaged[name].copy_(current[name])

    def state_dict(self) -> dict:
        """Both networks, both optimizers, the moving average, loss scales and the count of steps.

        Of --perceptual-weights the digest alone: where the file lies may change, what is in it not.
        """
        return {
            "steps": self.steps,
            "perceptual": self._perceptual_file(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "scaler_g": self.scaler_g.state_dict(),
            "scaler_d": self.scaler_d.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave.

        Raises:
            CheckpointError: it does not fit, as that of stage one does not, or was trained with other
                --perceptual-weights.
        """
        if state.get("perceptual", self._perceptual_file()) != self._perceptual_file():
            raise CheckpointError("--perceptual-weights has other content than the file it began with")
        names = ("generator", "discriminator", "ema", "optimizer_g", "optimizer_d", "scaler_g", "scaler_d")
        load_parts({name: getattr(self, name) for name in names}, state)
        self.steps = int(state["steps"])

    def _perceptual_file(self) -> str | None:
        return self.perceptual.sha256 if self.weight_perceptual else None


def _add(measured: dict[str, Tensor], values: dict[str, Tensor], num_parts: int) -> None:
    """Add one part's values to the means over the batch."""
    for tag, value in values.items():
        measured[tag] = measured.get(tag, 0) + value.detach() / num_parts


def run(config: GanConfig) -> None:
    """Train a generator against a discriminator: what `train_gan.py` does.

    Raises:
        GanColorError: anything the user can mend, in one line.
    """
    with open_run(config) as state:
        # Before the seed, so that all else begins as it would without it.
        perceptual = Perceptual(config.perceptual_weights) if config.perceptual else None
        torch.manual_seed(config.seed)
        if state:
            generator = run_state.build_generator(state, config)
        elif config.from_scratch:
            generator, config = new_generator(config)
        else:
            otherwise = "train_pretrain.py --out {} trains one, --from-scratch does without"
            generator, config = given_generator(config, otherwise.format(shown(config.generator)))
        prepared = prepare(config, state)
        distributed.require_agreement({"--perceptual-weights of SHA-256": perceptual and perceptual.sha256})
        colours = {"lab": 2, "rgb": 3}[config.discriminator_input]
        discriminator = PatchDiscriminator(config.discriminator_depth, config.discriminator_norm, colours=colours)
        stage = Gan(generator, discriminator, prepared.device, prepared.precision, config, perceptual)
        fit(stage, config, prepared)
        del stage  # the processes part here, and none may hold on to their group
    say(f"next:  gan-color colorize PHOTO --checkpoint {shlex.quote(str(config.out))} --output coloured.png")
