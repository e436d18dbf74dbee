"""Input-gradient regularisation (double backpropagation)."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def input_gradient(
    model: nn.Module, x: Tensor, y: Tensor, step: Step, *, weight: Annotated[float, Ge(0)] = 1.0
) -> Tensor:
    """Cross-entropy plus the squared length of its gradient with respect to the image.

    The gradient is taken in eval mode (with BatchNorm in train mode it would mix the images of a batch).

    Formula: L = CE(f(x), y) + weight * mean_b ||grad_x CE(f(x_b), y_b)||_2^2, pixels in [0, 1]
    Args:
        weight: Weight of the penalty (Ross's lambda_R / 2B, which he varies from 0.2 to 195).
    Cost: 2 forward, 2 backward and 1 double-backward pass per step
    Pitfalls: a ReLU network's second derivatives are zero within its linear pieces; a smooth activation
        (recipe activation = "gelu") makes the penalty far stronger.
    Paper: Drucker & LeCun 1992; Ross & Doshi-Velez 2018, "Improving the adversarial robustness and interpretability of
        deep neural networks by regularizing their input gradients"
    """
    with attacks.frozen(model):
        gradient = attacks.input_gradient(
            lambda images: attacks.cross_entropy(model(images), y), x, create_graph=True
        )
    return F.cross_entropy(model(x), y) + weight * gradient.flatten(1).square().sum(1).mean()
