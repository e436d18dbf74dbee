"""Projected gradient descent with restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores, in_batches
from metrics.randomness import Draws


def pgd(
    case: Case,
    *,
    steps: Annotated[int, Ge(1)] = 20,
    restarts: Annotated[int, Ge(1)] = 1,
    step_size: Annotated[float, Gt(0)] | None = None,
    loss: Literal["xent", "margin"] = "xent",
) -> Scores:
    """Accuracy under projected gradient ascent from random starts; an image is broken if any restart breaks it.

    Label: PGD-{steps}
    Threat: needed
    Formula: x <- Proj(x + step_size * ascent(grad_x loss(f(x), y))), steps times from x + U(ball)
    Measures:
        robust_accuracy (higher, 0..1): Correct on the strongest attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation.
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
    Args:
        steps: Gradient steps of each restart.
        restarts: Random starts; the one with the largest margin counts.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps.
        loss: Cross-entropy, or the margin max_k z_k - z_y.
    Cost: steps x restarts gradients per image
    Pitfalls: an upper bound of robust accuracy only; masked gradients make it look good.
    Paper: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"
    """
    threat = case.needs_threat()
    step = 2.5 * threat.eps / steps if step_size is None else step_size

    def attack(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        def candidates() -> Iterator[Tensor]:
            for restart in range(restarts):
                start = attacks.random_start(x, threat, draws.fork("restart", restart))
                yield attacks.pgd(
                    case.model, x, y, threat,
                    steps=steps, step_size=step, loss=attacks.LOSSES[loss], start=start,
                )  # fmt: skip

        return attacks.strongest(case.model, x, y, candidates())

    return case.grade(in_batches(attack, case.x, case.y, case.draws.fork("pgd")))
