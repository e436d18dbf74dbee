"""Saliency-based training: every option's loss and gradient against a version written out sample by sample."""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.attacks import frozen
from metrics.randomness import Draws
from metrics.threat import L2, Linf, ThreatModel
from trainers._cost import NOTHING
from trainers.adv_gsct import _DISAGREEMENTS, adv_gsct
from trainers.base import Images, Objective, Setup, Step, Trained, Trainer
from trainers.interpretation import interpretation
from trainers.jacobian import jacobian
from trainers.jarn import jarn
from trainers.pgd_at import pgd_at
from trainers.recipe import Recipe
from trainers.sagr import sagr

N, K, SHAPE = 5, 4, (2, 4, 5)
D = math.prod(SHAPE)
IDS = torch.tensor([40, 7, 23, 11, 2])
X = Draws(0, IDS).uniform(*SHAPE).double()
Y = torch.arange(N) % K
DRAWS = Draws(3, IDS)
LINF, SELECTION = Linf(0.1), Linf(0.05)
RECIPE = Recipe("none", epochs=2, batch_size=4, optimiser="sgd", lr=0.1, keep="last")


def unwrapped(trainer: Trainer) -> Callable[..., Any]:
    """The loss or objective that a trainer was lifted from."""
    inner: Callable[..., Any] = inspect.unwrap(trainer)
    return inner


def at(progress: float = 1.0, threat: ThreatModel | None = LINF, draws: Draws = DRAWS) -> Step:
    return Step(draws, progress, threat, lr=0.1)


def setup(recipe: Recipe = RECIPE, seed: int = 0, threat: ThreatModel | None = LINF) -> Setup:
    data = Images(X, Y, IDS)
    return Setup(data, data, recipe, threat, SELECTION, seed)


def weighted(*layers: nn.Module) -> nn.Sequential:
    """A network with weights of its own, in double precision."""
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(Draws(i, torch.arange(1)).normal(*parameter.shape)[0])
    return net


@pytest.fixture
def model() -> nn.Sequential:
    return weighted(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K))


def with_batchnorm() -> nn.Sequential:
    return weighted(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(18, K)
    ).train()


def assert_same(model: nn.Module, got: Tensor, expected: Tensor, rtol: float = 1e-6) -> None:
    """Equal values and equal derivatives by every parameter."""
    assert got.shape == ()
    torch.testing.assert_close(got, expected, rtol=rtol, atol=1e-12)
    pairs = zip(*(_derivatives(model, loss) for loss in (got, expected)), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=rtol, atol=max(1e-8, rtol / 100))


def _derivatives(model: nn.Module, loss: Tensor) -> tuple[Tensor, ...]:
    parameters = list(model.parameters())
    return torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)


def logits_of(model: nn.Module, image: Tensor) -> Tensor:
    return model(image[None])[0]


def ce(model: nn.Module, image: Tensor, label: int) -> Tensor:
    z = logits_of(model, image)
    return z.exp().sum().log() - z[label]


def mean_ce(model: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([ce(model, i, k) for i, k in zip(x, Y.tolist(), strict=True)]).mean()


def gradient(score: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    image = image.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(score(image), image, create_graph=True)
    return g


# ---- sagr ----

OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z,
    "centred": lambda z: z - z.sum() / K,
    "logsoftmax": lambda z: z - z.exp().sum().log(),
    "softmax": lambda z: z.exp() / z.exp().sum(),
}


def rows(model: nn.Module, image: Tensor, of: str = "logits") -> list[Tensor]:
    """The Jacobian's row of every class of one image, flat."""

    def output(i: Tensor, k: int) -> Tensor:
        return OUTPUTS[of](logits_of(model, i))[k]

    return [gradient(lambda i, k=k: output(i, k), image).flatten() for k in range(K)]


def penalty(model: nn.Module, image: Tensor, y: int, reading: str, rho: float, of: str) -> Tensor:
    """What each reading penalises at one image (floor 0.4, salient 0.3, tau 0.7), entry by entry."""
    jacobian_rows = rows(model, image, of)
    true = K / (1 + rho * (K - 1))
    squares = [sum((e**2 for e in row), X.new_zeros(())) for row in jacobian_rows]
    false = [k for k in range(K) if k != y]
    p = logits_of(model, image).exp().detach()
    if reading == "contrast":
        contrast = sum(squares[k] for k in false) / (squares[y] + 0.001)
        return contrast + 0.7 * sum(squares)
    if reading == "softweights":
        share = [(K - 1) * p[k] / sum(p[j] for j in false) for k in range(K)]
        return true * squares[y] + sum(rho * true * share[k] * squares[k] for k in false)
    if reading == "saliency_gated":
        order = sorted(range(D), key=lambda i: -abs(jacobian_rows[y][i].item()))
        largest = order[: round(0.3 * D)]
        own = sum(
            (true if i in largest else 1) * entry**2 for i, entry in enumerate(jacobian_rows[y])
        )
        return own + sum(rho * true * squares[k] for k in false)
    total = X.new_zeros(())
    for k, row in enumerate(jacobian_rows):
        mu = row.abs().mean().detach()
        for entry in row:
            v = mu / (entry.detach().abs() + 0.4 * mu) if reading == "saliency_weighted" else 1
            w = true if k == y else rho * true
            total = total + (1 if reading == "positive" and entry < 0 else w) * v * entry**2
    return total


def sagr_literally(model: nn.Module, reading: str, rho: float, of: str) -> Tensor:
    pairs = zip(X, Y.tolist(), strict=True)
    penalties = [penalty(model, image, k, reading, rho, of) for image, k in pairs]
    return mean_ce(model, X) + 0.2 / 2 * torch.stack(penalties).mean()


@pytest.mark.parametrize(
    ("reading", "of"),
    [
        ("saliency_gated", "logits"), ("softweights", "logits"), ("contrast", "logits"),
        ("saliency_gated", "centred"), ("softweights", "softmax"), ("contrast", "logsoftmax"),
        ("saliency_weighted", "centred"), ("all", "logsoftmax"), ("positive", "softmax"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rho", [0.5, 5.0])
def test_sagr_readings_literally(model: nn.Sequential, reading: str, of: str, rho: float) -> None:
    own = {"contrast": {"tau": 0.7}, "saliency_weighted": {"rho": rho, "floor": 0.4}}
    settings = own.get(reading, {"rho": rho})
    got = unwrapped(sagr)(
        model, X, Y, at(), weight=0.2, reading=reading, of=of, false_rows=0, ramp=0, **settings
    )
    assert_same(model, got, sagr_literally(model, reading, rho, of))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"reading": "contrast", "rho": 5.0}, "rho"),
        ({"salient": 0.5}, "salient"),
        ({"reading": "all", "tau": 0.5}, "tau"),
        ({"reading": "all", "floor": 0.5}, "floor"),
        ({"reading": "all", "projections": 2, "false_rows": 0}, "false_rows"),
    ],
)
def test_sagr_refuses_settings_that_change_nothing(
    model: nn.Sequential, settings: dict[str, Any], name: str
) -> None:
    with pytest.raises(ValueError, match=f"makes no use of {name}: leave it out"):
        unwrapped(sagr)(model, X, Y, at(), **settings)


def test_sagrs_pixel_weights_level_as_their_floor_rises(model: nn.Sequential) -> None:
    """v = mu / (|J| + floor mu) is 1 / floor where the floor is far above every entry: then it is reading all."""
    shared = {"false_rows": 0, "ramp": 0}
    high = unwrapped(sagr)(model, X, Y, at(), weight=2.0e6, floor=1e7, **shared)
    plain = unwrapped(sagr)(model, X, Y, at(), weight=0.2, reading="all", **shared)
    torch.testing.assert_close(high, plain, rtol=1e-5, atol=0)
    low = unwrapped(sagr)(model, X, Y, at(), weight=0.2, floor=0.5, **shared)
    assert not torch.isclose(low, unwrapped(sagr)(model, X, Y, at(), weight=0.2, **shared))


@pytest.mark.parametrize("projections", [1, 3])
def test_sagr_projected_without_class_bias_is_jacobian(
    model: nn.Sequential, projections: int
) -> None:
    got = unwrapped(sagr)(
        model, X, Y, at(), weight=0.4, rho=1.0, reading="all", projections=projections, ramp=0
    )
    expected = unwrapped(jacobian)(model, X, Y, at(), weight=0.4, projections=projections)
    assert_same(model, got, expected)


@pytest.mark.parametrize("projections", [1, 3])
@pytest.mark.parametrize("rho", [0.2, 5.0])
def test_sagr_by_random_projection_is_unbiased(
    model: nn.Sequential, projections: int, rho: float
) -> None:
    x, y = X[:1].expand(100, *SHAPE), Y[1:2].expand(100)
    settings = {"weight": 1.0, "rho": rho, "reading": "all", "ramp": 0}
    found = [
        unwrapped(sagr)(
            model, x, y, at(draws=Draws(seed, torch.arange(100))),
            projections=projections, **settings,
        ).item()
        for seed in range(20)
    ]  # fmt: skip
    exact = unwrapped(sagr)(
        model, x, y, at(draws=Draws(0, torch.arange(100))), false_rows=0, **settings
    ).item()
    penalty = exact - F.cross_entropy(model(x), y).item()
    sample = torch.tensor(found).double() - exact
    error = sample.std().item() / math.sqrt(len(found))
    assert 0 < error < 0.05 * penalty
    assert abs(sample.mean().item()) < 4 * error


def test_sagr_projects_reading_all_only(model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="projections need reading = 'all', got 'positive'"):
        unwrapped(sagr)(model, X, Y, at(), reading="positive", projections=1)


@pytest.mark.parametrize("of", OUTPUTS)
def test_only_sagr_of_logits_sees_what_all_logits_share(of: str) -> None:
    """A function added to every logit leaves every prediction as it is."""

    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x) + 3 * x.square().flatten(1).sum(1, keepdim=True)

    net = weighted(nn.Flatten(), nn.Linear(D, K))
    found = [
        unwrapped(sagr)(m, X, Y, at(), of=of, reading="all", false_rows=0, ramp=0)
        for m in (net, Shifted())
    ]
    assert torch.isclose(*found) == (of != "logits")


# ---- adv_gsct ----

SALIENCIES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "margin": lambda z, y: z[y] - max(z[k] for k in range(K) if k != y),
    "logit": lambda z, y: z[y],
    "log_odds": lambda z, y: z[y] - sum(z[k].exp() for k in range(K) if k != y).log(),
}


def pooled(maps: Tensor) -> Tensor:
    """Means over 3x3 pixels, of those that are in the image."""
    size, out = maps.abs().sum(0), []
    for i, j in itertools.product(range(SHAPE[1]), range(SHAPE[2])):
        near = size[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2]
        out.append(near.sum() / near.numel())
    return torch.stack(out).view(1, *SHAPE[1:])


COMPARED: dict[str, Callable[[Tensor], Tensor]] = {
    "signed": lambda s: s,
    "positive": lambda s: torch.where(s > 0, s, 0.0),
    "abs": lambda s: s.abs().sum(0)[None],
    "pooled": pooled,
}


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Wang et al. 2004, window by window; Gaussian of 1.5 pixels, renormalised at the border."""
    a, b = a / a.abs().max(), b / b.abs().max()
    found = []
    _, height, width = a.shape
    for i, j in itertools.product(range(height), range(width)):
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        w = (-((rows - i) ** 2 + (columns - j) ** 2) / (2 * 1.5**2)).double().exp()
        w = w / w.sum()
        for one, two in zip(a, b, strict=True):
            m1, m2 = (w * one).sum(), (w * two).sum()
            v1, v2 = (w * (one - m1) ** 2).sum(), (w * (two - m2) ** 2).sum()
            cov = (w * (one - m1) * (two - m2)).sum()
            found.append(
                (2 * m1 * m2 + 0.01**2) * (2 * cov + 0.03**2)
                / ((m1**2 + m2**2 + 0.01**2) * (v1 + v2 + 0.03**2))
            )  # fmt: skip
    return torch.stack(found).mean()


def kl(a: Tensor, b: Tensor) -> Tensor:
    scaled = (m / ((m - m.mean()).square().sum() / (m.numel() - 1)).sqrt() for m in (a, b))
    q, p = (m.flatten().exp() / m.exp().sum() for m in scaled)
    return sum((y * (y / x).log() for x, y in zip(q, p, strict=True)), X.new_zeros(()))


DISAGREEMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda a, b: 1 - (a * b).sum() / (a.norm() * b.norm()),
    "l2": lambda a, b: (a / a.norm() - b / b.norm()).square().sum(),
    "ssim": lambda a, b: 1 - ssim(a, b),
    "kl": kl,
}


def interpolated(image: Tensor, removed: Tensor) -> Tensor:
    """Removed pixels replaced again and again by the weighted mean of their neighbours."""
    image = torch.where(removed, 0.5, image)
    for _ in range(400):
        new = image.clone()
        for i, j in removed.nonzero().tolist():
            total, weights = torch.zeros(SHAPE[0]).double(), 0.0
            for a, b in itertools.product((-1, 0, 1), repeat=2):
                inside = 0 <= i + a < SHAPE[1] and 0 <= j + b < SHAPE[2]
                if (a, b) != (0, 0) and inside:
                    w = 1 / 6 if 0 in (a, b) else 1 / 12
                    total, weights = total + w * image[:, i + a, j + b], weights + w
            new[:, i, j] = total / weights
        if (new - image).abs().max() < 1e-9:
            break
        image = new
    return image


def blurred(image: Tensor) -> Tensor:
    out = torch.zeros_like(image)
    rows, columns = torch.arange(SHAPE[1])[:, None], torch.arange(SHAPE[2])
    for i, j in itertools.product(range(SHAPE[1]), range(SHAPE[2])):
        w = (-((rows - i) ** 2 + (columns - j) ** 2) / (2 * 3.0**2)).double().exp()
        out[:, i, j] = (image * w / w.sum()).sum((1, 2))
    return out


def filling(fill: str, n: int, removed: Tensor) -> Tensor:
    image, own = X[n], Draws(3, IDS[n : n + 1]).fork("fill")
    if fill == "zero":
        return torch.zeros_like(image)
    if fill == "mean":
        return torch.stack([X[:, c].mean() for c in range(2)])[:, None, None].expand(SHAPE)
    if fill == "noise":
        return image.min() + (image.max() - image.min()) * own.uniform(*SHAPE)[0].double()
    if fill == "blur":
        return blurred(image)
    return (interpolated(image, removed) + 0.01 * own.normal(*SHAPE)[0]).clip(0, 1)


def edge_strength(image: Tensor) -> Tensor:
    """Sobel's kernels over 8 at every pixel of the channels' mean, the border's pixels repeated outward."""
    grey = image.mean(0)
    found = torch.zeros_like(grey)
    for i, j in itertools.product(range(SHAPE[1]), range(SHAPE[2])):
        near = torch.zeros(3, 3).double()
        for a, b in itertools.product(range(3), repeat=2):
            near[a, b] = grey[
                min(max(i + a - 1, 0), SHAPE[1] - 1), min(max(j + b - 1, 0), SHAPE[2] - 1)
            ]
        smooth = torch.tensor([1.0, 2.0, 1.0]).double()
        right, down = smooth @ (near[:, 2] - near[:, 0]) / 8, smooth @ (near[2] - near[0]) / 8
        found[i, j] = (right**2 + down**2).sqrt()
    return found


def pseudo_input(
    n: int, s: Tensor, kappa: float, soft: float | None, edges: float, fill: str
) -> Tensor:
    a, e = s.detach().abs().sum(0), edge_strength(X[n])
    a = (1 - edges) * a / a.max() + edges * e / e.max()
    if soft is not None:
        share = (a / a.max()) ** soft
        return share * X[n] + (1 - share) * filling(fill, n, share < 1)
    order = sorted(range(a.numel()), key=lambda p: -a.flatten()[p].item())
    removed = torch.ones(a.numel(), dtype=torch.bool)
    removed[order[: round(kappa * a.numel())]] = False
    removed = removed.view(a.shape)
    return torch.where(removed, filling(fill, n, removed), X[n])


def one_step(model: nn.Module, image: Tensor, n: int, threat: ThreatModel, alpha: float) -> Tensor:
    """FGSM from a random start (Wong, Rice & Kolter 2020)."""
    u = threat.noise(X[n : n + 1], DRAWS[n : n + 1])[0]
    g = gradient(lambda i: ce(model, i, int(Y[n])), image + u).detach()
    if isinstance(threat, Linf):
        delta = (u + alpha * threat.eps * g.sign()).clip(-threat.eps, threat.eps)
    else:
        delta = u + alpha * threat.eps * g / g.norm()
        delta = delta * min(1.0, threat.eps / delta.norm().item())
    return (image + delta).clip(0, 1)


DEFAULTS: dict[str, Any] = {
    "clean_weight": 0.0, "offending_weight": 1.0, "consensus_weight": 1.0, "anchor": 0.0,
    "offend": "mask+step", "kappa": 0.3, "soft": None, "edges": 0.0, "fill": "zero", "alpha": 1.25,
    "saliency": "margin", "compare": "signed", "similarity": "cosine", "symmetric": False,
    "ramp": 0.1,
}  # fmt: skip


def adv_gsct_literally(
    model: nn.Module, threat: ThreatModel, progress: float, **settings: Any
) -> Tensor:
    o = DEFAULTS | settings
    losses = []
    rise = min(1, progress / o["ramp"])
    for n, (image, y) in enumerate(zip(X, Y.tolist(), strict=True)):

        def saliency(i: Tensor, y: int = y) -> Tensor:
            return gradient(lambda i: SALIENCIES[o["saliency"]](logits_of(model, i), y), i)

        own = saliency(image)
        offending = image
        if "mask" in o["offend"]:
            offending = pseudo_input(n, own, o["kappa"], o["soft"], o["edges"], o["fill"])
        if "step" in o["offend"]:
            offending = one_step(model, offending, n, threat, o["alpha"])
        target = saliency(offending)
        if not o["symmetric"]:
            target = target.detach()
        compared = (COMPARED[o["compare"]](s) for s in (own, target))
        losses.append(
            o["clean_weight"] * ce(model, image, y)
            + o["offending_weight"] * ce(model, offending, y)
            + rise * o["consensus_weight"] * DISAGREEMENTS[o["similarity"]](*compared)
            + o["anchor"] * own.square().sum()
        )
    return torch.stack(losses).mean()


OPTIONS: list[dict[str, Any]] = [
    {},
    *({"saliency": s} for s in SALIENCIES),
    *({"compare": c} for c in COMPARED),
    *({"similarity": s, "compare": c} for s in DISAGREEMENTS for c in ("signed", "abs")),
    *({"fill": f, "offend": "mask"} for f in ("zero", "mean", "noise", "blur", "noisy_linear")),
    {"fill": "blur"}, {"fill": "noisy_linear"},
    {"soft": 0.5}, {"soft": 2.0, "fill": "mean"}, {"soft": 0.5, "fill": "noise"},
    {"edges": 0.5}, {"edges": 1.0, "kappa": 0.5}, {"edges": 0.2, "soft": 0.5},
    {"symmetric": True}, {"symmetric": True, "similarity": "kl", "saliency": "logit"},
    {"anchor": 0.3}, {"anchor": 0.3, "consensus_weight": 0.0},
    {"ramp": 0.5}, {"alpha": 0.6, "kappa": 0.6},
    {"offend": "step", "saliency": "log_odds"}, {"consensus_weight": 0.0, "saliency": "log_odds"},
    {"offend": "mask", "soft": 0.5, "saliency": "logit"},
    {"clean_weight": 0.5, "offending_weight": 2.0, "consensus_weight": 3.0, "similarity": "l2"},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_adv_gsct_options_literally(model: nn.Sequential, options: dict[str, Any]) -> None:
    # conjugate gradients stop at 1e-6
    rtol = 1e-4 if options.get("fill") == "noisy_linear" else 1e-6
    got = unwrapped(adv_gsct)(model, X, Y, at(0.4), **options)
    assert_same(model, got, adv_gsct_literally(model, LINF, 0.4, **options), rtol)


def test_adv_gsct_options_literally_for_l2(model: nn.Sequential) -> None:
    options: dict[str, Any] = {"fill": "mean", "compare": "pooled", "clean_weight": 1.0}
    got = unwrapped(adv_gsct)(model, X, Y, at(0.2, L2(0.5)), **options)
    assert_same(model, got, adv_gsct_literally(model, L2(0.5), 0.2, **options))


def test_adv_gsct_options_do_something(model: nn.Sequential) -> None:
    found = [unwrapped(adv_gsct)(model, X, Y, at(0.2), **o).item() for o in OPTIONS]
    plain = (
        {"saliency": "margin"},
        {"compare": "signed"},
        {"similarity": "cosine", "compare": "signed"},
    )
    for options, value in zip(OPTIONS[1:], found[1:], strict=True):
        same = options in plain or options == {"symmetric": True}  # which changes gradients only
        assert (value == found[0]) == same, options


def test_adv_gsct_l2_similarity_is_twice_the_cosine(model: nn.Sequential) -> None:
    found = [
        unwrapped(adv_gsct)(model, X, Y, at(), similarity=s, consensus_weight=w)
        for s, w in (("l2", 1.0), ("cosine", 2.0))
    ]
    assert_same(model, *found)


def test_adv_gsct_of_a_linear_margin_has_no_disagreement() -> None:
    """With two classes the margin's gradient is the same everywhere, as in GradAlign's limit."""
    net = weighted(nn.Flatten(), nn.Linear(D, 2))
    for similarity in DISAGREEMENTS:
        got = unwrapped(adv_gsct)(net, X, Y % 2, at(), offending_weight=0.0, similarity=similarity)
        torch.testing.assert_close(got, X.new_zeros(()), rtol=0, atol=1e-12)


def test_adv_gsct_kl_does_not_depend_on_the_scale_of_the_gradients() -> None:
    """Gradients of 1e-3 have a softmax that is all but uniform, whatever they point at."""
    own, target = (Draws(i, IDS).normal(*SHAPE).double() for i in range(2))
    plain, small = (_DISAGREEMENTS["kl"](own * by, target * by) for by in (1.0, 1e-3))
    torch.testing.assert_close(plain, small)
    assert plain > 0.5


MASK, STEP, CONSENSUS = (
    "a masked input (offend = 'mask+step')",
    "an adversarial step (offend = 'mask+step')",
    "a consensus_weight",
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"offend": "step", "kappa": 0.5}, f"kappa = 0.5: changes nothing without {MASK}"),
        ({"offend": "step", "soft": 0.5}, f"soft = 0.5: changes nothing without {MASK}"),
        ({"offend": "step", "edges": 0.5}, f"edges = 0.5: changes nothing without {MASK}"),
        ({"offend": "step", "fill": "noise"}, f"fill = 'noise': changes nothing without {MASK}"),
        ({"kappa": 0.5, "soft": 0.5}, "kappa = 0.5: changes nothing without whole pixels (soft left out)"),
        ({"offend": "mask", "alpha": 1.0}, f"alpha = 1.0: changes nothing without {STEP}"),
        (
            {"consensus_weight": 0.0, "offend": "step", "saliency": "logit"},
            "saliency = 'logit': changes nothing without a mask, a consensus_weight or an anchor",
        ),
        ({"consensus_weight": 0.0, "compare": "abs"}, f"compare = 'abs': changes nothing without {CONSENSUS}"),
        (
            {"consensus_weight": 0.0, "similarity": "kl", "ramp": 0.5},
            f"similarity = 'kl', ramp = 0.5: changes nothing without {CONSENSUS}",
        ),
        ({"consensus_weight": 0.0, "symmetric": True}, f"symmetric = True: changes nothing without {CONSENSUS}"),
        (
            {"consensus_weight": 0.0, "offending_weight": 0.0, "clean_weight": 1.0, "alpha": 1.0},
            f"alpha = 1.0: changes nothing without {STEP}",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_adv_gsct_refuses_settings_that_change_nothing(
    model: nn.Sequential, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        unwrapped(adv_gsct)(model, X, Y, at(), **settings)


def test_adv_gsct_compares_the_maps_of_a_sure_model() -> None:
    """In float32 probabilities are 1 there, and gradients of them vanish; those of the log-odds do not."""
    sharp = weighted(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K))
    with torch.no_grad():
        sharp[3].bias.copy_(torch.tensor([60.0, 0, 0, 0]))
    settings = {"saliency": "log_odds", "offend": "mask", "offending_weight": 0.0}
    full = adv_gsct_literally(sharp, LINF, 1.0, **settings)
    sharp.float()
    assert (sharp(X.float()).softmax(1)[:, 0] == 1).all()
    low = unwrapped(adv_gsct)(sharp, X.float(), Y, at(), **settings)
    torch.testing.assert_close(low.double(), full, rtol=1e-4, atol=1e-6)


def test_adv_gsct_without_terms_is_refused(model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="all four weights are 0"):
        unwrapped(adv_gsct)(model, X, Y, at(), offending_weight=0.0, consensus_weight=0.0)


# ---- jarn ----


def standardised(image: Tensor) -> Tensor:
    return (image - image.mean()) / (image - image.mean()).norm()


def critic_loss(game: nn.Module, images: Tensor, gradients: Tensor) -> Tensor:
    """Cross-entropy of the critic between images (1) and adapted gradients (0), layer by layer."""
    mix, bias = game.adaptor.weight[:, :, 0, 0], game.adaptor.bias
    fakes = [
        (torch.einsum("oc,chw->ohw", mix, standardised(g)) + bias[:, None, None]).tanh()
        for g in gradients
    ]
    out = torch.stack([standardised(i) for i in (*images, *fakes)])
    for layer in game.critic:
        if isinstance(layer, nn.Conv2d):
            out = F.conv2d(out, layer.weight, layer.bias, stride=2, padding=1)
        elif isinstance(layer, nn.BatchNorm2d):
            mean = out.mean((0, 2, 3), keepdim=True)
            variance = (out - mean).square().mean((0, 2, 3), keepdim=True)
            scale, shift = layer.weight[:, None, None], layer.bias[:, None, None]
            out = (out - mean) / (variance + 1e-5).sqrt() * scale + shift
        elif isinstance(layer, nn.LeakyReLU):
            out = torch.where(out > 0, out, 0.1 * out)
        elif isinstance(layer, nn.Linear):
            out = out.flatten(1) @ layer.weight.T + layer.bias
    p = 1 / (1 + (-out[:, 0]).exp())
    return -torch.cat([p[: len(images)].log(), (1 - p[len(images) :]).log()]).mean()


def noisy(width: float) -> Tensor:
    u = DRAWS.fork("noise").uniform(*SHAPE).double()
    return (X + width * (2 * u - 1)).clip(0, 1)


def probability_gradients(model: nn.Module, x: Tensor) -> Tensor:
    return torch.stack(
        [
            gradient(lambda i, k=k: logits_of(model, i).softmax(0)[k], image)
            for image, k in zip(x, Y.tolist(), strict=True)
        ]
    )


def jarn_objective(model: nn.Module, seed: int = 0, **settings: Any) -> tuple[Objective, Any]:
    objective = unwrapped(jarn)(model, setup(seed=seed), **({"channels": 3} | settings))
    return objective, objective.state["game"]


@pytest.mark.parametrize(
    ("size", "convolutions"),
    [(32, [32, 64, 128, 256, 512]), (28, [32, 64, 128, 256]), (8, [32, 64, 128])],
)
def test_jarns_critic_is_the_authors(size: int, convolutions: list[int]) -> None:
    """Five 4x4 convolutions of stride 2, from 32 channels on and doubling: fewer where the image ends before."""
    data = Images(torch.zeros(4, 3, size, size), Y[:4] % 2, IDS[:4])
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 2))
    made = unwrapped(jarn)(net, Setup(data, data, RECIPE, None, None, 0))
    layers = list(made.state["game"].critic)
    found = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in found] == convolutions
    assert [tuple(layer.weight.shape[1:]) for layer in found] == [
        (channels, 4, 4) for channels in [3, *convolutions[:-1]]
    ]
    assert {(layer.stride, layer.padding) for layer in found} == {((2, 2), (1, 1))}
    block = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert [type(layer) for layer in layers] == [*block * len(found), nn.Flatten, nn.Linear]


def test_jarns_critic_is_shown_no_colour_but_the_gradients(model: nn.Module) -> None:
    """A bias of the untrained adaptor would be a constant colour, far larger than the gradient beside it."""
    _, game = jarn_objective(model)
    seen: list[Tensor] = []
    game.critic.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    game(X, torch.zeros_like(X))
    assert not seen[0][len(X) :].any()


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_jarn_literally(model: nn.Sequential, weight: float) -> None:
    objective, game = jarn_objective(model, weight=weight, adaptor_weight=0.5, noise=0.1, start=0.6)
    before = copy.deepcopy(game)
    got = objective.loss(X, Y, at(0.65))
    x = noisy(0.1)
    g = probability_gradients(model, x)
    assert_same(model, got, mean_ce(model, x) - weight * critic_loss(game, x, g), rtol=1e-5)

    # the critic took one step down its loss, and then the adaptor one up, by plain gradient descent
    for player, share in (("critic", 1.0), ("adaptor", -0.5)):
        parameters = dict(getattr(before, player).named_parameters())
        steps = torch.autograd.grad(
            share * critic_loss(before, x, g.detach()), list(parameters.values())
        )
        with torch.no_grad():
            for parameter, step in zip(parameters.values(), steps, strict=True):
                parameter -= at().lr * step
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(parameter, game.get_parameter(name), msg=name)


def test_jarn_before_its_start_is_training_on_noise(model: nn.Sequential) -> None:
    objective, game = jarn_objective(model)
    before = copy.deepcopy(game.state_dict())
    assert_same(model, objective.loss(X, Y, at(0.87)), mean_ce(model, noisy(8 / 255)))
    assert all(torch.equal(value, before[key]) for key, value in game.state_dict().items())


def test_jarns_critic_learns_every_so_many_steps(model: nn.Sequential) -> None:
    objective, game = jarn_objective(model, start=0.0, critic_every=3)
    moved = []
    for _ in range(5):
        before = copy.deepcopy(game)
        objective.loss(X, Y, at(0.5))
        moved.append(
            tuple(
                not torch.equal(p, before.get_parameter(name))
                for name, p in game.named_parameters()
                if name in ("critic.0.weight", "adaptor.weight")
            )
        )
    assert moved == [(True, True), (True, False), (True, False), (True, True), (True, False)]


def test_jarns_players_learn_at_the_models_rate(model: nn.Sequential) -> None:
    objective, game = jarn_objective(model, start=0.0)
    before = copy.deepcopy(game.state_dict())
    objective.loss(X, Y, replace(at(0.5), lr=0.0))
    del before["steps"]
    assert all(torch.equal(value, game.state_dict()[key]) for key, value in before.items())


def test_jarns_critic_learns_to_tell_gradients_from_images(model: nn.Sequential) -> None:
    objective, game = jarn_objective(model, start=0.0, critic_every=1, adaptor_weight=0.0, noise=0)
    g = probability_gradients(model, X).detach()
    first = critic_loss(game, X, g)
    for _ in range(30):
        objective.loss(X, Y, at(0.3))
    assert critic_loss(game, X, g) < 0.5 * first


def test_jarns_players_come_from_the_seed_alone(model: nn.Sequential) -> None:
    state = torch.get_rng_state()
    one, same, other = (jarn_objective(model, seed)[1].state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not torch.equal(one["critic.0.weight"], other["critic.0.weight"])


@pytest.mark.parametrize(
    ("channels", "height", "width", "convolutions"),
    [(1, 8, 8, 3), (1, 28, 28, 4), (3, 32, 32, 5), (3, 224, 224, 5), (2, 1, 2, 0), (2, 4, 9, 2)],
)
def test_jarns_critic_halves_the_image_as_often_as_it_can(
    channels: int, height: int, width: int, convolutions: int
) -> None:
    images = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    data = Images(images, torch.arange(2), torch.arange(2))
    game: Any = unwrapped(jarn)(
        nn.Identity(), Setup(data, data, RECIPE, None, None, 0), channels=2
    ).state["game"]
    assert sum(isinstance(layer, nn.Conv2d) for layer in game.critic) == convolutions
    assert game(images, images.flip(0)).isfinite()


class Interrupted:
    """Keeps the first snapshot that is offered."""

    def __init__(self, kept: dict[str, Any] | None = None) -> None:
        self.kept = kept

    def load(self) -> dict[str, Any] | None:
        return self.kept

    def offer(self, make: Callable[[], dict[str, Any]]) -> None:
        self.kept = self.kept or copy.deepcopy(make())


def test_jarn_continues_to_the_same_weights() -> None:
    data = Images(X, Y, IDS)
    recipe = Recipe("none", epochs=4, batch_size=3, lr=0.01, keep="last")
    runs, snapshots = [], Interrupted()
    for _ in range(2):
        net = with_batchnorm()
        jarn(
            net, data, data, recipe=recipe, threat=None, seed=0, snapshots=snapshots,
            start=0.0, critic_every=3, channels=2,
        )  # fmt: skip
        runs.append(net.state_dict())
    assert snapshots.kept
    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())


# ---- interpretation ----

room = importlib.import_module("trainers.interpretation")


def untrained(monkeypatch: pytest.MonkeyPatch, change: float = 0.5) -> None:
    """Instead of a training, a known change of the teacher."""

    def teach(teacher: nn.Module, *data: Images, **settings: object) -> Trained:
        assert settings == {"recipe": RECIPE, "threat": LINF, "seed": 0, "selection": SELECTION}
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter += change
        return Trained(teacher, [], 0, NOTHING)

    monkeypatch.setattr(room, "pgd_at", teach)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_interpretation_literally(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch, threshold: float
) -> None:
    untrained(monkeypatch)
    objective = unwrapped(interpretation)(
        model, setup(), cosine_weight=2.0, norm_weight=0.4, threshold=threshold
    )
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter += 0.5
    noise = Draws(0, IDS).fork("teacher").fork("attribution", "smoothgrad")
    cosines, squares = [], X.new_zeros(())
    chosen = [3, 0, 4]
    for n in chosen:
        y = int(Y[n])
        target = torch.stack(
            [
                gradient(
                    lambda i, y=y: logits_of(teacher, i)[y],
                    X[n] + 0.15 * noise.fork("copy", i).normal(*SHAPE)[n],
                )
                for i in range(20)
            ]
        ).mean(0).detach()  # fmt: skip
        far = (target - target.mean()).abs() > threshold * target.std()
        assert threshold == 0 or 0.1 < far.double().mean() < 0.6
        target = torch.where(far, target, 0.0)
        own = gradient(lambda i, y=y: logits_of(model, i)[y], X[n])
        cosines.append((own * target).sum() / (own.norm() * target.norm()))
        squares = squares + own.square().sum()
    error = torch.stack([ce(model, X[n], int(Y[n])) for n in chosen]).mean()
    expected = error + 2 * (1 - torch.stack(cosines).mean()) + 0.4 * squares.sqrt()
    got = objective.loss(X[chosen], Y[chosen], at(draws=Draws(9, IDS[chosen])))
    assert_same(model, got, expected)


def test_interpretations_teacher_is_the_models_own_adversarial_training(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = []

    def explain(teacher: nn.Module, x: Tensor, *_: object, **__: object) -> Tensor:
        taught.append(teacher.state_dict())
        return x

    monkeypatch.setattr(room, "explain", explain)
    before = copy.deepcopy(model)
    unwrapped(interpretation)(model, setup(seed=4))
    assert all(torch.equal(p, before.get_parameter(n)) for n, p in model.named_parameters())
    data = Images(X, Y, IDS)
    pgd_at(before, data, data, recipe=RECIPE, threat=LINF, seed=4)
    assert all(torch.equal(value, taught[0][key]) for key, value in before.state_dict().items())


def test_interpretations_targets_move_with_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the images for targets, each batch's targets must be the augmented images themselves."""
    x = Draws(0, IDS).uniform(2, 12, 12)
    data = Images(x, Y, IDS)
    net = nn.Sequential(nn.Flatten(), nn.Linear(288, K))
    seen: dict[str, list[Tensor]] = {"images": [], "targets": []}

    def target(maps: Tensor, threshold: float) -> Tensor:
        seen["targets"].append(maps)
        return maps

    def image(module: nn.Module, given: tuple[Tensor]) -> None:
        if module is net and module.training:  # not the copy that the cost is measured with
            seen["images"].append(given[0])

    monkeypatch.setattr(room, "pgd_at", lambda *_, **__: Trained(nn.Identity(), [], 0, NOTHING))
    monkeypatch.setattr(room, "explain", lambda teacher, x, *_, **__: x)
    monkeypatch.setattr(room, "_salient", target)
    net.register_forward_pre_hook(image)
    recipe = Recipe("none", epochs=2, batch_size=3, augment="crop_flip", keep="last")
    interpretation(net, data, data, recipe=recipe, threat=LINF, seed=0)
    assert len(seen["targets"]) == 4
    for one, two in zip(seen["images"], seen["targets"], strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(torch.cat(seen["images"][:2]).sort(0)[0], x.sort(0)[0])


# ---- for all ----


def trained_loss(trainer: Trainer, net: nn.Module, **settings: Any) -> Callable[[Step], Tensor]:
    """The loss of a step, whatever the trainer was lifted from."""
    if trainer in (sagr, adv_gsct):
        return lambda step: unwrapped(trainer)(net, X, Y, step, **settings)
    objective = unwrapped(trainer)(net, setup(), **settings)
    return lambda step: objective.loss(X, Y, step)


ALL: list[tuple[Trainer, dict[str, Any]]] = [
    (sagr, {"reading": "all", "projections": 2}), (sagr, {"reading": "softweights"}),
    (sagr, {"reading": "contrast", "of": "softmax"}),
    (adv_gsct, {"offend": "mask", "kappa": 1.0}),
    (adv_gsct, {"offend": "mask", "kappa": 1.0, "symmetric": True, "similarity": "ssim"}),
    (jarn, {"start": 0.0, "noise": 0.0, "channels": 2}), (interpretation, {}),
]  # fmt: skip


def of_each(cases: list[tuple[Trainer, dict[str, Any]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("trainer", "settings"), cases, ids=lambda v: str(getattr(v, "__name__", v))
    )


each = of_each(ALL)


@each
def test_batchnorm_sees_the_training_pass_alone(
    trainer: Trainer, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass in train mode, on the images; gradients, masks, teacher and critic leave the statistics alone."""
    untrained(monkeypatch)
    net = with_batchnorm()
    twin = copy.deepcopy(net)
    twin(X)
    trained_loss(trainer, net, **settings)(at()).backward()
    assert all(module.training for module in net.modules())
    for name, value in net.named_buffers():
        assert torch.equal(value, twin.get_buffer(name)), name


# the classes of softweights are weighed by the probabilities of the training pass, which BatchNorm's batch moves
@of_each([case for case in ALL if case[1].get("reading") != "softweights"])
def test_input_gradients_do_not_mix_the_images_of_a_batch(
    trainer: Trainer, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond the cross-entropy is taken with BatchNorm frozen: in eval mode it is the same."""
    if trainer is adv_gsct:
        settings = settings | {"offending_weight": 0.0}
    untrained(monkeypatch)
    beyond = []
    for mode in (True, False):
        net = with_batchnorm().train(mode)
        net[1].running_mean += 0.3
        loss = trained_loss(trainer, net, **settings)(at())
        with torch.no_grad():
            error = F.cross_entropy(with_statistics_of(net, mode)(X), Y)
        beyond.append(loss.item() - (0 if trainer is adv_gsct else error.item()))
    assert beyond[0] == pytest.approx(beyond[1], rel=1e-9)


def with_statistics_of(net: nn.Module, mode: bool) -> nn.Module:
    """A copy whose pass in this mode is that of `net` before its statistics moved."""
    twin = with_batchnorm().train(mode)
    twin[1].running_mean += 0.3
    return twin


@each
def test_a_loss_leaves_images_gradients_and_generator_alone(
    trainer: Trainer, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(monkeypatch)
    net = with_batchnorm()
    loss = trained_loss(trainer, net, **settings)
    x, state = X.clone(), torch.get_rng_state()
    loss(at())
    assert torch.equal(x, X)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    with frozen(net):  # still works on what the loss left
        assert net(X).isfinite().all()
