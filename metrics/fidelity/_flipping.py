"""What deletion, insertion, pixel flipping and ROAD share: pixels are replaced in the order of their importance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from metrics.attacks import frozen, margin
from metrics.case import Case, in_batches
from metrics.fill import Fill, filled
from metrics.importance import places
from metrics.randomness import Draws

Output = Literal["probability", "logit", "margin", "accuracy"]

Replace = Callable[[Tensor, Tensor, Draws], Tensor]
"""(images (m, C, H, W), the first pixels in the order (m, H, W) bool, draws) -> what the model is shown."""

_OUTPUTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "probability": lambda logits, target: _of_class(logits.softmax(1), target),
    "logit": lambda logits, target: _of_class(logits, target),
    "margin": lambda logits, target: -margin(logits, target),
    "accuracy": lambda logits, target: (logits.argmax(1) == target).float(),
}


def evenly(case: Case, steps: int) -> tuple[float, ...]:
    """Shares of the pixels from 0 to 1 in this many equal steps, or one step a pixel if there are fewer."""
    steps = min(steps, case.x[0, 0].numel())
    return tuple(k / steps for k in range(steps + 1))


def removal(case: Case, fill: Fill) -> Replace:
    """The first pixels become what the fill says."""
    mean = case.train_x.mean((0, 2, 3))
    return lambda x, removed, draws: filled(x, removed, fill, mean=mean, draws=draws)


def flipping_curve(
    case: Case,
    importance: Tensor,
    fractions: tuple[float, ...],
    replace: Replace,
    *,
    target: Tensor,
    output: Output = "probability",
) -> Tensor:
    """Output for the target after the most important pixels were replaced, (points, n).

    At each fraction these are exactly round(fraction * H * W) pixels; NaN for a map that holds anything but numbers.
    All points of an image are one batch of the model.
    """
    points, pixels = len(fractions), importance[0].numel()
    counts = torch.tensor([round(p * pixels) for p in fractions], device=importance.device)

    def outputs(x: Tensor, importance: Tensor, target: Tensor, draws: Draws) -> Tensor:
        first = places(importance, draws)[:, None] < counts.view(-1, 1, 1)
        copies = torch.arange(len(x), device=x.device).repeat_interleave(points)
        shown = replace(x[copies], first.flatten(0, 1), draws[copies])
        return _OUTPUTS[output](case.model(shown), target[copies]).view(-1, points)

    with torch.no_grad(), frozen(case.model):
        found = in_batches(
            outputs, case.x, importance, target, case.draws, size=max(1, 250 // points)
        )
    return found.T.where(importance.isfinite().flatten(1).all(1), torch.nan)


def area_under(curve: Tensor, fractions: tuple[float, ...]) -> Tensor:
    """Trapezoid area under curves (points, n) over [0, 1], (n,)."""
    return torch.trapezoid(curve, torch.tensor(fractions, device=curve.device), dim=0)


def _of_class(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target[:, None]).squeeze(1)
