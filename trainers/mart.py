"""MART: adversarial training that minds which images are misclassified."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers._divergence import divergence
from trainers.base import Step, from_loss


@from_loss
def mart(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    beta: Annotated[float, Ge(0)] = 5.0,
    steps: Annotated[int, Ge(1)] = 10,
    step_size: Annotated[float, Gt(0)] | None = None,
) -> Tensor:
    """Boosted cross-entropy on adversarial images, plus the divergence in the ball where the clean image is uncertain.

    "Boosted": the most likely wrong class is pushed down as well. The attack raises the cross-entropy from
    0.001 N(0, I) and sees the model in eval mode; the gradient flows through both predictions and through the weight
    1 - p_y(x), as in the authors' code, whose small constants are kept but for the one inside the divergence (it counts
    where a probability is below 1e-12), and whose step is 0.226 eps (0.007 of 0.031), here 0.25 eps.

    Threat: needed
    Formula: L = CE(f(x'), y) - log(1.0001 - max_{k != y} p_k(x') + 1e-12) + beta KL(p(x) || p(x')) (1.0000001 -
        p_y(x)), x' = argmax CE over the ball by PGD
    Args:
        beta: Weight of the divergence (the authors: 5 for ResNet-18, 6 for a wide ResNet).
        steps: Gradient steps of the attack.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps.
    Cost: steps + 2 forward and backward passes per step
    Paper: Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples"
    """
    threat = step.threat
    adversarial = attacks.pgd(
        model, x, y, threat,
        steps=steps,
        step_size=2.5 * threat.eps / steps if step_size is None else step_size,
        start=0.001 * step.draws.normal(*x.shape[1:]),
    )  # fmt: skip
    # not in bfloat16, where every probability above 0.998 is 1
    clean, attacked = model(x).to(x.dtype), model(adversarial).to(x.dtype)
    true = clean.softmax(1).gather(1, y[:, None]).squeeze(1)
    rival = attacked.softmax(1).scatter(1, y[:, None], 0).amax(1)
    boosted = F.cross_entropy(attacked, y) - (1.0001 - rival + 1e-12).log().mean()
    return boosted + beta * (divergence(clean, attacked) * (1.0000001 - true)).mean()
