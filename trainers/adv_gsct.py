"""Adv-GSCT: saliency-consensus training against the most offending input. A reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.edges import sobel
from metrics.fill import Fill, blurred, filled
from metrics.importance import pixel_map, top
from trainers.base import Step, from_loss


@from_loss
def adv_gsct(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    clean_weight: Annotated[float, Ge(0)] = 0.0,
    offending_weight: Annotated[float, Ge(0)] = 1.0,
    consensus_weight: Annotated[float, Ge(0)] = 1.0,
    anchor: Annotated[float, Ge(0)] = 0.0,
    offend: Literal["mask", "step", "mask+step"] = "mask+step",
    kappa: Annotated[float, Gt(0), Le(1)] = 0.3,
    soft: Annotated[float, Gt(0)] | None = None,
    edges: Annotated[float, Ge(0), Le(1)] = 0.0,
    fill: Fill = "zero",
    alpha: Annotated[float, Gt(0)] = 1.25,
    saliency: Literal["margin", "logit", "log_odds"] = "margin",
    compare: Literal["signed", "positive", "abs", "pooled"] = "signed",
    similarity: Literal["cosine", "l2", "ssim", "kl"] = "cosine",
    symmetric: bool = False,
    ramp: Annotated[float, Ge(0)] = 0.1,
) -> Tensor:
    """Cross-entropy on an offending input, and agreement of the saliency at the image with that at the offending input.

    Phrases of the abstract and the terms they became: "target saliency used as a label" - S* without gradient, at the
    offending input; "most offending case, least but essential information" - only the top kappa of the pixels by the
    model's own saliency are kept (offend "mask"; the radius is idle), and moved one step up the loss ("step"); "the
    target is discriminative" - cross-entropy there; "consensus" - 1 - cos(S, S*); "no multiple iterative perturbations"
    - one step; "salient region such as object edges" - an option (edges). The saliency is the gradient of the margin
    z_y - max_k z_k: raw logits let the cosine be won by a gradient common to all of them.

    Threat: needed
    Reconstruction: The paper is closed access and has no public code; this is built from its abstract. The
        defaults were picked on MNIST (the step alone, of photographs, on CIFAR-10); on held-out images no other term or
        offending input was significantly better under AutoAttack (docs/papers/gsct2022.md). That consensus or mask add
        to the step is not shown; alone they are not robust.
    Formula: L = clean_weight CE(f(x), y) + offending_weight CE(f(x'), y) + consensus_weight mean_b [1 - cos(S(x),
        S(x'))] + anchor mean_b |S(x)|^2, x' = clip(x_m + Proj_eps(u + alpha eps sign grad CE(f(x_m + u)))), x_m kept
        pixels, u uniform in the ball
    Args:
        clean_weight: Weight of the cross-entropy on the image.
        offending_weight: Weight of the cross-entropy on the offending input.
        consensus_weight: Weight of the saliency disagreement.
        anchor: Weight of the saliency's squared length, which a cosine leaves free.
        offend: How the offending input is made: keep salient pixels, one adversarial step, or both.
        kappa: Share of the pixels that are kept.
        soft: Instead, of each pixel the share (A / max A)^soft is kept, A its saliency; none keeps whole pixels.
        edges: Share of the image's edges (Sobel's magnitude) in A; both are divided by their largest value first.
        fill: What takes the place of the rest: see metrics/fill.py; mean is that of the batch.
        alpha: Length of the adversarial step in units of eps.
        saliency: What S is the gradient of; that of log_odds has the direction of p_y's and of log p_y's.
        compare: S as it is, its positive part, absolute values summed over channels, or their 3x3 means.
        similarity: 1 - cos; |S/|S| - S*/|S*||^2; 1 - SSIM (of S / max |S|); KL(softmax S* || softmax S) over entries,
            each map scaled to a standard deviation of 1.
        symmetric: Let S* have a gradient as well.
        ramp: Share of the training over which the consensus weight rises linearly.
    Cost: 4 forward, 4 backward, 1 double-backward passes per step; clean_weight 1, 1, 0 more, symmetric 0, 0, 1
    Pitfalls: never publish PGD-only figures of saliency-trained models; run AutoAttack.
    Paper: Adv-GSCT, IEEE Transactions on Dependable and Secure Computing 2024
    """
    parts = _parts(clean_weight, offending_weight, consensus_weight, anchor, offend)
    _check_used(
        parts, kappa=kappa, soft=soft, edges=edges, fill=fill, alpha=alpha, saliency=saliency,
        compare=compare, similarity=similarity, symmetric=symmetric, ramp=ramp,
    )  # fmt: skip
    maps = partial(_maps, model, y, _SALIENCIES[saliency])
    with attacks.frozen(model):
        own = maps(x, parts.consensus or anchor > 0) if parts.map else x
        offending = _masked(x, own, kappa, soft, edges, fill, step) if parts.mask else x
        if parts.step:
            offending = _one_step(model, offending, y, step, alpha)
        target = maps(offending, symmetric) if parts.consensus else own
    loss = x.new_zeros(())
    for weight, images in ((offending_weight, offending), (clean_weight, x)):
        if weight:
            loss = loss + weight * F.cross_entropy(model(images), y)
    if anchor:
        loss = loss + anchor * own.square().flatten(1).sum(1).mean()
    if parts.consensus:
        risen = min(1.0, step.progress / ramp) if ramp else 1.0
        pair = (_COMPARED[compare](each) for each in (own, target))
        loss = loss + risen * consensus_weight * _DISAGREEMENTS[similarity](*pair)
    return loss


def _maps(
    model: nn.Module,
    y: Tensor,
    scalar: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    create_graph: bool,
) -> Tensor:
    return attacks.input_gradient(
        lambda images: scalar(model(images), y), x, create_graph=create_graph
    )


def _masked(
    x: Tensor, own: Tensor, kappa: float, soft: float | None, edges: float, fill: Fill, step: Step
) -> Tensor:
    """The images without what their maps find least important."""
    removed = _removed(_with_edges(pixel_map(own.detach()), x, edges), kappa, soft, step)
    return filled(x, removed, fill, mean=x.mean((0, 2, 3)), draws=step.draws)


class _Parts(NamedTuple):
    """What the terms of the loss need. The rest is not computed: a term that is off costs nothing."""

    consensus: bool
    mask: bool
    step: bool
    map: bool


def _parts(clean: float, offending: float, consensus: float, anchor: float, offend: str) -> _Parts:
    if not any((clean, offending, consensus, anchor)):
        raise ValueError("all four weights are 0: there is nothing to train on")
    attacked = offending > 0 or consensus > 0
    mask, step = attacked and "mask" in offend, attacked and "step" in offend
    return _Parts(consensus > 0, mask, step, map=mask or consensus > 0 or anchor > 0)


def _check_used(parts: _Parts, **settings: object) -> None:
    """ValueError for settings other than the defaults that nothing of this loss makes use of."""
    usual: dict[str, object] = {
        "kappa": 0.3, "soft": None, "edges": 0.0, "fill": "zero", "alpha": 1.25, "saliency": "margin",
        "compare": "signed", "similarity": "cosine", "symmetric": False, "ramp": 0.1,
    }  # fmt: skip
    changed = {name for name, value in settings.items() if value != usual[name]}
    for there, need, names in (
        (parts.mask, "a masked input (offend = 'mask+step')", ("kappa", "soft", "edges", "fill")),
        ("soft" not in changed, "whole pixels (soft left out)", ("kappa",)),
        (parts.step, "an adversarial step (offend = 'mask+step')", ("alpha",)),
        (parts.map, "a mask, a consensus_weight or an anchor", ("saliency",)),
        (parts.consensus, "a consensus_weight", ("compare", "similarity", "symmetric", "ramp")),
    ):
        if not there and (idle := [f"{n} = {settings[n]!r}" for n in names if n in changed]):
            raise ValueError(f"{', '.join(idle)}: changes nothing without {need}")


def _with_edges(importance: Tensor, x: Tensor, share: float) -> Tensor:
    """The importance (n, H, W), or that and the image's edges, each of them scaled to a largest value of 1."""
    if not share:
        return importance
    own, edges = (m / m.amax((1, 2), keepdim=True).clamp_min(1e-30) for m in (importance, sobel(x)))
    return (1 - share) * own + share * edges


def _removed(importance: Tensor, kappa: float, soft: float | None, step: Step) -> Tensor:
    """Which pixels (n, H, W), or what share of each, the offending input does without."""
    if soft is None:
        return ~top(importance, kappa, step.draws)
    return 1 - (importance / importance.amax((1, 2), keepdim=True).clamp_min(1e-30)) ** soft


def _one_step(model: nn.Module, x: Tensor, y: Tensor, step: Step, alpha: float) -> Tensor:
    """FGSM from a random start, as in fast adversarial training."""
    threat = step.threat
    start = threat.noise(x, step.draws)
    gradient = attacks.input_gradient(
        lambda images: attacks.cross_entropy(model(images), y), x + start
    )
    return x + threat.ascend(x, start, gradient, alpha * threat.eps)


def _ssim(own: Tensor, target: Tensor) -> Tensor:
    """1 - structural similarity (Wang et al. 2004), of maps scaled to a largest magnitude of 1, as if of range 1."""
    a, b = (m / m.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30) for m in (own, target))
    mean_a, mean_b = blurred(a, 1.5), blurred(b, 1.5)
    variances = blurred(a * a + b * b, 1.5) - mean_a**2 - mean_b**2
    covariance = blurred(a * b, 1.5) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    return 1 - (luminance * structure).mean()


def _kl(own: Tensor, target: Tensor) -> Tensor:
    """KL(softmax S* || softmax S) of maps scaled to a standard deviation of 1: as they are, they are too small."""
    q, p = ((m / m.std(1, keepdim=True).clamp_min(1e-30)).log_softmax(1) for m in (own, target))
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


# (logits, y) -> what the saliency is the gradient of, (n,)
_SALIENCIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "margin": lambda logits, y: -attacks.margin(logits, y),
    "logit": lambda logits, y: logits.gather(1, y[:, None]).squeeze(1),
    "log_odds": lambda logits, y: -attacks.log_odds_against(logits, y),
}

# maps -> the maps that are compared, (n, C or 1, H, W)
_COMPARED: dict[str, Callable[[Tensor], Tensor]] = {
    "signed": lambda maps: maps,
    "positive": lambda maps: maps.clamp_min(0),
    "abs": lambda maps: pixel_map(maps)[:, None],
    "pooled": lambda maps: F.avg_pool2d(
        pixel_map(maps)[:, None], 3, stride=1, padding=1, count_include_pad=False
    ),
}

# (own, target) -> mean disagreement
_DISAGREEMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda own, target: 1 - F.cosine_similarity(own.flatten(1), target.flatten(1)).mean(),
    "l2": lambda own, target: (
        (F.normalize(own.flatten(1)) - F.normalize(target.flatten(1))).square().sum(1).mean()
    ),
    "ssim": _ssim,
    "kl": lambda own, target: _kl(own.flatten(1), target.flatten(1)),
}
