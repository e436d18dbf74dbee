"""Saliency-guided training: predictions that stay when the pixels of faint gradient are replaced."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.fill import filled
from metrics.importance import pixel_map, top
from trainers._divergence import divergence
from trainers.base import Step, from_loss


@from_loss
def saliency_guided(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    weight: Annotated[float, Ge(0)] = 1.0,
    share: Annotated[float, Ge(0), Le(1)] = 0.5,
    fill: Literal["noise", "mean", "zero", "blur", "noisy_linear"] = "noise",
    signed: bool = False,
) -> Tensor:
    """Cross-entropy, plus the divergence of the prediction where the pixels of faintest gradient are replaced.

    The gradient is that of the true class's logit, in eval mode; a pixel's importance is its absolute value summed over
    the channels, and a replaced pixel is replaced in all of them. This is the paper's method. The authors' code ranks
    by signed values unless it is told otherwise, so that pixels against the class go first: `signed`.

    Formula: L = CE(f(x), y) + weight KL(p(x) || p(x~)), x~ = x with the `share` of the pixels of smallest sum_c
        |dz_y/dx| replaced
    Args:
        weight: Weight of the divergence.
        share: Share of the pixels that are replaced, the paper's k.
        fill: What they become: uniform noise between the image's darkest and brightest value; the batch's mean colour;
            0; the blurred image; or the mean of their neighbours and a little noise (noisy linear imputation).
        signed: Rank by the mean of the signed gradient over the channels, lowest first, as the authors' code does.
    Cost: 3 forward and 3 backward passes per step
    Pitfalls: made for clear gradients, not for robustness, on which it is reported to help or to harm.
    Paper: Ismail, Corrada Bravo & Feizi 2021, "Improving deep learning interpretability by saliency guided training"
    """
    with attacks.frozen(model):
        gradient = attacks.input_gradient(
            lambda images: model(images).gather(1, y[:, None]).squeeze(1), x
        )
    importance = gradient.mean(1) if signed else pixel_map(gradient)
    faint = top(-importance, share, step.draws)
    replaced = filled(x, faint, fill, mean=x.mean((0, 2, 3)), draws=step.draws)
    logits = model(x)
    return F.cross_entropy(logits, y) + weight * divergence(logits, model(replaced)).mean()
