"""The fast gradient sign attack."""

from __future__ import annotations

from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness._rounds import batched, rounds


def fgsm(case: Case) -> Scores:
    """Accuracy under one gradient step of length eps.

    Label: FGSM
    Threat: needed
    Formula: x' = clip(x + eps sign(grad_x CE(f(x), y))); with L2 eps g/||g||, with L1 eps over the 5 % largest entries
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that are misclassified unchanged).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
    Cost: one gradient per image
    Pitfalls: far too weak to show robustness; useful against PGD, to see masked gradients.
    Paper: Goodfellow, Shlens & Szegedy 2015, "Explaining and harnessing adversarial examples"
    """
    threat = case.needs_threat()

    def step(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        return attacks.fgsm(case.model, x, y, threat)

    return case.grade(rounds(case, [batched(step)], case.draws))
