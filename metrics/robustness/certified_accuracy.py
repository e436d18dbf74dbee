"""Randomised smoothing: the radius within which a model's vote under Gaussian noise cannot change."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri
from torch import Tensor

from metrics.batching import in_batches
from metrics.case import Case, NotApplicable, Scores
from metrics.randomness import Draws


def certified_accuracy(
    case: Case,
    *,
    sigma: Annotated[float, Gt(0)] | None = None,
    select: Annotated[int, Ge(1)] = 100,
    samples: Annotated[int, Ge(1)] = 1000,
    alpha: Annotated[float, Gt(0), Lt(1)] = 0.001,
) -> Scores:
    """Accuracy that no perturbation in the ball can lower, of the smoothed classifier: the model's vote under noise.

    The smoothed classifier says the class that the model says most often of x + sigma n. If that class has probability
    p > 1/2, no perturbation shorter than sigma Phi^-1(p) changes the vote; p is bounded from below by a sample. The
    noisy images are not cut to [0, 1], as in the authors' code: the certificate is about untruncated noise.

    Label: Certified
    Threat: L2
    Formula: c = the most frequent class of `select` noisy images; k = how many of `samples` others are of class c;
        p = the one-sided lower Clopper-Pearson bound of k in `samples`; radius = sigma Phi^-1(p) if p > 1/2, else it
        abstains; certified = 1[c = y and radius >= eps]
    Measures:
        certified (higher, 0..1): The label is certified at eps.
        radius (higher, 0..inf): Certified radius, in pixel units of L2; 0 where the class is wrong or it abstains.
        smoothed (higher, 0..1): The label is certified at some radius: the smoothed classifier's own accuracy.
        abstained (lower, 0..1): No class is sure to have more than half of the votes.
    Args:
        sigma: Standard deviation of the noise in pixel units; none means eps / 2, as in 0.25 for a radius of 0.5.
        select: Noisy images that choose the class.
        samples: Noisy images that bound its probability (the paper: 100,000).
        alpha: Probability with which the certificate of an image is wrong.
    Cost: select + samples forward passes per image
    Pitfalls: certifies the vote, not the network, which an attack may break where its vote is certified: not to be
        compared with accuracies under attack. sigma must be that of the noise in training (trainer `gaussian_noise`,
        its setting `sigma`): other networks were never asked what they say of such images. No radius exceeds
        sigma Phi^-1(alpha^(1 / samples)), by the defaults 2.46 sigma with 1,000 samples and 3.81 sigma with 100,000:
        where eps is beyond it nothing can be certified. Of all certificates a share of up to `alpha` may be wrong.
    Paper: Cohen et al. 2019, "Certified adversarial robustness via randomized smoothing"
    """
    threat = case.needs_threat()
    if threat.norm != "L2":
        raise NotApplicable(f"Gaussian noise certifies under L2, as in 'L2 0.5'; this is {threat}")
    noise = threat.eps / 2 if sigma is None else sigma
    votes = [_votes(case, i, noise, select + samples) for i in range(len(case.y))]
    classes = torch.stack([own[:select].bincount(minlength=case.classes).argmax() for own in votes])
    counts = torch.stack([(own[select:] == c).sum() for own, c in zip(votes, classes, strict=True)])
    bound = _lower_bound(counts.cpu().numpy(), samples, alpha)
    abstained = torch.from_numpy(bound <= 0.5).to(case.x.device)
    right = (classes == case.y) & ~abstained
    radius = torch.from_numpy(noise * ndtri(bound)).to(case.x.device).where(right, 0)
    return {
        "certified": (right & (radius >= threat.eps)).float(),
        "radius": radius.float(),
        "smoothed": right.float(),
        "abstained": abstained.float(),
    }


@torch.no_grad()
def _votes(case: Case, index: int, sigma: float, count: int) -> Tensor:
    """The classes that the model says of noisy copies of one image, shape (count,).

    Image by image, and each copy with a stream of its own: neither the other images, nor the batches that memory
    allows, nor the number of copies change a vote.
    """
    x, image = case.x[index], int(case.draws.ids[index])
    copies = Draws(
        case.draws.fork("certified_accuracy", image).seed,
        torch.arange(count, device=x.device),
    )

    def said(draws: Draws) -> Tensor:
        classes: Tensor = case.model(x + sigma * draws.normal(*x.shape)).argmax(1)
        return classes

    return in_batches(said, copies)


def _lower_bound(counts: NDArray[np.int64], samples: int, alpha: float) -> NDArray[np.float64]:
    """What the probability of an event seen so often is at least, but for a share alpha of all samples."""
    bound = betaincinv(np.maximum(counts, 1), samples - counts + 1, alpha)
    return np.where(counts > 0, bound, 0.0)
