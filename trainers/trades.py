"""TRADES: accuracy on clean images against agreement within the ball."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
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
    flows through both predictions, as in the authors' code.

    Threat: needed
    Formula: L = CE(f(x), y) + beta KL(p(x) || p(x')), x' = argmax of the KL over the ball by PGD
    Args:
        beta: Weight of the divergence.
        steps: Gradient steps of the inner maximisation.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps.
    Cost: steps + 2 forward and backward passes per step
    Paper: Zhang et al. 2019, "Theoretically principled trade-off between robustness and accuracy"
    """
    threat = step.threat
    with attacks.frozen(model):
        clean = model(x).detach()
    adversarial = attacks.pgd(
        model, x, y, threat,
        steps=steps,
        step_size=2.5 * threat.eps / steps if step_size is None else step_size,
        loss=lambda logits, _: _divergence(clean, logits),
        start=0.001 * step.draws.normal(*x.shape[1:]),
    )  # fmt: skip
    logits = model(x)
    return F.cross_entropy(logits, y) + beta * _divergence(logits, model(adversarial)).mean()


def _divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p || p') per image, shape (n,)."""
    p, q = clean.log_softmax(1), adversarial.log_softmax(1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)
