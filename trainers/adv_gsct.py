"""Adv-GSCT: saliency-consensus training against the most offending input. A reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.importance import pixel_map, top
from trainers.base import Step, from_loss


@from_loss
def adv_gsct(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    clean_weight: Annotated[float, Ge(0)] = 0.0,
    offending_weight: Annotated[float, Ge(0)] = 1.0,
    consensus_weight: Annotated[float, Ge(0)] = 1.0,
    offend: Literal["mask", "step", "mask+step"] = "mask+step",
    kappa: Annotated[float, Gt(0), Le(1)] = 0.3,
    fill: Literal["zero", "mean", "noise"] = "zero",
    alpha: Annotated[float, Gt(0)] = 1.25,
) -> Tensor:
    """Cross-entropy on an offending input, and agreement of the saliency at the image with that at the offending input.

    Phrases of the abstract and the terms they became: "target saliency used as a label" - S* without gradient, at the
    offending input; "most offending case, least but essential information" - only the top kappa of the pixels by the
    model's own saliency are kept (offend "mask"), and moved one step up the loss ("step"); "the target is
    discriminative" - cross-entropy there; "consensus" - 1 - cos(S, S*); "no multiple iterative perturbations" - one
    gradient step. The saliency is the gradient of the margin z_y - max_k z_k: raw logits let the cosine be won by a
    gradient common to all of them. The consensus weight rises over the first 10% of the training, eps over the first
    30%.

    Threat: needed
    Reconstruction: The paper is closed access and has no public code; this is built from its abstract. In first
        experiments the consensus alone was not robust, and the mask alone was worse than standard training;
        clean_weight 0 was the robust setting, 1 the accurate one: report both.
    Formula: L = clean_weight CE(f(x), y) + offending_weight CE(f(x'), y) + consensus_weight mean_b [1 - cos(S(x),
        S(x'))], x' = clip(x_m + Proj_eps(u + alpha eps sign grad CE(f(x_m + u)))), x_m = the kept pixels, u uniform
        in the ball
    Args:
        clean_weight: Weight of the cross-entropy on the image.
        offending_weight: Weight of the cross-entropy on the offending input.
        consensus_weight: Weight of the saliency disagreement.
        offend: How the offending input is made: keep salient pixels, one adversarial step, or both.
        kappa: Share of the pixels that are kept.
        fill: What the other pixels become: 0, the batch's mean colour, or uniform noise.
        alpha: Length of the adversarial step in units of eps.
    Cost: 4 forward, 4 backward and 1 double-backward passes per step
    Pitfalls: never publish PGD-only figures of saliency-trained models; run AutoAttack.
    Paper: Adv-GSCT, IEEE Transactions on Dependable and Secure Computing 2024
    """

    def saliency(images: Tensor, create_graph: bool = False) -> Tensor:
        return attacks.input_gradient(
            lambda x: -attacks.margin(model(x), y), images, create_graph=create_graph
        )

    with attacks.frozen(model):
        own = saliency(x, create_graph=consensus_weight > 0)
        offending = x
        if "mask" in offend:
            kept = top(pixel_map(own.detach()), kappa, step.draws)
            offending = torch.where(kept[:, None], x, _FILLS[fill](x, step))
        if "step" in offend:
            offending = _one_step(model, offending, y, step, alpha)
        target = saliency(offending)
    disagreement = 1 - F.cosine_similarity(own.flatten(1), target.flatten(1)).mean()
    rise = min(1.0, step.progress / 0.1)
    loss = offending_weight * F.cross_entropy(model(offending), y)
    if clean_weight:
        loss = loss + clean_weight * F.cross_entropy(model(x), y)
    return loss + rise * consensus_weight * disagreement


def _one_step(model: nn.Module, x: Tensor, y: Tensor, step: Step, alpha: float) -> Tensor:
    """FGSM from a random start, as in fast adversarial training, with eps rising over the first 30%."""
    threat = step.threat.scaled(min(1.0, step.progress / 0.3))
    start = threat.noise(x, step.draws)
    gradient = attacks.input_gradient(
        lambda images: attacks.cross_entropy(model(images), y), x + start
    )
    return x + threat.project(x, start + threat.step(gradient, alpha * threat.eps))


_FILLS: dict[str, Callable[[Tensor, Step], Tensor]] = {
    "zero": lambda x, step: torch.zeros_like(x),
    "mean": lambda x, step: x.mean((0, 2, 3), keepdim=True).expand_as(x),
    "noise": lambda x, step: step.draws.fork("fill").uniform(*x.shape[1:]),
}
