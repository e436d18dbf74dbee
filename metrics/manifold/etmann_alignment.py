"""Alignment of an image with the model's gradient at it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from metrics import attacks
from metrics.case import Case, Scores, in_batches


def etmann_alignment(
    case: Case,
    *,
    of: Literal["margin", "logit"] = "margin",
    rivals: Annotated[int, Ge(1)] = 9,
) -> Scores:
    """How much of the image lies along the gradient of the decision that the model takes on it.

    The decision is that of the predicted class against the rival whose border is nearest if the model were linear. For
    a model without biases whose layers are linear or ReLU, alignment of the margin equals that distance.

    Label: Alignment
    Formula: |<x, g>| / ||g||_2, g = grad (z_i - z_j), i the predicted class, j = argmin over the rivals of
        (z_i - z_j) / ||grad (z_i - z_j)||_2; of = "logit": g = grad z_i
    Measures:
        alignment (higher, unbounded): As above, in pixel units.
        cosine (higher, 0..1): The same over ||x||_2: it does not grow with the contrast of the image.
        centred (higher, unbounded): The same for x less the mean training image: it does not depend on where black
            lies.
        linearised_robustness (higher, unbounded): The minimum of the formula, in pixel units: how far the border would
            be if the model were linear.
    Map: the signed gradient, every channel of a pixel a number of its own. No `reduction`: it is multiplied by the
        image with all its channels. No `target`: the decision is the one that the model takes.
    Chance: for gradients in random directions sqrt(2 / (pi d)) ||x||_2 on d values, cosine sqrt(2 / (pi d)).
    Args:
        of: The scalar whose gradient is aligned. A logit's is arbitrary by any function that is added to all logits.
        rivals: Number of the most probable other classes that compete; 9 are all of ten classes.
    Cost: `rivals` gradients per image
    Pitfalls: compares models on the same images only, since it grows with the norm of the images; and it depends on the
        scale and offset of the pixels: 0 is black here.
    Paper: Etmann, Lunz, Maass & Schoenlieb 2019, "On the connection between adversarial robustness and saliency map
        interpretability"
    """
    mean = case.train_x.mean(0)

    def measured(x: Tensor) -> Tensor:
        gradient, robustness = _decision(case, x, rivals, of)
        # in float64: the squares of a gradient of 1e-25 are 0 in float32
        unit, x = gradient.flatten(1).double(), x.double()
        unit = unit / unit.norm(dim=1, keepdim=True)  # NaN where there is no gradient
        alignment = (x.flatten(1) * unit).sum(1).abs()
        centred = ((x - mean).flatten(1) * unit).sum(1).abs()
        cosine = alignment / x.flatten(1).norm(dim=1)
        return torch.stack([alignment, cosine, centred, robustness], 1).float()

    names = ("alignment", "cosine", "centred", "linearised_robustness")
    return dict(zip(names, in_batches(measured, case.x).T, strict=True))


def _decision(case: Case, x: Tensor, rivals: int, of: str) -> tuple[Tensor, Tensor]:
    """The gradient to align (n, ...), and the linearised distance to the nearest border, (n,)."""
    with torch.no_grad():
        order = case.model(x).argsort(1, descending=True)[:, : rivals + 1]

    def scores(images: Tensor) -> Tensor:
        logits = case.model(images).gather(1, order)
        return torch.cat([logits[:, :1], logits[:, :1] - logits[:, 1:]], 1).T

    with attacks.frozen(case.model):
        gradients = attacks.input_gradients(scores, x)
        with torch.no_grad():
            margins = scores(x)[1:]
    distances = margins / gradients[1:].flatten(2).double().norm(dim=2)
    robustness, nearest = distances.nan_to_num(torch.inf, posinf=torch.inf).min(0)
    chosen = gradients[1:][nearest, torch.arange(len(x), device=x.device)]
    aligned = gradients[0] if of == "logit" else chosen
    return aligned, robustness.where(robustness.isfinite(), torch.nan)
