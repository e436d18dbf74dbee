"""Checks of what attacks climb: gradients that arrive, agree with the outputs, and hide in no loop."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.gradient_masking import Finding
from benchmark.preflight._operators import Operators
from benchmark.preflight._subject import Subject, found, near
from metrics import attacks
from metrics.randomness import Draws
from metrics.threat import Linf


def gradients_alive(subject: Subject) -> Finding:
    try:
        gradient = subject.gradient(attacks.margin, *subject.few)
    except RuntimeError:  # torch's, if the image takes no part in the logits
        return found("detached")
    alive = gradient.flatten(1).abs().amax(1) > 0
    return found("zero-gradient", wrong=bool(alive.float().mean() < 0.5))


def saturation(subject: Subject) -> Finding:
    losses = (attacks.cross_entropy, attacks.margin)
    sure, alive = (subject.gradient(loss, *subject.few).flatten(1).abs().amax(1) for loss in losses)
    return found("saturated", wrong=bool(((sure == 0) & (alive > 0)).float().mean() > 0.1))


def agreement(subject: Subject) -> Finding:
    """The slope along the gradient, by differences, is the gradient's length. The nearer of two step sizes counts:
    the smaller one crosses no kinks, the larger one is above the rounding of float32."""
    x, y = subject.few
    # away from 0 and 1, where models may clamp, and from equal pixels, where max-pooling has a kink
    noise = Draws(0, torch.arange(len(x), device=x.device)).uniform(*x.shape[1:])
    x = 0.85 * x + 0.05 + 0.05 * noise
    gradient = subject.gradient(attacks.margin, x, y)
    length = gradient.flatten(1).norm(dim=1)
    along = gradient / length.clamp_min(1e-30).view(-1, *[1] * (x.dim() - 1))
    rounding = 1e-6 * subject.logits(x).abs().amax(1)

    def error(size: float) -> Tensor:
        above, below = (
            attacks.margin(subject.logits(x + step * along), y) for step in (size, -size)
        )
        rise = size * length
        return (((above - below) / 2 - rise).abs() - rounding).clamp_min(0) / rise

    nearest = torch.stack([error(1e-3), error(1e-2)]).amin(0)
    return found("gradient-mismatch", wrong=bool(nearest.nanmedian() > 0.2))


def single_pass(subject: Subject) -> Finding:
    """Watched while it runs: autograd unpacks saved tensors only in a backward pass, and where the whole network is run
    again and again, so is its last layer (that of a recurrent network is run once, its cell often)."""
    unpacked: list[Tensor] = []

    def unpack(tensor: Tensor) -> Tensor:
        unpacked.append(tensor)
        return tensor

    try:
        with (
            attacks.frozen(subject.model),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack),
            Operators() as seen,
        ):
            subject.model(subject.few[0].clone())
    except RuntimeError:  # torch.func's gradients refuse to be watched
        return found("inner-loop")
    if unpacked:
        return found("inner-loop")
    return found(
        "many-passes", wrong=seen.weights.count(seen.weights[-1]) >= 3 if seen.weights else False
    )


def consistent(subject: Subject) -> Finding:
    x, y = subject.few
    plain = subject.logits(x)
    with attacks.frozen(subject.model), torch.enable_grad():
        watched = subject.model(x.clone().requires_grad_()).detach()
    attacked = subject.logits(attacks.fgsm(subject.model, x, y, Linf(0.0)))
    same = near(watched, plain, 1e-4) and near(attacked, plain, 1e-4)
    return found("clean-differs", wrong=not same)
