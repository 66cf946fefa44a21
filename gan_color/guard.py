"""Keeps a training from making an update that is not finite."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from gan_color import distributed

# Half precision scales its losses up and halves the scale at each overflow: below this it has been in vain for long.
_LEAST_SCALE = 1e-3


def can_fuse(device: torch.device) -> bool:
    """Whether the fused optimizers of a device leave out an update when `found_inf` says so, which MPS's never read."""
    return device.type != "mps"


class Guard:
    """Makes the updates of a stage, and from the first on that is not finite none any more.

    Nothing here waits for the device: the fused optimizers read there whether to leave an update out (MPS's do not, so
    there it is waited for). The loop reads `tripped` when it reads the losses, and before it saves.

    Args:
        device: of the networks.
    """

    def __init__(self, device: torch.device):
        # 1 once a loss or a gradient, of this or of another process, was not finite; else 0.
        self.tripped = torch.zeros((), device=device)

    def update(self, optimizer: Optimizer, scaler: torch.amp.GradScaler, loss: Tensor) -> None:
        """Move an optimizer's parameters along their gradients, unless loss or gradients are not finite.

        Args:
            optimizer: a fused one where `can_fuse`.
            scaler: of half precision; it leaves out updates that overflow by itself, and lowers its scale.
            loss: scalar, on the device, that the gradients are of.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if scaler.is_enabled():
            finite = loss.isfinite() & (scaler.scale(torch.ones_like(loss)) >= _LEAST_SCALE)
        else:
            # The largest entry, not the sum of squares, which would overflow by itself.
            finite = (torch.nn.utils.get_total_norm(gradients, float("inf")) + loss).isfinite()
        self.tripped = distributed.largest_over_processes(torch.maximum(self.tripped, (~finite).float()))
        if scaler.is_enabled():
            # The scaler leaves out an update in which a gradient is infinite.
            gradients[0].add_(torch.where(self.tripped > 0, torch.inf, 0.0))
            scaler.step(optimizer)
            scaler.update()
        elif not optimizer.defaults["fused"]:
            if not self.tripped:
                optimizer.step()
        else:
            optimizer.found_inf = self.tripped
            optimizer.step()
            del optimizer.found_inf
