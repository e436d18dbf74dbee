"""Attribution methods, through Captum where it serves: `(model, x, target) -> maps` of the shape of x.

What is attributed is a scalar of the logits. The default is the log-odds of the explained class, log p/(1-p): its
gradient is that of the cross-entropy, negated, up to a positive factor per image, so it ranks pixels as Kim, Seo &
Jeon's loss gradient does, but it does not underflow where the model is sure of itself; and, unlike a logit's, it does
not change when the same function is added to all logits (which leaves every prediction as it is).

Every method is batched, and the map of an image does not depend on its batch: random numbers are keyed by image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import torch
from captum.attr import InputXGradient, IntegratedGradients, Occlusion, Saliency
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import edges
from metrics._rules import Convolutions, Guided, Rescale
from metrics.attacks import cross_entropy, frozen, log_odds_against, margin, probability
from metrics.case import NotApplicable, in_batches, predict
from metrics.importance import softened
from metrics.randomness import Draws

Of = Literal["log_odds", "logit", "log_probability", "margin", "probability", "cross_entropy"]
AttributionName = Literal[
    "gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "smoothgrad_squared", "vargrad",
    "gradient_shap", "deeplift", "guided_backprop", "grad_cam", "occlusion", "random", "sobel",
    "blurred_gradient", "blurred_gradient_x_input", "blurred_integrated_gradients", "blurred_smoothgrad",
    "blurred_smoothgrad_squared", "blurred_vargrad", "blurred_gradient_shap", "blurred_deeplift",
    "blurred_guided_backprop", "blurred_grad_cam", "blurred_occlusion", "blurred_random",
]  # fmt: skip
"""The methods; the controls `random` and `sobel`, which know nothing of the model; and each map but Sobel's blurred."""
_BATCH = 250
"""Images of which maps are made at once."""
_SHOWN = 500
"""Changed versions of them that the model is shown at once, about."""


class Explained(nn.Module):
    """A classifier cut down to the scalar that is attributed: images -> (n,)."""

    def __init__(
        self, model: nn.Module, target: Tensor, of: Of = "log_odds", copies: int = 2
    ) -> None:
        """`copies`: how many changed versions of every image a method may show the model at once."""
        super().__init__()
        self.model, self.target, self.of, self.copies = model, target, of, copies

    def forward(self, x: Tensor) -> Tensor:
        """The scalar of each image.

        A batch that holds all images several times, one after another, repeats the targets: so Captum's integrated
        gradients stacks the points of its path, and its occlusion the windows.
        """
        return self.scalar(self.model(x))

    def scalar(self, logits: Tensor) -> Tensor:
        """The scalar of each image's logits (n, K), or of those of all images several times."""
        target = self.target.repeat(len(logits) // len(self.target))
        return _SCALARS[self.of](logits, target)


def _of_target(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target[:, None]).squeeze(1)


_SCALARS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "log_odds": lambda logits, target: -log_odds_against(logits, target),
    "logit": _of_target,
    "log_probability": lambda logits, target: -cross_entropy(logits, target),
    "margin": lambda logits, target: -margin(logits, target),
    "probability": probability,
    "cross_entropy": cross_entropy,
}


class Attribution(Protocol):
    """An attribution method."""

    def __call__(self, explained: Explained, x: Tensor, draws: Draws, /) -> Tensor:
        """Signed maps of the shape of x."""


def gradient(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """ds/dx, the local map (Simonyan, Vedaldi & Zisserman 2014)."""
    return Saliency(explained).attribute(x.requires_grad_(), abs=False)


def gradient_x_input(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """(x - 1/2) ds/dx, the global map: mid-grey counts as absence, as on Kim, Seo & Jeon's [-1, 1] images.

    So black counts as much as white, and what is mid-grey not at all.
    """
    return InputXGradient(lambda centred: explained(centred + 0.5)).attribute(
        (x - 0.5).requires_grad_()
    )


def integrated_gradients(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Integrated gradients from black, 50 midpoint steps (Sundararajan, Taly & Yan 2017)."""
    return x.detach() * _mean_gradient(explained, x, draws)


def _mean_gradient(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Mean of ds/dx from black to the image."""
    return IntegratedGradients(explained, multiply_by_inputs=False).attribute(
        x, n_steps=50, method="riemann_middle", internal_batch_size=explained.copies * len(x)
    )


def smoothgrad(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Mean gradient over 20 noisy copies, sigma 0.15 (Smilkov et al. 2017)."""
    return _noisy_gradients(explained, x, draws).mean(0)


def smoothgrad_squared(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Mean squared gradient over 20 noisy copies, sigma 0.15 (Hooker et al. 2019)."""
    return _noisy_gradients(explained, x, draws).square().mean(0)


def vargrad(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Variance of the gradient over 20 noisy copies, sigma 0.15 (Adebayo et al. 2018)."""
    return _noisy_gradients(explained, x, draws).var(0, correction=0)


def _noisy_gradients(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    # Captum's NoiseTunnel draws from the global generator, which would tie the map to the batch
    copies = (x + 0.15 * draws.fork("copy", i).normal(*x.shape[1:]) for i in range(20))
    return torch.stack([gradient(explained, copy, draws) for copy in copies])


def gradient_shap(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Mean of (x - x0) ds/dx at 50 random points between the image and plain images x0 of random colour.

    The expected gradients of Lundberg & Lee 2017 and Erion et al. 2021, without noise of their own.
    """
    # Captum's GradientShap draws from NumPy's global generator
    total = torch.zeros_like(x)
    for i in range(50):
        colour = draws.fork("colour", i).uniform(x.shape[1], 1, 1)
        away = x.detach() - colour
        point = colour + draws.fork("along", i).uniform(1, 1, 1) * away
        total += away * gradient(explained, point, draws)
    return total / 50


def deeplift(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """DeepLIFT from black by the Rescale rule (Shrikumar, Greenside & Kundaje 2017).

    The last step, from the logits to the scalar, is linearised at the image, so that the map adds up to the change of
    a logit, and to that of other scalars to first order. NotApplicable to a model with a step that has no rule: rules
    exist for elementwise activations and max pooling, beside all that is linear.
    """
    return x.detach() * _multipliers(explained, x, draws)


def _multipliers(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """DeepLIFT's slopes of s between black and the image."""
    black = torch.zeros_like(x)
    with Rescale(2 * len(x)):
        logits, at_black = explained.model(torch.cat([x.requires_grad_(), black])).chunk(2)
    (slopes,) = torch.autograd.grad(explained.scalar(logits).sum(), logits, retain_graph=True)
    (multipliers,) = torch.autograd.grad(logits, x, slopes)
    _check_complete(x * multipliers, slopes * (logits - at_black), slopes * logits)
    return multipliers


def _check_complete(maps: Tensor, change: Tensor, size: Tensor) -> None:
    """NotApplicable if maps miss the change (n, K) by more than rounding does; `size` (n, K) of what was subtracted."""
    missing = (maps.flatten(1).sum(1) - change.sum(1)).abs()
    allowed = 0.01 * maps.flatten(1).abs().sum(1) + 1e-4 * size.abs().sum(1)
    if (missing > allowed).any():
        raise NotApplicable(
            "DeepLIFT's contributions do not add up to the change of the logits: the model has a step without a rule "
            "(rules exist for elementwise activations and max pooling, of tensors whose first axis is the batch)"
        )


def guided_backprop(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """The gradient, with ReLUs that let only positive gradients through (Springenberg et al. 2015).

    Other activations keep their derivative. NotApplicable to a model without ReLU.
    """
    with Guided() as relu:
        score = explained(x.requires_grad_()).sum()
    if not relu.found:
        raise NotApplicable(
            "guided backpropagation is a rule for ReLU, and the model calls none (a clamp at 0 is not taken for one)"
        )
    return torch.autograd.grad(score, x)[0]


def grad_cam(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Grad-CAM of the last convolution that has more than one pixel, bilinear to the image (Selvaraju et al. 2017).

    The last whose output the logits depend on, so that an auxiliary head does not count. The same in every channel, and
    never negative. A channel's slope is its mean over all places: where a linear layer weighs each place by itself, the
    map need not lie where the evidence does. NotApplicable to a model without convolutions.
    """
    with Convolutions() as convolutions:
        score = explained(x.requires_grad_()).sum()
    features, slopes = _last_used(score, convolutions.features)
    cam = (slopes.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu()
    return F.interpolate(cam, size=x.shape[2:], mode="bilinear").expand_as(x)


def _last_used(score: Tensor, found: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The last of the features that the score depends on, and its slopes by them."""
    for features in reversed(found):
        (slopes,) = torch.autograd.grad(score, features, retain_graph=True, allow_unused=True)
        if slopes is not None:
            return features, slopes
    raise NotApplicable(
        "Grad-CAM needs a convolution that the logits depend on, and the model has none"
    )


def occlusion(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Fall of s when a mid-grey window hides the pixel, mean over the windows that do (Zeiler & Fergus 2014).

    The window has 1/8 of the image's height and width (two pixels at least) and moves by half of that; the same in
    every channel. What is mid-grey itself is not hidden: on images that are dark elsewhere (`planted`) the background
    changes more than what stands out from it.
    """
    window = [min(size, max(2, size // 8)) for size in x.shape[2:]]
    return Occlusion(explained).attribute(
        x,
        sliding_window_shapes=(x.shape[1], *window),
        strides=(x.shape[1], *((size + 1) // 2 for size in window)),
        baselines=0.5,
        perturbations_per_eval=explained.copies,
    )


def random(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Standard normal noise: the control that knows nothing of the model or the image."""
    return draws.normal(*x.shape[1:])


def sobel(explained: Explained, x: Tensor, draws: Draws) -> Tensor:
    """Sobel's edges of the image, the same in every channel: the control that knows nothing of the model."""
    return edges.sobel(x)[:, None].expand_as(x)


_RATES: dict[str, Attribution] = {
    "gradient_x_input": gradient,
    "integrated_gradients": _mean_gradient,
    "deeplift": _multipliers,
}
"""Maps before they are multiplied by the image's difference to a baseline, by the name of the product."""


def explain(
    model: nn.Module,
    x: Tensor,
    draws: Draws,
    *,
    attribution: str = "gradient",
    of: Of = "log_odds",
    target: Tensor | None = None,
    rates: bool = False,
) -> Tensor:
    """Signed maps of the shape of x for the predicted class (or `target`, shape (n,)).

    The predicted class is the default because maps for the true label would tell it to whoever sees the maps.
    "blurred_NAME" is the absolute map NAME behind a Gaussian (see `softened`). With `rates` maps that are multiplied by
    the image's difference to a baseline are given before that: how fast the scalar changes with each pixel. ValueError
    for an unknown attribution, NotApplicable for one that has no meaning for the model.
    """
    if attribution not in get_args(AttributionName):
        raise ValueError(
            f"attribution {attribution!r} is unknown; valid: {', '.join(get_args(AttributionName))}"
        )
    name = attribution.removeprefix("blurred_")
    method: Attribution = _RATES[name] if rates and name in _RATES else globals()[name]
    # by the batch that is asked for: where memory makes it smaller, what the model is shown becomes smaller with it
    copies = max(1, _SHOWN // max(1, min(_BATCH, len(x))))

    def maps(images: Tensor, labels: Tensor, numbers: Draws) -> Tensor:
        explained = Explained(model, labels, of, copies)
        found = method(explained, images.clone(), numbers).detach()
        return found if name == attribution else softened(found.abs())

    with frozen(model):
        target = predict(model, x) if target is None else target
        return in_batches(maps, x, target, draws.fork("attribution", name), size=_BATCH)
