"""Standard training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainers.base import Step, from_loss


@from_loss
def standard(model: nn.Module, x: Tensor, y: Tensor, step: Step) -> Tensor:
    """Cross-entropy on the images as they are.

    Formula: L = CE(f(x), y)
    Cost: 1 forward and 1 backward pass per step
    """
    return F.cross_entropy(model(x), y)
