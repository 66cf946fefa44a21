"""Reconstruction and GAN objectives: pure functions on tensors, always in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor


def reconstruction(fake: Tensor, real: Tensor, kind: str = "l1") -> Tensor:
    """Distance between generated and true colour.

    Args:
        fake: ab (N, 2, H, W) float, (a*, b*)/110; or sRGB (N, 3, H, W) float, in 0..1.
        real: the same of the photographs.
        kind: "l1", "l2" or "smooth_l1" (quadratic below 0.1, in ab 11 Lab units).

    Returns:
        Scalar float32, mean over everything.

    Raises:
        ValueError: kind is none of these.
    """
    fake, real = fake.float(), real.float()
    if kind == "l1":
        return F.l1_loss(fake, real)
    if kind == "l2":
        return F.mse_loss(fake, real)
    if kind == "smooth_l1":
        return F.smooth_l1_loss(fake, real, beta=0.1)
    raise ValueError(f'kind must be "l1", "l2" or "smooth_l1", got "{kind}"')


def discriminator_loss(patch_logits: Tensor, is_real: bool, objective: str = "vanilla") -> Tensor:
    """The discriminator's loss on real or on generated photographs.

    Args:
        patch_logits: (N, 1, h, w) float.
        is_real: whether the photographs were real.
        objective: "vanilla" (cross-entropy; Goodfellow et al. 2014), "lsgan" (squared error to 1 and 0;
            Mao et al. 2017) or "hinge" (Lim & Ye 2017).

    Returns:
        Scalar float32, mean over patches.

    Raises:
        ValueError: objective is none of these.
    """
    logits = patch_logits.float()
    if objective == "hinge":
        return F.relu(1 - logits if is_real else 1 + logits).mean()
    return _distance_to(logits, 1.0 if is_real else 0.0, objective)


def generator_loss(patch_logits: Tensor, objective: str = "vanilla") -> Tensor:
    """The generator's GAN loss: how far the discriminator is from taking its photographs for real.

    Args:
        patch_logits: (N, 1, h, w) float, of generated photographs.
        objective: "vanilla" (the non-saturating form), "lsgan" or "hinge".

    Returns:
        Scalar float32, mean over patches.

    Raises:
        ValueError: objective is none of these.
    """
    logits = patch_logits.float()
    if objective == "hinge":
        return -logits.mean()
    return _distance_to(logits, 1.0, objective)


def r1(patch_logits: Tensor, colours: Tensor) -> Tensor:
    """How steeply the discriminator's judgement of photographs rises with their colours.

    Args:
        patch_logits: (N, 1, h, w) float32, of real photographs, each photograph's a function of its own colours alone.
        colours: (N, C, H, W) float32, as the discriminator saw them; requires grad.

    Returns:
        Scalar float32: the squared norm of the gradient of a photograph's mean logit, mean over photographs. It can be
        differentiated again.

    Source: Mescheder, Geiger, Nowozin, "Which training methods for GANs do actually converge?", 2018, eq. 9, without
    gamma / 2.
    """
    judged = patch_logits.mean(dim=(1, 2, 3)).sum()
    (gradient,) = torch.autograd.grad(judged, colours, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def accuracy(patch_logits: Tensor, is_real: bool, objective: str = "vanilla") -> Tensor:
    """Share of patches the discriminator judges rightly.

    Args:
        patch_logits: (N, 1, h, w) float.
        is_real: whether the photographs were real.
        objective: as in `discriminator_loss`; lsgan decides at 0.5, the others at 0.

    Returns:
        Scalar float32, 0..1.
    """
    taken_for_real = patch_logits > (0.5 if objective == "lsgan" else 0.0)
    return (taken_for_real == is_real).float().mean()


def _distance_to(logits: Tensor, label: float, objective: str) -> Tensor:
    target = torch.full_like(logits, label)
    if objective == "vanilla":
        return F.binary_cross_entropy_with_logits(logits, target)
    if objective == "lsgan":
        return F.mse_loss(logits, target)
    raise ValueError(f'objective must be "vanilla", "lsgan" or "hinge", got "{objective}"')
