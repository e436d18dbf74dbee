"""The Square Attack."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from annotated_types import Ge, Gt, Le
from torch import Tensor

from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness import _square
from metrics.robustness._rounds import Attack, in_equal_batches, margins, rounds

SPAN = 100
"""Queries until the broken images are left out of the batches."""


def square(
    case: Case,
    *,
    queries: Annotated[int, Ge(1)] = 5000,
    restarts: Annotated[int, Ge(1)] = 1,
    area: Annotated[float, Gt(0), Le(1)] = 0.8,
) -> Scores:
    """Accuracy under random search without gradients: a square of the image is changed, and kept if the margin grows.

    Where it breaks more than an attack by gradients, gradients are masked.

    Label: Square
    Threat: needed
    Formula: x <- x' if margin(x') > margin(x), x' = x with one square changed; its area is halved after 10, 50, 200,
        500, 1000, 2000, 4000, 6000 and 8000 queries. Linf: +-eps in the square; L2 and L1: the budget
        of another window moves there with a bump of random signs
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that are misclassified unchanged).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
    Args:
        queries: Forward passes for each image.
        restarts: Searches from other first perturbations.
        area: Part of the image that the first squares cover.
    Cost: queries x restarts forward passes for each image that holds
    Pitfalls: weaker than gradients where they are honest; few queries show nothing. The areas do not follow `queries`
        (as in AutoAttack; the paper stretches them), so that more queries can only break more.
    Paper: Andriushchenko et al. 2020, "Square attack: a query-efficient black-box adversarial attack via random search"
    """
    threat, model = case.needs_threat(), case.model
    squares = _square.SQUARES[type(threat)](threat)

    def search(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        delta = in_equal_batches(squares.begin, x, draws.fork("begin"))
        for begin in range(0, queries, SPAN):
            left = (margins(model, x + delta, y, draws) <= 0).nonzero().squeeze(1)
            if not len(left):
                break
            span = partial(
                _square.search, model, squares=squares, first=area,
                span=range(begin, min(begin + SPAN, queries)),
            )  # fmt: skip
            delta[left] = in_equal_batches(span, x[left], y[left], delta[left], draws[left])
        return x + delta

    def turns() -> Iterator[Attack]:
        for _ in range(restarts):
            yield search

    return case.grade(rounds(case, turns(), case.draws.fork("square")))
