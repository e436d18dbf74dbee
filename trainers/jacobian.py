"""Jacobian regularisation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss


@from_loss
def jacobian(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    weight: Annotated[float, Ge(0)] = 0.01,
    projections: Annotated[int, Ge(0)] = 1,
) -> Tensor:
    """Cross-entropy plus the squared Frobenius norm of the Jacobian of the logits.

    The Jacobian is that of eval mode, in a pass of its own; the authors' is that of the training pass, in train mode.

    Formula: L = CE(f(x), y) + weight * mean_b 1/2 ||J(x_b)||_F^2, J = dz/dx in R^{K x d}, pixels in [0, 1]
    Args:
        weight: Weight of the penalty, in pixel space. The authors' 0.1 on MNIST counts pixels divided by their
            standard deviation of 0.31, which is 0.0095 here; their 0.01 elsewhere would be 0.0006 at CIFAR-10's 0.25.
        projections: Random directions v on the unit sphere of R^K: ||J||_F^2 is estimated by K ||J^T v||^2, unbiased;
            0 computes every row.
    Cost: 2 forward, 1 + projections backward and projections double-backward passes per step (0 projections: K)
    Pitfalls: as for input_gradient: much weaker with ReLU than with a smooth activation.
    Paper: Hoffman, Roberts & Yaida 2019, "Robust learning with Jacobian regularization"
    """

    def directions(images: Tensor) -> Tensor:
        logits = model(images)
        if projections == 0:
            return logits.T
        v = step.draws.fork("projection").normal(projections, logits.shape[1])
        v = v * (logits.shape[1] / projections) ** 0.5 / v.norm(dim=2, keepdim=True)
        return (v * logits[:, None]).sum(2).T

    with attacks.frozen(model):
        rows = attacks.input_gradients(directions, x, create_graph=True)
    penalty = 0.5 * rows.square().flatten(2).sum((0, 2)).mean()
    return F.cross_entropy(model(x), y) + weight * penalty
