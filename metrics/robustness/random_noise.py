"""Uniform noise."""

from __future__ import annotations

from itertools import repeat
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness._rounds import batched, rounds


def random_noise(case: Case, *, samples: Annotated[int, Ge(1)] = 10) -> Scores:
    """Accuracy under noise uniform in the ball; an image is broken if any of the samples breaks it.

    Not an attack but what an attack must beat: a gradient attack that is no stronger than noise has no gradient.

    Label: Noise
    Threat: needed
    Formula: x' = clip(x + U(ball)), the worst of `samples`
    Measures:
        robust_accuracy (higher, 0..1): Correct on the noisy image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that are misclassified unchanged).
        invalid (lower, 0..1): The noisy image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the noisy image; positive where it is misclassified.
    Args:
        samples: Draws for each image.
    Cost: `samples` forward passes per image
    Pitfalls: says nothing of robustness to an adversary.
    Paper: Carlini et al. 2019, "On evaluating adversarial robustness", section 4.3 (brute-force random search)
    """
    threat = case.needs_threat()

    def noisy(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        return x + attacks.random_start(x, threat, draws)

    turns = repeat(batched(noisy), samples)
    return case.grade(rounds(case, turns, case.draws.fork("random_noise")))
