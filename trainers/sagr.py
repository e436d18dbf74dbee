"""SAGR: Jacobian regularisation with a saliency-aware bias. A reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step, from_loss

Reading = Literal[
    "saliency_weighted", "saliency_gated", "all", "positive", "softweights", "contrast"
]


@from_loss
def sagr(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    weight: Annotated[float, Ge(0)] = 0.03,
    rho: Annotated[float, Gt(0)] = 2.0,
    reading: Reading = "saliency_weighted",
    of: Literal["logits", "centred", "logsoftmax", "softmax"] = "logits",
    floor: Annotated[float, Gt(0)] = 0.1,
    salient: Annotated[float, Gt(0), Le(1)] = 0.3,
    tau: Annotated[float, Ge(0)] = 1.0,
    false_rows: Annotated[int, Ge(0)] = 3,
    projections: Annotated[int, Ge(0)] = 0,
    ramp: Annotated[float, Ge(0)] = 0.1,
) -> Tensor:
    """Cross-entropy plus a Jacobian penalty that depresses false-class and faint sensitivities more than others.

    Phrases of the abstract and the terms they became: "Jacobian regularisation" - squared rows J_k = dz_k/dx; "biased
    weight distribution" - class weights w_k that sum to K; "dominant role of the true class" - w_y < w_k, in the
    ratio rho (rho < 1 is the opposite reading, where the true row is depressed most); "introduced on the positive
    gradient" - reading positive; "differentiates diverse importance of gradient sensitivities that would localise
    input salient areas" - pixel weights v_ki (readings saliency_weighted and saliency_gated). What it says of sharper
    maps and of structure before content became no term: that is for metrics to see.

    Reconstruction: The paper is closed access and has no public code; this is built from its abstract. The
        defaults were picked on MNIST (the weight of photographs on CIFAR-10), and again on held-out images under
        AutoAttack (docs/papers/sagr2023.md): on MNIST with ReLU, at a large weight, the pixel weights keep more robust
        accuracy than the same loss without them and than `jacobian`; with GELU, and on CIFAR-10, no more is seen than
        of `jacobian`. The class bias (rho; every reading but saliency_weighted) does nothing measurable.
    Formula: L = CE + weight/2 mean_b sum_k w_k sum_i v_ki J_ki^2, v_ki = mu_k / (|J_ki| + floor mu_k), mu_k =
        mean_i |J_ki|, v without gradient; w_y = K / (1 + rho (K - 1)), w_k = rho w_y
    Args:
        weight: Weight of the penalty, in pixel space.
        rho: Weight of a false class relative to the true one; 1 leaves no class bias.
        reading: saliency_weighted (above); all (v = 1); positive (v = 1, w on positive entries alone, 1 on negative
            ones); saliency_gated (v = 1, w_y on the true row's largest entries alone, 1 on its others); softweights (v
            = 1, w_k times (K - 1) p_k / sum_{j != y} p_j); contrast (the penalty is sum_{k != y} |J_k|^2 / (|J_y|^2 +
            0.001) + tau |J|^2).
        of: What the Jacobian is taken of; all but logits ignore a function added to every logit.
        floor: What keeps v finite in saliency_weighted; the larger, the more alike are the entries' weights.
        salient: Share of the entries that saliency_gated takes for the largest.
        tau: Weight of the plain Jacobian norm in contrast.
        false_rows: Sampled false classes per image, rescaled by (K - 1) / false_rows; 0 takes all.
        projections: For many classes, reading all only: instead of rows, K |J^T (sqrt(w) v)|^2 in so many random
            directions v on the unit sphere of R^K, unbiased; 0 takes rows.
        ramp: Share of the training over which the weight rises linearly.
    Cost: 2 forward, 2 + false_rows backward and 1 + false_rows double-backward passes per step (0 false_rows: K - 1);
        with projections 1 + projections and projections of the latter two
    Pitfalls: as for input_gradient: much weaker with ReLU than with a smooth activation.
    Paper: SAGR, IEEE Transactions on Information Forensics and Security 2023
    """
    if projections and reading != "all":
        raise ValueError(f"projections need reading = 'all', got {reading!r}: it weighs entries")
    _check_used(reading, rho, floor, salient, tau, false_rows, projections)

    def shown(images: Tensor) -> Tensor:
        outputs = _OUTPUTS[of](model(images))
        if projections:
            return _projected(outputs, y, rho, projections, step)
        return outputs.gather(1, _classes(y, outputs.shape[1], false_rows, step)).T

    with attacks.frozen(model):
        rows = attacks.input_gradients(shown, x, create_graph=True).flatten(2)
    logits = model(x)
    if projections:
        penalty = rows.square().sum((0, 2))
    else:
        order = _classes(y, logits.shape[1], false_rows, step)
        given = _Rows(rows, logits.detach(), order, rho, floor, salient, tau)
        size = _READINGS[reading](given).sum(2)
        # the sampled false rows stand for all of them
        penalty = size[0] + size[1:].sum(0) * (logits.shape[1] - 1) / (len(rows) - 1)
    rise = min(1.0, step.progress / ramp) if ramp else 1.0
    return F.cross_entropy(logits, y) + rise * weight * 0.5 * penalty.mean()


def _check_used(
    reading: Reading,
    rho: float,
    floor: float,
    salient: float,
    tau: float,
    false_rows: int,
    projections: int,
) -> None:
    ignored = {
        "rho": reading == "contrast" and rho != 2.0,
        "floor": reading != "saliency_weighted" and floor != 0.1,
        "salient": reading != "saliency_gated" and salient != 0.3,
        "tau": reading != "contrast" and tau != 1.0,
        "false_rows": projections > 0 and false_rows != 3,
    }
    if names := [name for name, change in ignored.items() if change]:
        raise ValueError(
            f"reading = {reading!r} with projections = {projections} makes no use of {', '.join(names)}: leave it out"
        )


def _classes(y: Tensor, classes: int, false_rows: int, step: Step) -> Tensor:
    """The true class, then `false_rows` (0: all) different false ones at random, (n, 1 + false_rows)."""
    order = step.draws.fork("rows").uniform(classes)
    order.scatter_(1, y[:, None], -1.0)
    return order.argsort(1)[:, : 1 + (false_rows or classes)]


def _projected(outputs: Tensor, y: Tensor, rho: float, projections: int, step: Step) -> Tensor:
    """Random combinations of the outputs whose squared gradients sum to the weighted rows on average, (m, n)."""
    classes = outputs.shape[1]
    v = step.draws.fork("projection").normal(projections, classes)
    v = v * (classes / projections) ** 0.5 / v.norm(dim=2, keepdim=True)
    true, false = _class_weights(classes, rho)
    weights = torch.full_like(outputs, false).scatter(1, y[:, None], true)
    return (v * (weights.sqrt() * outputs)[:, None]).sum(2).T


def _class_weights(classes: int, rho: float) -> tuple[float, float]:
    """Weights of the true and of a false class; over all classes they sum to their number."""
    true = classes / (1 + rho * (classes - 1))
    return true, rho * true


class _Rows(NamedTuple):
    """Rows of the Jacobian (r, n, d), the true one first, and what a reading may weigh them by."""

    values: Tensor
    logits: Tensor
    order: Tensor
    """Their classes, (n, r)."""
    rho: float
    floor: float
    salient: float
    tau: float

    @property
    def bias(self) -> Tensor:
        """Class weights, (r, 1, 1)."""
        true, false = _class_weights(self.logits.shape[1], self.rho)
        weights = self.values.new_full((len(self.values), 1, 1), false)
        weights[0] = true
        return weights


def _saliency_weighted(rows: _Rows) -> Tensor:
    size = rows.values.detach().abs()
    mean = size.mean(2, keepdim=True)
    return rows.bias * rows.values.square() * mean / (size + rows.floor * mean).clamp_min(1e-12)


def _saliency_gated(rows: _Rows) -> Tensor:
    size = rows.values[0].detach().abs()
    least = size.topk(max(1, round(rows.salient * size.shape[1])), 1).values[:, -1:]
    weights = rows.bias.expand_as(rows.values).clone()
    weights[0][size < least] = 1.0
    return weights * rows.values.square()


def _positive(rows: _Rows) -> Tensor:
    return rows.bias * rows.values.clamp_min(0).square() + rows.values.clamp_max(0).square()


def _softweights(rows: _Rows) -> Tensor:
    """The false classes weighed by how probable they are among themselves."""
    true = rows.order[:, :1]
    rivals = rows.logits.scatter(1, true, -torch.inf).softmax(1) * (rows.logits.shape[1] - 1)
    weights = rivals.scatter(1, true, 1.0).gather(1, rows.order).T[..., None]
    return rows.bias * weights * rows.values.square()


def _contrast(rows: _Rows) -> Tensor:
    squares = rows.values.square()
    scale = 1 / (squares[:1].sum(2, keepdim=True) + 1e-3)
    return torch.cat([rows.tau * squares[:1], (scale + rows.tau) * squares[1:]])


# rows -> weighted squares (r, n, d)
_READINGS: dict[str, Callable[[_Rows], Tensor]] = {
    "saliency_weighted": _saliency_weighted,
    "saliency_gated": _saliency_gated,
    "all": lambda rows: rows.bias * rows.values.square(),
    "positive": _positive,
    "softweights": _softweights,
    "contrast": _contrast,
}

_OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: logits,
    "centred": lambda logits: logits - logits.mean(1, keepdim=True),
    "logsoftmax": lambda logits: logits.log_softmax(1),
    "softmax": lambda logits: logits.softmax(1),
}
