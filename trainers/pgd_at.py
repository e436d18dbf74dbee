"""PGD adversarial training."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def pgd_at(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    steps: Annotated[int, Ge(1)] = 10,
    step_size: Annotated[float, Gt(0)] | None = None,
    loss: Literal["xent", "margin", "dlr"] = "xent",
    random_start: bool = True,
    attack_bn: attacks.Statistics = "eval",
) -> Tensor:
    """Cross-entropy on adversarial images only, made anew in each step.

    Authors' own steps: 40 of 0.01 on MNIST at Linf 0.3 (Madry et al.), 10 of 15/255 on CIFAR-10 at L2 128/255 (Rice et
    al.), where the default is 10 of eps / 4: 0.075 and 32/255.

    Threat: needed
    Formula: L = CE(f(x'), y), x' = argmax of the attack loss over the ball by PGD
    Args:
        steps: Gradient steps of the attack.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps (2/255 for 10 steps at 8/255).
        loss: What the attack raises: cross-entropy; the margin max_{k != y} z_k - z_y (the "cw" of Kim et al. 2019, but
            theirs stops at a margin of 500 and counts the largest false logit as at least 0); or dlr, the margin over
            the gap of the largest logit to the third.
        random_start: Start uniformly in the ball, otherwise at the image.
        attack_bn: The mode in which the attack sees BatchNorm; train is that of Madry et al. and of Rice et al.
    Cost: steps + 1 forward and backward passes per step
    Paper: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"
    """
    threat = step.threat
    start = attacks.random_start(x, threat, step.draws) if random_start else None
    size = 2.5 * threat.eps / steps if step_size is None else step_size
    adversarial = attacks.pgd(
        model, x, y, threat,
        steps=steps, step_size=size, loss=attacks.LOSSES[loss], start=start, statistics=attack_bn,
    )  # fmt: skip
    return F.cross_entropy(model(adversarial), y)
