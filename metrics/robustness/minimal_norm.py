"""The smallest perturbation that changes the prediction."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness._fab import nearest, shortened
from metrics.robustness._rounds import in_equal_batches, margins, misclassified


def minimal_norm(
    case: Case,
    *,
    targets: Annotated[int, Ge(1)] = 9,
    steps: Annotated[int, Ge(1)] = 100,
    restarts: Annotated[int, Ge(1)] = 1,
) -> Scores:
    """Norm of the smallest perturbation found, per image: how far the nearest error is, at no given eps.

    Found by FAB for each target class and shortened by bisection. Of the threat only the norm matters (restarts begin
    within eps).

    Label: Minimal norm
    Threat: needed
    Formula: min ||x' - x||_p over the misclassified x' in [0, 1]^d that were found
    Measures:
        norm (higher, 0..inf): Smallest norm found; 0 if the unchanged image is misclassified; where nothing was found,
            the largest norm there is in [0, 1]^d from this image.
        found (none, 0..1): A misclassified image was found.
    Args:
        targets: Classes aimed at, the likeliest first; K - 1 at most.
        steps: Moves of FAB for each target.
        restarts: Searches for each target; the first starts at the image, the others in the ball around it.
    Cost: targets x steps x restarts gradients and as many forward passes per image
    Pitfalls: an upper bound of the distance to the nearest error; the mean is led by the images where it is loose. The
        median over images is the robuster summary.
    Paper: Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack"
    """
    threat, model, y = case.needs_threat(), case.model, case.y
    norm = threat.size(case.x.where(case.x > 0.5, 1 - case.x))
    norm[misclassified(model, case.x, y, case.draws)] = 0
    found = (norm == 0).float()

    def search(x: Tensor, y: Tensor, draws: Draws, *, rank: int, restart: int) -> Tensor:
        image = nearest(model, x, y, threat, draws, rank=rank, restart=restart, steps=steps)
        return shortened(model, x, y, image)

    left = (norm > 0).nonzero().squeeze(1)
    for rank, restart in product(range(min(targets, case.classes - 1)), range(restarts)):
        if not len(left):
            break
        draws = case.draws[left].fork("minimal_norm", rank, restart)
        one = partial(search, rank=rank, restart=restart)
        image = in_equal_batches(one, case.x[left], y[left], draws)
        size = threat.size(image - case.x[left])
        better = (margins(model, image, y[left], draws) > 0) & (size < norm[left])
        norm[left[better]], found[left[better]] = size[better], 1
    return {"norm": norm, "found": found}
