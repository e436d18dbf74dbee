"""The harness's own verdict on adversarial examples: no attack grades its own work."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metrics import attacks
from metrics.case import Scores
from metrics.robustness._rounds import in_equal_batches
from metrics.threat import ThreatModel

BATCH = 96
"""Images that are predicted at once; an attack had others beside an image, whose batches have another size."""


class Verdict(NamedTuple):
    """What is true of each adversarial example: tensors of shape (n,)."""

    clean: Tensor
    """The unchanged image is classified as labelled."""
    fooled: Tensor
    """The attacked image is not."""
    in_ball: Tensor
    """Not farther from the unchanged image than eps, to float32 rounding."""
    in_range: Tensor
    """Every pixel is in [0, 1] (false for NaN)."""
    size: Tensor
    """Norm of the perturbation, in the threat's norm; NaN where that is no finite number."""
    margin: Tensor
    """max_{k != y} z_k - z_y on the attacked image; NaN where that is no finite number."""

    def scores(self) -> Scores:
        """The measures of an attack. An example that is not allowed does not count as broken."""
        valid = self.in_ball & self.in_range
        return {
            "robust_accuracy": (self.clean & ~(self.fooled & valid)).float(),
            "perturbation": self.size,
            "invalid": (~valid).float(),
            "margin": self.margin,
        }


def grade(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, adversarial: Tensor
) -> Scores:
    """Which images hold against these adversarial examples, as `judge` finds.

    An image that is misclassified unchanged does not hold, whatever the attack did.
    """
    return judge(model, x, y, threat, adversarial).scores()


@torch.no_grad()
def judge(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, adversarial: Tensor,
    batch: int = BATCH,
) -> Verdict:  # fmt: skip
    """The verdict on adversarial examples of the images `x`, both of shape (n, C, H, W); ValueError for another shape.

    Both are predicted here again, in float32 and in batches of `batch`. The last one is filled up, so that not even the
    last bit of a margin depends on how many images come after.
    """
    if adversarial.shape != x.shape:
        raise ValueError(
            f"adversarial images have shape {tuple(adversarial.shape)}, not {tuple(x.shape)}"
        )
    adversarial = adversarial.detach().to(torch.float32)
    size = threat.size(adversarial - x)
    clean, attacked = (in_equal_batches(model, images, size=batch) for images in (x, adversarial))
    margin = attacks.margin(attacked.float(), y)
    return Verdict(
        clean=clean.argmax(1) == y,
        fooled=attacked.argmax(1) != y,
        in_ball=size <= threat.eps * (1 + 1e-5) + 1e-6,
        in_range=((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1),
        size=size.where(size.isfinite(), torch.nan),
        margin=margin.where(margin.isfinite(), torch.nan),
    )
