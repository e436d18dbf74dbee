"""Input-gradient regularisation by finite differences, without double backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.threat import L2
from trainers.base import Step, from_loss


@from_loss
def finite_difference(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    weight: Annotated[float, Ge(0)] = 0.1,
    h: Annotated[float, Gt(0)] = 0.01,
    norm: Literal["L2", "L1"] = "L2",
) -> Tensor:
    """Cross-entropy plus the squared slope of each image's loss along its own gradient, as a difference quotient.

    As h falls the penalty becomes weight/2 ||grad_x l||_2^2 (L2) or weight/2 ||grad_x l||_1^2 / d (L1), d the number of
    pixel values. Both losses of the quotient are taken in eval mode, the authors' in train mode, where BatchNorm
    would make the slope of an image depend on the others; and always in float32: their difference would drown in
    bfloat16.

    Formula: L = CE(f(x), y) + weight/2 mean_b ((l(x_b + h v_b) - l(x_b)) / h)^2, l = CE(f(x), y), v = g / ||g||_2 (L2)
        or sign(g) / sqrt(d) (L1), g = grad_x l, v without gradient
    Args:
        weight: Weight of the penalty, in pixel space (0.1: the authors' on CIFAR-10).
        h: Length of the step in pixel units, Euclidean.
        norm: The norm of the gradient that is penalised, dual to the attack's: L2 against L2, L1 against Linf.
    Cost: 4 forward and 4 backward passes per step
    Paper: Finlay & Oberman 2019, "Scaleable input gradient regularization for adversarial robustness"
    """

    def loss(images: Tensor) -> Tensor:
        return attacks.cross_entropy(model(images), y)

    with attacks.frozen(model), torch.autocast(x.device.type, enabled=False):
        direction = _DIRECTIONS[norm](attacks.input_gradient(loss, x))
        slope = (loss(x + h * direction) - loss(x)) / h
    return F.cross_entropy(model(x), y) + weight * 0.5 * slope.square().mean()


# gradients (n, C, H, W) -> directions of Euclidean length at most 1
_DIRECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "L2": lambda gradient: L2(1).step(gradient, 1),
    "L1": lambda gradient: gradient.sign() / math.sqrt(gradient[0].numel()),
}
