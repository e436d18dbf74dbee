"""Attribution methods, through Captum: `(model, x, target) -> maps` of the shape of x.

What is attributed is a scalar of the logits. The default is the log-odds of the explained class, log p/(1-p): its
gradient is that of the cross-entropy, negated, up to a positive factor per image, so it ranks pixels as Kim, Seo &
Jeon's loss gradient does, but it does not underflow where the model is sure of itself; and, unlike a logit's, it does
not change when the same function is added to all logits (which leaves every prediction as it is).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.attacks import frozen, margin
from metrics.case import in_batches, predict
from metrics.randomness import Draws

Of = Literal["log_odds", "logit", "log_probability", "margin"]
AttributionName = Literal[
    "gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "random"
]


class Explained(nn.Module):
    """A classifier cut down to the scalar that is attributed: images -> (n,)."""

    def __init__(self, model: nn.Module, target: Tensor, of: Of = "log_odds") -> None:
        super().__init__()
        self.model, self.target, self.of = model, target, of

    def forward(self, x: Tensor) -> Tensor:
        """The scalar of each image.

        A batch that holds all images several times, one after another, repeats the targets: so Captum's integrated
        gradients stacks the points of its path.
        """
        logits = self.model(x)
        target = self.target.repeat(len(x) // len(self.target))
        return _SCALARS[self.of](logits, target)


def _log_odds(logits: Tensor, target: Tensor) -> Tensor:
    own = F.one_hot(target, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


_SCALARS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "log_odds": _log_odds,
    "logit": lambda logits, target: logits.gather(1, target[:, None]).squeeze(1),
    "log_probability": lambda logits, target: -F.cross_entropy(logits, target, reduction="none"),
    "margin": lambda logits, target: -margin(logits, target),
}


class Attribution(Protocol):
    """An attribution method."""

    def __call__(self, explained: Explained, x: Tensor, draws: Draws, /) -> Tensor:
        """Signed maps of the shape of x."""


def gradient(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """ds/dx, the local map (Simonyan, Vedaldi & Zisserman 2014)."""
    return Saliency(explained).attribute(x.requires_grad_(), abs=False)


def gradient_x_input(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """(x - 1/2) ds/dx, the global map: mid-grey counts as absence, as on Kim, Seo & Jeon's [-1, 1] images."""
    return InputXGradient(lambda centred: explained(centred + 0.5)).attribute(
        (x - 0.5).requires_grad_()
    )


def integrated_gradients(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Integrated gradients from black, 50 midpoint steps (Sundararajan, Taly & Yan 2017)."""
    return IntegratedGradients(explained).attribute(
        x, n_steps=50, method="riemann_middle", internal_batch_size=max(len(x), 500)
    )


def smoothgrad(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Mean gradient over 20 noisy copies, sigma 0.15 (Smilkov et al. 2017)."""
    # Captum's NoiseTunnel draws from the global generator, which would tie the map to the batch
    copies = (x + 0.15 * draws.fork("copy", i).normal(*x.shape[1:]) for i in range(20))
    return torch.stack([gradient(explained, copy, draws) for copy in copies]).mean(0)


def random(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Standard normal noise: the control that knows nothing of the model or the image."""
    return draws.normal(*x.shape[1:])


def explain(
    model: nn.Module,
    x: Tensor,
    draws: Draws,
    *,
    attribution: str = "gradient",
    of: Of = "log_odds",
    target: Tensor | None = None,
) -> Tensor:
    """Signed maps of the shape of x for the predicted class (or `target`, shape (n,)).

    The predicted class is the default because maps for the true label would tell it to whoever sees the maps.
    """
    method: Attribution = globals()[attribution]

    def maps(images: Tensor, labels: Tensor, numbers: Draws) -> Tensor:
        return method(Explained(model, labels, of), images.clone(), numbers).detach()

    with frozen(model):
        target = predict(model, x) if target is None else target
        return in_batches(maps, x, target, draws.fork("attribution", attribution))
