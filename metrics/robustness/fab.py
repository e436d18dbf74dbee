"""The fast adaptive boundary attack, targeted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness._fab import nearest
from metrics.robustness._rounds import Attack, batched, rounds


def fab(
    case: Case,
    *,
    targets: Annotated[int, Ge(1)] = 9,
    steps: Annotated[int, Ge(1)] = 100,
    restarts: Annotated[int, Ge(1)] = 1,
) -> Scores:
    """Accuracy under an attack that looks for the nearest misclassified image; eps only judges what it finds.

    It does not follow a loss but the linearised boundary to one other class after another, so it does not mind how the
    logits are scaled. An image is broken if the nearest misclassified image found is in the ball.

    Label: FAB-T
    Threat: needed
    Formula: x <- clip((1 - a)(x + 1.05 d) + a (x_0 + 1.05 d_0)), d and d_0 the smallest moves in [0, 1] from x and from
        the image x_0 onto {z_t - z_y linearised at x = 0}, a = min(||d|| / (||d|| + ||d_0||), 0.1); on the other side
        x <- x_0 + 0.9 (x - x_0)
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that are misclassified unchanged).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
    Args:
        targets: Classes aimed at, one after another, the likeliest first; K - 1 at most.
        steps: Moves for each target.
        restarts: Searches for each target; the first starts at the image, the others in the ball around it.
    Cost: targets x steps x restarts gradients and as many forward passes for each image that holds
    Pitfalls: where gradients are masked the linearised boundary is in the wrong place.
    Paper: Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack"
    """
    threat = case.needs_threat()

    def search(x: Tensor, y: Tensor, draws: Draws, *, rank: int, restart: int) -> Tensor:
        found = nearest(case.model, x, y, threat, draws, rank=rank, restart=restart, steps=steps)
        # beyond eps it is only an attempt; inside, what is left of the ball is used to get away from the boundary
        inside = threat.project(x, found - x)
        beyond = threat.project(x, 1.05 * (found - x))
        return attacks.strongest(case.model, x, y, iter([x + inside, x + beyond]))

    def turns() -> Iterator[Attack]:
        for rank in range(min(targets, case.classes - 1)):
            for restart in range(restarts):
                yield batched(partial(search, rank=rank, restart=restart))

    return case.grade(rounds(case, turns(), case.draws.fork("fab")))
