"""Projected gradient descent with restarts."""

from __future__ import annotations

from itertools import repeat
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness._rounds import batched, rounds

_LOSSES = attacks.LOSSES | {"cw": attacks.margin}


def pgd(
    case: Case,
    *,
    steps: Annotated[int, Ge(1)] = 20,
    restarts: Annotated[int, Ge(1)] = 1,
    step_size: Annotated[float, Gt(0)] | None = None,
    loss: Literal["xent", "margin", "cw", "dlr"] = "xent",
) -> Scores:
    """Accuracy under projected gradient ascent from random starts; an image is broken if any restart breaks it.

    Label: PGD-{steps}
    Threat: needed
    Formula: x <- Proj(x + step_size * ascent(grad_x loss(f(x), y))), steps times from x + U(ball)
    Measures:
        robust_accuracy (higher, 0..1): Correct on the strongest attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that are misclassified unchanged).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
    Args:
        steps: Gradient steps of each restart.
        restarts: Random starts, each tried on the images that no earlier one broke.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps, which leads across the ball whatever the
            number of steps: eps / 8 for 20. Many papers take PGD-20 with 2/255 at 8/255, eps / 4: give it as 0.00784.
        loss: Cross-entropy; the margin max_k z_k - z_y (the loss of Carlini & Wagner, also called cw); or the
            difference of logits ratio, which does not depend on the scale of the logits (with 2 classes the margin,
            as it needs 3).
    Cost: steps x restarts gradients per image
    Pitfalls: an upper bound of robust accuracy only; masked gradients make it look good. Under L1, where steps go along
        5 % of the entries, it is far weaker than APGD.
    Paper: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"
    """
    threat = case.needs_threat()
    step = 2.5 * threat.eps / steps if step_size is None else step_size

    def attack(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        return attacks.pgd(
            case.model, x, y, threat, steps=steps, step_size=step, loss=_LOSSES[loss],
            start=attacks.random_start(x, threat, draws),
        )  # fmt: skip

    turns = repeat(batched(attack), restarts)
    return case.grade(rounds(case, turns, case.draws.fork("pgd")))
