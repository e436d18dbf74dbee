"""CURE: a penalty on the curvature of the loss over images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.threat import L2
from trainers.base import Step, from_loss


@from_loss
def cure(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    weight: Annotated[float, Ge(0)] = 0.8,
    h: Annotated[float, Gt(0)] | None = None,
    penalty: Literal["norm", "squared"] = "norm",
    ramp: Annotated[float, Ge(0), Le(1)] = 0.5,
) -> Tensor:
    """Cross-entropy plus the change of its input gradient over a step along the gradient's sign.

    Where the loss is linear in the image, the most that an attack gains is what the gradient says; the change of the
    gradient over a step of length h is about h times the curvature in that direction. All gradients are taken in eval
    mode, as the authors' are.

    The authors fine-tune a trained network and raise h over the first five of ten epochs. Here training is from
    scratch: h rises linearly over the first `ramp` of it, and the penalty with it (at h = 0 there is none), so that the
    network first learns to classify.

    Formula: L = CE(f(x), y) + weight mean_b ||grad l(x_b + z_b) - grad l(x_b)||_2 (norm, the authors' code; squared in
        the paper), l = CE(f(x), y), z = h sign(g) / ||sign(g)||_2, g = grad l(x), z without gradient
    Args:
        weight: Weight of the penalty, in pixel space. 0.8 is the code's 4, which counts pixels divided by their
            standard deviation of 0.2 (for penalty = "squared" that would be 0.16).
        h: Euclidean length of the step in pixel units; none means 0.0108 sqrt(number of pixel values): on CIFAR-10 the
            code's 3 in units of that deviation (0.6), 2.8/255 a pixel.
        penalty: The length of the change, or its square.
        ramp: Share of the training over which h rises.
    Cost: 3 forward, 3 backward and 2 double-backward passes per step
    Pitfalls: a ReLU network's second derivatives are zero within its linear pieces; a smooth activation
        (recipe activation = "gelu") makes the penalty stronger.
    Paper: Moosavi-Dezfooli et al. 2019, "Robustness via curvature regularization, and vice versa"
    """

    def gradient(images: Tensor) -> Tensor:
        return attacks.input_gradient(
            lambda x: attacks.cross_entropy(model(x), y), images, create_graph=True
        )

    full = 0.6 * math.sqrt(x[0].numel() / 3072) if h is None else h
    length = full * min(1.0, step.progress / ramp) if ramp else full
    with attacks.frozen(model):
        here = gradient(x)
        change = gradient(x + L2(length).step(here.detach().sign(), length)) - here
    size = _SIZES[penalty](change.flatten(1))
    return F.cross_entropy(model(x), y) + weight * size.mean()


# changes of the gradient (n, d) -> (n,)
_SIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "norm": lambda change: change.norm(dim=1),
    "squared": lambda change: change.square().sum(1),
}
