"""Adversarial examples that were made on another model."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches


def transfer(
    case: Case,
    *,
    source: str = "standard",
    steps: Annotated[int, Ge(1)] = 20,
    step_size: Annotated[float, Gt(0)] | None = None,
) -> Scores:
    """Accuracy on the adversarial examples of another model of the same data: what an attacker without access has.

    The source is the classifier that the trainer `source` gives with the suite's recipe and the same seed (the run's
    own, where it has one), or one of the suite's third-party models. A trainer with a threat trains against the threat
    of the evaluation.

    Label: Transfer from {source}
    Threat: needed
    Formula: x <- Proj(x + step_size * ascent(grad_x CE(g(x), y))) from x + U(ball), g the source; then 1[f(x) = y]
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation.
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
    Args:
        source: The trainer, or the file of one, whose model the examples are made on; or a model of the suite, as it
            stands there (file:..., robustbench:..., ...).
        steps: Gradient steps.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps, which leads across the ball whatever the
            number of steps: eps / 8 for 20. Many papers take PGD-20 with 2/255 at 8/255, eps / 4: give it as 0.00784.
    Cost: `steps` gradients of the source per image; the training of the source where the run has none like it
    Pitfalls: far weaker than a white-box attack. A model that breaks here more often than under PGD on itself masks
        its gradients. Does not apply to the source itself. The examples of a standard model hardly carry over to robust
        ones: take a robust source (`pgd_at`) beside it.
    Paper: Papernot, McDaniel & Goodfellow 2016, "Transferability in machine learning: from phenomena to black-box
        attacks using adversarial samples"
    """
    threat = case.needs_threat()
    step = 2.5 * threat.eps / steps if step_size is None else step_size
    other = case.surrogate(source)

    def attack(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        start = attacks.random_start(x, threat, draws)
        return attacks.pgd(other, x, y, threat, steps=steps, step_size=step, start=start)

    return case.grade(in_equal_batches(attack, case.x, case.y, case.draws.fork("transfer")))
