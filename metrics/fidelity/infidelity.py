"""Infidelity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from metrics.attacks import frozen
from metrics.attribution import AttributionName, Explained, Of, explain
from metrics.case import Case, Scores, in_batches
from metrics.maps import Target, explained_class
from metrics.randomness import Draws

Perturbation = Literal["gaussian", "noisy_baseline", "square"]


def infidelity(
    case: Case,
    *,
    attribution: AttributionName = "gradient",
    of: Of = "log_odds",
    perturbation: Perturbation = "gaussian",
    sigma: Annotated[float, Gt(0)] = 0.2,
    samples: Annotated[int, Ge(2)] = 50,
    normalise: bool = True,
    target: Target = "predicted",
) -> Scores:
    """How badly the map predicts what a perturbation I does to the explained scalar s.

    Label: Infidelity {attribution}
    Formula: E[(beta <I, a> - (s(x) - s(x - I)))^2], beta = E[<I, a> (s(x) - s(x - I))] / E[<I, a>^2] the best scale;
        of a map that is multiplied by the image's difference to a baseline, a is what is multiplied (Captum divides by
        the difference, which loses the pixels that have none)
    Measures:
        relative_infidelity (lower, 0..inf): Infidelity over E[(s(x) - s(x - I))^2], the share that the map leaves
            unexplained: 0 for the gradient of a linear model, 1 for a map that says nothing. Comparable between models.
        infidelity (lower, 0..inf): In squared units of the scalar, as Captum's.
    Map: signed, every channel of a pixel a number of its own; scaled by beta. No `reduction`: each of these numbers is
        multiplied by a perturbation of its own.
    Chance: relative_infidelity about (1 - 1/d) (1 - 1/samples) for random maps of d values, since one number is fitted;
        1 for a map of zeros. infidelity: not known, it has the scale of the model.
    Args:
        attribution: The map.
        of: The scalar that is attributed.
        perturbation: gaussian - I is normal noise; noisy_baseline - the whole image becomes black with normal noise,
            cut to [0, 1]; square - one square of up to 10/28 of the shorter side, at a random place, becomes black.
        sigma: Standard deviation of the noise, in pixel units.
        samples: Perturbations per image.
        normalise: Whether the map is scaled by beta; without it beta is 1, and a map of another scale is another map.
        target: The class that is explained and whose scalar is followed.
    Cost: one map and samples + 1 forward passes per image
    Pitfalls: beta may be below 0, so that a map and its opposite score alike; the scale of the scalar is the model's
        own, so models are compared by relative_infidelity; a random map scores about 1 - 1/samples there, since one
        number is fitted; gaussian leaves [0, 1]. What the authors' code
        calls Gaussian is noisy_baseline. Maps that are no rate of change by a pixel (Grad-CAM, occlusion, GradientSHAP,
        squared and blurred ones) are taken as if they were.
    Paper: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations"
    """
    followed = explained_class(case, target)
    maps = explain(
        case.model, case.x, case.draws, attribution=attribution, of=of, target=followed, rates=True
    )

    def errors(x: Tensor, maps: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        removed = _PERTURBATIONS[perturbation](x, samples, sigma, draws.fork("perturbation"))
        # (images, samples): what the map says of each perturbation, and what came
        said = (removed.double() * maps[:, None].double()).flatten(2).sum(2)
        scalar = Explained(case.model, labels, of)(x).double()
        perturbed = Explained(case.model, labels.repeat_interleave(samples), of)
        came = scalar[:, None] - perturbed((x[:, None] - removed).flatten(0, 1)).view_as(said)
        return _errors(said, came, normalise)

    with torch.no_grad(), frozen(case.model):
        found = in_batches(errors, case.x, maps, followed, case.draws, size=max(1, 250 // samples))
    relative, absolute = found.where(found.isfinite(), torch.nan).float().T
    return {"relative_infidelity": relative, "infidelity": absolute}


def _errors(said: Tensor, came: Tensor, normalise: bool) -> Tensor:
    """Mean squared error over the samples, relative and absolute: two (n, samples) -> (n, 2)."""
    power = said.square().mean(1)
    # a map that says nothing cannot be scaled
    best = ((said * came).mean(1) / power).where(power != 0, 0.0)
    scale = best if normalise else torch.ones_like(best)
    absolute = (scale[:, None] * said - came).square().mean(1)
    return torch.stack([absolute / came.square().mean(1), absolute], 1)


def _square(x: Tensor, samples: int, sigma: float, draws: Draws) -> Tensor:
    height, width = x.shape[2:]
    side, down, right = draws.uniform(3, samples).unbind(1)
    side = 1 + (side * max(1, round(min(height, width) * 10 / 28))).floor()
    rows, columns = (
        _between((place * (size - side + 1)).floor(), side, size)
        for place, size in ((down, height), (right, width))
    )
    return x[:, None] * (rows[..., :, None] & columns[..., None, :])[:, :, None]


def _between(first: Tensor, count: Tensor, size: int) -> Tensor:
    """Which of `size` pixels are among the `count` from `first` on, (n, samples) -> bool (n, samples, size)."""
    at = torch.arange(size, device=first.device)
    return (at >= first[..., None]) & (at < (first + count)[..., None])


# (x, samples, sigma, draws) -> what is taken from each image, (n, samples, C, H, W)
_PERTURBATIONS: dict[str, Callable[[Tensor, int, float, Draws], Tensor]] = {
    "gaussian": lambda x, samples, sigma, draws: sigma * draws.normal(samples, *x.shape[1:]),
    "noisy_baseline": lambda x, samples, sigma, draws: (
        x[:, None] - (sigma * draws.normal(samples, *x.shape[1:])).clamp(0, 1)
    ),
    "square": _square,
}
