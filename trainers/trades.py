"""TRADES: accuracy on clean images against agreement within the ball."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from trainers._divergence import divergence, most_divergent
from trainers.base import Step, from_loss


@from_loss
def trades(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    beta: Annotated[float, Ge(0)] = 6.0,
    steps: Annotated[int, Ge(1)] = 10,
    step_size: Annotated[float, Gt(0)] | None = None,
) -> Tensor:
    """Cross-entropy on clean images plus the divergence of the prediction within the ball.

    The inner maximisation starts from 0.001 N(0, I) and sees the model in eval mode; the gradient of the outer loss
    flows through both predictions, as in the authors' code. Theirs steps by 0.226 eps under Linf (CIFAR-10: 0.007 of
    0.031), here 0.25 eps; under L2 by 2 eps / steps, and it cuts to [0, 1] before the ball, here after it.
    On MNIST theirs takes 40 steps of 0.01, here 10.

    Threat: needed
    Formula: L = CE(f(x), y) + beta KL(p(x) || p(x')), x' = argmax of the KL over the ball by PGD
    Args:
        beta: Weight of the divergence.
        steps: Gradient steps of the inner maximisation.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps.
    Cost: steps + 3 forward and steps + 2 backward passes per step
    Paper: Zhang et al. 2019, "Theoretically principled trade-off between robustness and accuracy"
    """
    adversarial = most_divergent(model, x, step, steps=steps, step_size=step_size)
    logits = model(x)
    return F.cross_entropy(logits, y) + beta * divergence(logits, model(adversarial)).mean()
