"""Whether a map stays when the image is changed to move the map and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from metrics.attribution import Explained, Of, explain
from metrics.case import Case, Scores, predict
from metrics.importance import pixel_map
from metrics.maps import Magnitude
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches
from metrics.stability._agreement import (
    AGREEMENT,
    agreement,
    intersection,
    of_correct,
    top_pixels,
)
from metrics.stability._smooth import differentiable_importance


def attribution_attack(
    case: Case,
    *,
    attribution: Literal["gradient", "gradient_x_input", "integrated_gradients"] = "gradient",
    of: Of = "log_odds",
    reduction: Magnitude = "sum_abs",
    share: Annotated[float, Gt(0), Lt(1)] = 0.1,
    steps: Annotated[int, Ge(1)] = 50,
    step_size: Annotated[float, Gt(0)] | None = None,
    beta: Annotated[float, Gt(0)] = 10.0,
) -> Scores:
    """Agreement of the maps of an image and of the image attacked so that its most important pixels lose importance.

    The top-k attack of Ghorbani et al.: steps up the gradient of minus the share of the importance that the k pixels
    hold, inside the ball of the threat. Of all steps that leave the predicted class as it is, the one counts whose own
    k most important pixels overlap least with the image's. ReLU has no second derivative, so the gradient of the map is
    that of the network with softplus in place of ReLU; all maps that are compared are the network's own.

    Label: Attribution attack {attribution}
    Threat: needed
    Formula: |T_k(A(x)) and T_k(A(x'))| / k, and so on; x' from x <- Proj(x + step_size * ascent(-grad_x ln sum_{i in
        T_k} A_i / sum_i A_i)); A for the class predicted at x, T_k its k = share n most important of n pixels
    Measures:
        intersection (higher, 0..1): Part of the most important pixels that still are; 1 if no step lowers it.
        kendall (higher, -1..1): Kendall's tau-b between the importances of all pixels.
        spearman (higher, -1..1): Spearman's rank correlation between them.
        cosine (higher, -1..1): Cosine between the signed maps.
    Map: by `reduction`, one importance per pixel, never negative: unless told otherwise absolute values, summed over
        channels. The cosine takes the signed map, every channel of a pixel a number of its own. No `target`: only
        images count whose predicted class is the true one.
    Chance: intersection `share`, all else 0, for unrelated maps; `noise_stability` is what no attack at all comes to.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        reduction: How the channels of a map become one importance per pixel.
        share: The part of the pixels that counts as most important, to attack and to measure.
        steps: Gradient steps.
        step_size: Length of a step in pixel units; none means eps / 8.
        beta: Sharpness of the softplus ln(1 + e^(beta z)) / beta that stands for ReLU.
    Cost: `steps` x (1 forward, 1 backward and 1 double-backward pass, a map and a prediction) per image; ten times the
        passes for integrated gradients
    Pitfalls: an upper bound of the stability: read it beside `noise_stability`, the same measures under noise of the
        same size. ReLU and leaky ReLU are smoothed, other piecewise linear units (max pooling, ReLU6, hard swish) are
        not. NaN for misclassified images; the rank correlations and the cosine are NaN for constant maps.
    Paper: Ghorbani, Abid & Zou 2019, "Interpretation of neural networks is fragile"
    """
    threat = case.needs_threat()
    size = threat.eps / 8 if step_size is None else step_size

    def scores(x: Tensor, draws: Draws) -> Tensor:
        target = predict(case.model, x)
        explained = Explained(case.model, target, of)

        def maps(images: Tensor) -> Tensor:
            return explain(case.model, images, draws, attribution=attribution, of=of, target=target)

        before = maps(x)
        pixels = top_pixels(pixel_map(before, reduction), share, draws)
        found, lowest = x.clone(), torch.ones(len(x), dtype=torch.float64, device=x.device)
        delta = torch.zeros_like(x)
        for _ in range(steps):
            ascent = -_gradient(explained, x + delta, pixels, attribution, beta, reduction)
            delta = threat.ascend(x, delta, ascent, size)
            overlap = intersection(pixels, pixel_map(maps(x + delta), reduction), draws)
            better = (overlap < lowest) & (predict(case.model, x + delta) == target)
            found[better], lowest[better] = (x + delta)[better], overlap[better]
        return agreement(before, maps(found), share, draws, reduction)

    found = in_equal_batches(scores, case.x, case.draws).unbind(1)
    return of_correct(case, dict(zip(AGREEMENT, found, strict=True)))


def _gradient(
    explained: Explained,
    x: Tensor,
    pixels: Tensor,
    attribution: str,
    beta: float,
    reduction: Magnitude,
) -> Tensor:
    """Gradient, shape of x, of the logarithm of the share of the importance that the pixels (n, H, W) hold."""
    x = x.detach().requires_grad_()
    importance = differentiable_importance(explained, x, attribution, beta, reduction)
    held, total = ((importance * part).sum((1, 2)) for part in (pixels, torch.ones_like(pixels)))
    share = held.clamp_min(1e-30).log() - total.clamp_min(1e-30).log()
    return torch.autograd.grad(share.sum(), x)[0]
