"""How much a model's prediction changes off the image manifold, against along it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.case import Case, Scores
from metrics.manifold._tangent import over_tangents, points, projection
from metrics.randomness import Draws


def on_off_manifold(
    case: Case,
    *,
    eps: Annotated[float, Gt(0)] | None = None,
    directions: Annotated[int, Ge(1)] = 10,
    generator: Literal["vae", "vae_gan"] = "vae",
    epochs: Annotated[int, Ge(1)] | None = None,
) -> Scores:
    """How much the probabilities change on a random step off the image manifold, against one of equal length along it.

    A model that is robust off the manifold does not heed what no image shows. The steps start at the manifold's point
    for each image and go along the two parts of one Gaussian vector: inside the tangent space and orthogonal to it.

    Label: Off/on-manifold change
    Formula: Delta_off / Delta_on, Delta = mean over n ~ N(0, I) of ||softmax f(x + eps u) - softmax f(x)||_1;
        u_on = P n / ||P n||_2, u_off = (n - P n) / ||n - P n||_2, P the projection onto the span of dD/dz
    Measures:
        ratio (lower, unbounded): Mean change off the manifold over the mean change along it: 1 where both count alike.
            An image's number is its part in the ratio's linearisation, r + (off - r on) / mean(on), r the ratio of the
            means: their mean is r, and their spread gives its standard error (the delta method).
        off (lower, 0..2): Change of the probabilities off the manifold.
        on (none, 0..2): Change of the probabilities along the manifold.
    Map: none; the model's probabilities alone.
    Chance: ratio 1 for a model that heeds all directions alike.
    Args:
        eps: L2 length of the steps in pixel units; none means 2.64 sqrt(d / 3072) for d pixels, the second of the
            paper's four on CIFAR-10 (1.44, 2.64, 4.83, 8.86). The steps are not cut to [0, 1].
        directions: Gaussian vectors per image (the paper: one).
        generator: Whose decoder stands for the manifold where the data set does not know the true one.
        epochs: Passes over the training images that the generator is fitted for; none: 100,000 images in all, within
            10 to 100 passes (vae) or 2 to the paper's 30, for colour 150 (vae_gan).
    Cost: 1 + 2 directions predictions per image and k forward-mode derivatives of the decoder; one generator per data
        set
    Pitfalls: with a generator the tangent space is the generator's, not nature's; compare models on the same one only.
        A model that hardly changes at all has a ratio of two small numbers: read `on` beside it.
    Paper: Srinivas, Bordt & Lakkaraju 2023, "Which models have perceptually-aligned gradients? An explanation via
        off-manifold robustness"
    """
    manifold = case.manifold(generator, epochs)
    x = points(manifold)
    pixels = x[0].numel()
    length = 2.64 * (pixels / 3072) ** 0.5 if eps is None else eps

    def changes(basis: Tensor, x: Tensor, draws: Draws) -> Tensor:
        noise = draws.normal(directions, pixels)
        inside = projection(basis, noise)
        parts = (inside, noise - inside)
        return torch.stack([_change(case.model, x, part, length) for part in parts], 1)

    on, off = over_tangents(changes, manifold, x, case.draws.fork("directions")).unbind(1)
    return {"ratio": _ratio(off, on), "off": off, "on": on}


@torch.no_grad()
def _change(model: nn.Module, x: Tensor, directions: Tensor, length: float) -> Tensor:
    """Mean L1 change of the probabilities on steps of a length along directions (n, m, d), shape (n,)."""
    steps = length * F.normalize(directions, dim=2).to(x)
    before = model(x).softmax(1)
    changes = [
        (model(x + step.view_as(x)).softmax(1) - before).abs().sum(1) for step in steps.unbind(1)
    ]
    return torch.stack(changes).mean(0)


def _ratio(off: Tensor, on: Tensor) -> Tensor:
    """Numbers (n,) whose mean is mean(off) / mean(on), and whose spread is that ratio's.

    r + (off - r on) / mean(on), r the ratio of the means: its linearisation (the delta method). off / mean(on) has the
    same mean, but its spread leaves out that the denominator is a mean over the same images.
    """
    mean = on.mean()
    ratio = off.mean() / mean
    return (ratio + (off - ratio * on) / mean).where(mean > 0, torch.nan)
