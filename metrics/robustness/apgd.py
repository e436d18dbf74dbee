"""Auto-PGD with restarts and targets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness import _apgd
from metrics.robustness._rounds import Attack, batched, rival, rounds


def apgd(
    case: Case,
    *,
    loss: Literal["xent", "dlr", "margin", "targeted"] = "xent",
    steps: Annotated[int, Ge(1)] = 100,
    restarts: Annotated[int, Ge(1)] = 1,
    targets: Annotated[int, Ge(1)] = 9,
) -> Scores:
    """Accuracy under projected gradient ascent that sets its own step size, from random starts.

    The step size is halved, and the ascent goes on from its best point, where the loss stalls. An image is broken if
    any restart, and for the targeted loss any target, breaks it.

    Label: APGD-{loss}
    Threat: needed
    Formula: z = P(x_k + s_k ascent(grad loss)), x_k+1 = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_k-1)); s_0 = 2 eps,
        halved at the checkpoints 22, 41, 57, 70, 80, 87, 93, 99 % if less than 3/4 of the steps since the last raised
        the loss, or neither s nor the highest loss changed. L1: no momentum, steps along as many entries as the best
        perturbation has (over 1.5), exact projection, 30, 30 and 40 % of the steps in balls of 3, 2 and 1 times eps
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that are misclassified unchanged).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
    Args:
        loss: Cross-entropy; difference of logits ratio (with 2 classes the margin, as it needs 3); the margin
            max_k z_k - z_y; or the targeted difference of logits ratio (with 2 or 3 classes z_t - z_y, as it needs 4).
        steps: Gradient steps of each ascent.
        restarts: Random starts (for each target).
        targets: Classes that loss = "targeted" aims at, one after another, the likeliest first; K - 1 at most.
    Cost: steps x restarts gradients per image that holds, times `targets` for the targeted loss
    Pitfalls: an upper bound of robust accuracy only. Cross-entropy has no gradient where a model is very sure; the
        difference of logits ratio does not depend on the scale of the logits.
    Paper: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks"; for L1 Croce & Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers"
    """
    threat = case.needs_threat()

    def climb(x: Tensor, y: Tensor, draws: Draws, *, rank: int | None) -> Tensor:
        raised = attacks.LOSSES[loss] if rank is None else _towards(case, x, y, rank)
        start = attacks.random_start(x, threat, draws)
        return _apgd.apgd(case.model, x, y, threat, raised, start=start, steps=steps)

    def turns() -> Iterator[Attack]:
        ranks = range(min(targets, case.classes - 1)) if loss == "targeted" else [None]
        for rank in ranks:
            for _ in range(restarts):
                yield batched(partial(climb, rank=rank))

    return case.grade(rounds(case, turns(), case.draws.fork("apgd", loss)))


def _towards(case: Case, x: Tensor, y: Tensor, rank: int) -> attacks.Loss:
    """The targeted loss for the class that is `rank`-th on the unchanged images."""
    with torch.no_grad():
        target = rival(case.model(x), y, rank)
    return lambda logits, labels: _apgd.dlr_targeted(logits, labels, target)
