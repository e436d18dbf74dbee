"""SAGR: Jacobian regularisation with a saliency-aware bias. A reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def sagr(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    weight: Annotated[float, Ge(0)] = 0.03,
    rho: Annotated[float, Gt(0)] = 2.0,
    reading: Literal["saliency_weighted", "all", "positive"] = "saliency_weighted",
    false_rows: Annotated[int, Ge(0)] = 3,
    ramp: Annotated[float, Ge(0)] = 0.1,
) -> Tensor:
    """Cross-entropy plus a Jacobian penalty that depresses false-class and faint sensitivities more than others.

    Phrases of the abstract and the terms they became: "Jacobian regularisation" - squared rows J_k = dz_k/dx; "biased
    weight distribution" - class weights w_k that sum to K; "dominant role of the true class" - w_y < w_k, in the
    ratio rho; "introduced on the positive gradient" - reading "positive"; "differentiates diverse importance of
    gradient sensitivities that would localise input salient areas" - pixel weights v_ki, large where |J_ki| is faint
    (reading "saliency_weighted").

    Reconstruction: The paper is closed access and has no public code; this is built from its abstract. In first
        experiments the class bias alone (readings "all", "positive") did nothing measurable beyond `jacobian`.
    Formula: L = CE + weight/2 mean_b sum_k w_k sum_i v_ki J_ki^2, v_ki = mu_k / (|J_ki| + 0.1 mu_k), mu_k = mean_i
        |J_ki|, v without gradient; w_y = K / (1 + rho (K - 1)), w_k = rho w_y
    Args:
        weight: Weight of the penalty, in pixel space.
        rho: Weight of a false class relative to the true one; 1 leaves no class bias.
        reading: saliency_weighted (pixel weights v); all (v = 1); positive (v = 1, and w only on positive entries, 1 on
            negative ones).
        false_rows: Sampled false classes per image, rescaled by (K - 1) / false_rows; 0 takes all.
        ramp: Share of the training over which the weight rises linearly.
    Cost: 2 forward, 2 + false_rows backward and 1 + false_rows double-backward passes per step
    Paper: SAGR, IEEE Transactions on Information Forensics and Security 2023
    """

    def shown(images: Tensor) -> Tensor:
        logits = model(images)
        return logits.gather(1, _classes(y, logits.shape[1], false_rows, step)).T

    with attacks.frozen(model):
        rows = attacks.input_gradients(shown, x, create_graph=True).flatten(2)
    logits = model(x)
    classes = logits.shape[1]
    true_weight = classes / (1 + rho * (classes - 1))
    weights = torch.full((len(rows), 1, 1), rho * true_weight, device=x.device)
    weights[0] = true_weight
    size = _PENALTIES[reading](rows, weights).sum(2)
    # the sampled false rows stand for all of them
    penalty = size[0] + size[1:].sum(0) * (classes - 1) / (len(rows) - 1)
    rise = min(1.0, step.progress / ramp) if ramp else 1.0
    return F.cross_entropy(logits, y) + rise * weight * 0.5 * penalty.mean()


def _classes(y: Tensor, classes: int, false_rows: int, step: Step) -> Tensor:
    """The true class, then `false_rows` (0: all) different false ones at random, (n, 1 + false_rows)."""
    order = step.draws.fork("rows").uniform(classes)
    order.scatter_(1, y[:, None], -1.0)
    return order.argsort(1)[:, : 1 + (false_rows or classes)]


def _saliency_weighted(rows: Tensor, weights: Tensor) -> Tensor:
    size = rows.detach().abs()
    mean = size.mean(2, keepdim=True)
    return weights * rows.square() * mean / (size + 0.1 * mean).clamp_min(1e-12)


def _positive(rows: Tensor, weights: Tensor) -> Tensor:
    return weights * rows.clamp_min(0).square() + rows.clamp_max(0).square()


# (rows (r, n, d), weights (r, 1, 1)) -> weighted squares (r, n, d)
_PENALTIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "saliency_weighted": _saliency_weighted,
    "all": lambda rows, weights: weights * rows.square(),
    "positive": _positive,
}
