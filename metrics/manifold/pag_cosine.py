"""Whether a model's gradients towards a class point to images of that class."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from metrics.attribution import Explained, gradient
from metrics.case import Case, NotApplicable, Scores, in_batches
from metrics.manifold._cosine import cosine
from metrics.randomness import Draws


def pag_cosine(case: Case, *, targets: Annotated[int, Ge(1)] = 10) -> Scores:
    """Angle between the gradient towards a class and the way to the class's mean image, shortcuts in it included.

    Higher is better by the paper's claim alone, that aligned gradients come with robustness. Where the truth is known
    it does not hold: on `planted` the model that goes by the shortcut scores higher than the robust one, because the
    mean image of a class holds whatever its images have in common. Without the shortcut in the means the order turns
    round. So it is a measure of likeness to class means, not of robustness or of what is relevant.

    "Perceptually aligned gradients": following the gradient towards class t should make the image look like t. The
    gradient is that of the log-odds, which has the direction of that of log p_t and does not vanish where the model is
    sure.

    Label: PAG cosine
    Formula: mean over classes t of cos(-grad_x CE(f(x), t), mu_t - x), mu_t the mean training image of class t
    Measures:
        cosine (higher, -1..1): 1 for gradients that point to the class means.
    Map: the signed gradient, every channel of a pixel a coordinate of its own. No `reduction`: it is compared with a
        way between images with all their channels. No `target`: the mean is over all classes.
    Chance: 0 for random gradients.
    Args:
        targets: Classes t per image, drawn at random where there are more.
    Cost: `targets` gradients per image
    Pitfalls: the mean image of a class is a crude picture of it where its images differ in pose or colour (CIFAR-10);
        mu_t - x mostly erases x, so that a gradient of -x scores well. The trainer pag maximises this very number.
    Paper: Ganz, Kawar & Elad 2023, "Do perceptually aligned gradients imply robustness?"
    """
    means, present = _class_means(case)

    def cosines(x: Tensor, draws: Draws) -> Tensor:
        chosen = present[draws.uniform(len(present)).argsort(1)[:, :targets]]
        each = [
            cosine(gradient(Explained(case.model, t), x.clone(), draws), means[t] - x)
            for t in chosen.T
        ]
        return torch.stack(each).mean(0)

    return {"cosine": in_batches(cosines, case.x, case.draws.fork("targets"))}


def _class_means(case: Case) -> tuple[Tensor, Tensor]:
    """Mean training images (classes, C, H, W), and the classes that have any."""
    if case.train_y is None:
        raise NotApplicable("needs the labels of the training images")
    counts = F.one_hot(case.train_y, case.classes).to(case.train_x)
    sums = torch.einsum("nk,n...->k...", counts, case.train_x)
    number = counts.sum(0)
    shape = (-1, *[1] * (sums.dim() - 1))
    return sums / number.clamp_min(1).view(shape), number.nonzero().squeeze(1)
