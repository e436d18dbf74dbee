"""The fast gradient sign attack."""

from __future__ import annotations

from metrics import attacks
from metrics.case import Case, Scores, in_batches


def fgsm(case: Case) -> Scores:
    """Accuracy under one gradient step of length eps.

    Label: FGSM
    Threat: needed
    Formula: x' = clip(x + eps sign(grad_x CE(f(x), y))); with L2, eps g/||g||
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation.
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
    Cost: one gradient per image
    Pitfalls: far too weak to show robustness; useful against PGD, to see masked gradients.
    Paper: Goodfellow, Shlens & Szegedy 2015, "Explaining and harnessing adversarial examples"
    """
    threat = case.needs_threat()
    return case.grade(
        in_batches(lambda x, y: attacks.fgsm(case.model, x, y, threat), case.x, case.y)
    )
