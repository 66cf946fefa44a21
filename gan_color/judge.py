"""What a run is judged by while it trains: which of its generators is the best so far, and signs that it is sick.

Both see nothing but the numbers that a run logs, and what they remember is saved with its state, so that a resumed
run says what an uninterrupted one would have said.
"""

import math

# Optimizer steps over which the discriminator's accuracy is averaged: one lucky batch is no victory.
_MEMORY = 50
# Share of patches judged rightly. Where our healthy runs moved and the sick ones went: docs/is-my-gan-training.md.
_WON, _WON_NO_MORE = 0.95, 0.9
_LOST, _LOST_NO_MORE = 0.55, 0.6
# What is remembered of a validation, in this order.
_OF_COLOURS = ("val/l1", "val/l1_grey", "val/colorfulness", "val/colorfulness_real")


class Best:
    """The best validation so far.

    Args:
        by: tag of the figure that decides, such as `val/l1`.
    """

    def __init__(self, by: str):
        self.by = by
        # The higher the better are PSNR and SSIM alone.
        self.sign = -1 if by in ("val/psnr", "val/ssim") else 1
        self.value, self.step = self.sign * math.inf, 0

    def improves(self, values: dict[str, float]) -> bool:
        """Whether a validation is better than the best so far; a figure that is no number never is.

        Args:
            values: from `validate`.
        """
        return self.sign * values[self.by] < self.sign * self.value

    def take(self, values: dict[str, float], step: int) -> None:
        """Take a validation for the best so far, once its generator is kept.

        Args:
            values: from `validate`.
            step: optimizer steps taken.
        """
        self.value, self.step = values[self.by], step

    def state_dict(self) -> dict:
        """The best value, and the step it was measured at."""
        return {"value": self.value, "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave."""
        self.value, self.step = float(state["value"]), int(state["step"])


class Health:
    """Signs that a run is sick, each told once until it is over.

    - The discriminator has won: it judges nearly every patch rightly, and teaches the generator no more.
    - The discriminator has lost: it judges hardly better than a coin, and teaches it nothing.
    - The colours go grey: far below the true colourfulness, and less than the run began with or next to nothing.
    - The colours go wrong: L1 worse than a grey picture's, and worse than the run began with.

    A loss that is no number ends the run; that is not told here.
    """

    def __init__(self):
        # Midway between won and lost: a run has to show either for a while.
        self.accuracy_real = self.accuracy_fake = 0.75
        self.steps = 0
        # Of the first validation and of the last; that of stage two before its first step is stage one's.
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.told: list[str] = []

    def signs(self, values: dict[str, float], step: int) -> list[str]:
        """Take in what was logged.

        Args:
            values: tag to value, of the losses or of a validation.
            step: optimizer steps taken.

        Returns:
            New signs of sickness, a sentence each.
        """
        found = {}
        # In the discriminator's warm-up the generator stands still, and to be told apart is no failure.
        if "D/accuracy_real" in values and "loss/G_GAN" in values:
            found |= self._of_discriminator(values, step)
        if "val/colorfulness" in values:
            found |= self._of_colours(values)
        self.told = [name for name in self.told if not found.get(name, (False, False))[1]]
        new = {name: text for name, (is_sick, _, text) in found.items() if is_sick and name not in self.told}
        self.told += new
        return list(new.values())

    def _of_discriminator(self, values: dict[str, float], step: int) -> dict[str, tuple[bool, bool, str]]:
        """By name: whether it is so, whether it is over, and what to say."""
        kept = math.exp((self.steps - step) / _MEMORY)
        self.steps = step
        self.accuracy_real = kept * self.accuracy_real + (1 - kept) * values["D/accuracy_real"]
        self.accuracy_fake = kept * self.accuracy_fake + (1 - kept) * values["D/accuracy_fake"]
        lower, mean = min(self.accuracy_real, self.accuracy_fake), (self.accuracy_real + self.accuracy_fake) / 2
        judges = (
            f"over about {_MEMORY} steps it judged {self.accuracy_real:.0%} of the real and {self.accuracy_fake:.0%} "
            f"of the generated patches rightly (loss/G_GAN is {values['loss/G_GAN']:.2f})"
        )
        return {
            "won": (
                lower > _WON,
                lower < _WON_NO_MORE,
                f"the discriminator has won: {judges}; lower --lr-d, raise --lr-g, or lower --lambda-l1 if it is high",
            ),
            "lost": (
                mean < _LOST,
                mean > _LOST_NO_MORE,
                f"the discriminator has lost: {judges}; raise --lr-d or lower --lr-g",
            ),
        }

    def _of_colours(self, values: dict[str, float]) -> dict[str, tuple[bool, bool, str]]:
        """By name: whether it is so, whether it is over, and what to say."""
        now = {tag: values[tag] for tag in _OF_COLOURS}
        first, before = self.first or now, self.last or now
        self.first, self.last = first, now
        l1, grey, fake, real = now.values()
        faded = fake < 0.5 * real and fake < 0.9 * first["val/colorfulness"]
        vanishing = fake < 0.2 * real and fake < before["val/colorfulness"]
        return {
            "grey": (
                faded or vanishing,
                fake > 0.3 * real and fake >= first["val/colorfulness"],
                f"the colours go grey: val/colorfulness is {fake:.1f}, real {real:.1f}, and was "
                f"{before['val/colorfulness']:.1f} before, {first['val/colorfulness']:.1f} at first; lower the "
                "learning rates",
            ),
            "wrong": (
                l1 > grey and l1 > 1.2 * first["val/l1"],
                l1 < 1.1 * first["val/l1"],
                f"the colours go wrong: val/l1 is {l1:.4f}, grey {grey:.4f}, and was {first['val/l1']:.4f} at first; "
                "lower the learning rates, train on more photographs, or in stage two raise --lambda-l1",
            ),
        }

    def state_dict(self) -> dict:
        """What is remembered, and which signs were told and are not over."""
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave."""
        self.steps = int(state["steps"])
        self.accuracy_real, self.accuracy_fake = float(state["accuracy_real"]), float(state["accuracy_fake"])
        self.first, self.last = (
            seen and {tag: float(seen[tag]) for tag in _OF_COLOURS} for seen in (state["first"], state["last"])
        )
        self.told = [str(name) for name in state["told"]]
