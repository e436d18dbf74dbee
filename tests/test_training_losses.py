"""Training losses: value and gradient against versions written out sample by sample, in double precision."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.randomness import Draws
from metrics.threat import L2, Linf, ThreatModel
from trainers._divergence import divergence as divergence_of
from trainers._divergence import most_divergent
from trainers.adv_gsct import adv_gsct
from trainers.base import Step, Trainer
from trainers.input_gradient import input_gradient
from trainers.jacobian import jacobian
from trainers.pgd_at import pgd_at
from trainers.sagr import _classes, sagr
from trainers.standard import standard
from trainers.trades import trades

N, K, SHAPE = 6, 4, (2, 3, 3)
D = math.prod(SHAPE)
IDS = torch.arange(N)
X = Draws(0, IDS).uniform(*SHAPE).double()
Y = IDS % K
DRAWS = Draws(3, IDS)
LINF = Linf(0.1)


def loss_of(trainer: Trainer) -> Callable[..., Tensor]:
    """The loss on a batch that a trainer was lifted from."""
    loss: Callable[..., Tensor] = inspect.unwrap(trainer)
    return loss


def at(progress: float = 1.0, threat: ThreatModel | None = LINF, draws: Draws = DRAWS) -> Step:
    return Step(draws, progress, threat, lr=0.1)


@pytest.fixture
def model() -> nn.Sequential:
    net = nn.Sequential(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K)).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(Draws(i, torch.arange(1)).normal(*parameter.shape)[0])
    return net


@pytest.fixture
def linear() -> nn.Sequential:
    net = nn.Sequential(nn.Flatten(), nn.Linear(D, K)).double()
    with torch.no_grad():
        net[1].weight.copy_(Draws(5, torch.arange(K)).normal(D))
    return net


def assert_same(model: nn.Module, got: Tensor, expected: Tensor, rtol: float = 1e-6) -> None:
    """Equal values and equal derivatives by every parameter."""
    assert got.shape == ()
    torch.testing.assert_close(got, expected, rtol=rtol, atol=1e-12)
    parameters = list(model.parameters())
    derivatives = [
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for loss in (got, expected)
    ]
    for one, two in zip(*derivatives, strict=True):
        torch.testing.assert_close(one, two, rtol=rtol, atol=1e-9)


def ce(model: nn.Module, image: Tensor, label: int) -> Tensor:
    z = model(image[None])[0]
    return z.exp().sum().log() - z[label]


def mean_ce(model: nn.Module, x: Tensor) -> Tensor:
    losses = [ce(model, image, int(label)) for image, label in zip(x, Y, strict=True)]
    return torch.stack(losses).mean()


def gradient(score: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    image = image.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(score(image), image, create_graph=True)
    return g


def rows(model: nn.Module, image: Tensor) -> list[Tensor]:
    """dz_k/dx for every class of one image."""
    return [gradient(lambda i, k=k: model(i[None])[0, k], image) for k in range(K)]


def margin(model: nn.Module, image: Tensor, label: int) -> Tensor:
    z = model(image[None])[0]
    return z[label] - max(z[k] for k in range(K) if k != label)


# ---- standard, input_gradient ----


def test_standard_literally(model: nn.Sequential) -> None:
    assert_same(model, loss_of(standard)(model, X, Y, at()), mean_ce(model, X))


def test_input_gradient_literally(model: nn.Sequential) -> None:
    penalties = [
        gradient(lambda i, k=int(k): ce(model, i, k), image).square().sum()
        for image, k in zip(X, Y, strict=True)
    ]
    expected = mean_ce(model, X) + 0.7 * torch.stack(penalties).mean()
    assert_same(model, loss_of(input_gradient)(model, X, Y, at(), weight=0.7), expected)


# ---- jacobian ----


def test_jacobian_of_a_linear_model_is_half_its_squared_norm(linear: nn.Sequential) -> None:
    got = loss_of(jacobian)(linear, X, Y, at(), weight=1, projections=0)
    penalty = got - F.cross_entropy(linear(X), Y)
    torch.testing.assert_close(penalty, 0.5 * linear[1].weight.square().sum())


def test_jacobian_literally(model: nn.Sequential) -> None:
    norms = [
        sum((row.square().sum() for row in rows(model, image)), X.new_zeros(())) for image in X
    ]
    expected = mean_ce(model, X) + 0.3 * 0.5 * torch.stack(norms).mean()
    got = loss_of(jacobian)(model, X, Y, at(), weight=0.3, projections=0)
    assert_same(model, got, expected)


def estimates(trainer: Trainer, model: nn.Module, **settings: object) -> tuple[float, float, float]:
    """Mean and standard error of the random penalty at one image (2000 draws), and the exact one."""
    x, y = X[:1].expand(100, *SHAPE), Y[1:2].expand(100)
    found = [
        loss_of(trainer)(
            model, x, y, at(draws=Draws(seed, torch.arange(100))), weight=1.0, **settings
        ).item()
        for seed in range(20)
    ]
    base = F.cross_entropy(model(x), y).item()
    sample = torch.tensor(found).double() - base
    return sample.mean().item(), sample.std().item() / math.sqrt(20), base


@pytest.mark.parametrize("projections", [1, 3])
def test_jacobian_by_random_projection_is_unbiased(model: nn.Sequential, projections: int) -> None:
    mean, error, _ = estimates(jacobian, model, projections=projections)
    exact = 0.5 * sum(row.square().sum().item() for row in rows(model, X[0]))
    assert 0 < error < 0.05 * exact
    assert mean == pytest.approx(exact, abs=4 * error)


def test_more_projections_vary_less(model: nn.Sequential) -> None:
    assert estimates(jacobian, model, projections=8)[1] < estimates(jacobian, model)[1]


# ---- sagr ----


def sagr_literal(model: nn.Module, reading: str, rho: float, weight: float) -> Tensor:
    penalties = []
    for image, label in zip(X, Y.tolist(), strict=True):
        total = X.new_zeros(())
        w_true = K / (1 + rho * (K - 1))
        for k, row in enumerate(rows(model, image)):
            w = w_true if k == label else rho * w_true
            mu = row.abs().mean().detach()
            for entry in row.flatten():
                if reading == "saliency_weighted":
                    v = mu / (entry.detach().abs() + 0.1 * mu)
                    total = total + w * v * entry**2
                elif reading == "positive":
                    total = total + (w if entry > 0 else 1) * entry**2
                else:
                    total = total + w * entry**2
        penalties.append(total)
    return mean_ce(model, X) + weight / 2 * torch.stack(penalties).mean()


@pytest.mark.parametrize("reading", ["saliency_weighted", "all", "positive"])
@pytest.mark.parametrize("rho", [1.0, 5.0])
def test_sagr_literally(model: nn.Sequential, reading: str, rho: float) -> None:
    got = loss_of(sagr)(
        model, X, Y, at(), weight=0.2, rho=rho, reading=reading, false_rows=0, ramp=0
    )
    assert_same(model, got, sagr_literal(model, reading, rho, 0.2))


@pytest.mark.parametrize("reading", ["all", "positive"])
def test_sagr_without_class_bias_is_jacobian(model: nn.Sequential, reading: str) -> None:
    got = loss_of(sagr)(
        model, X, Y, at(), weight=0.4, rho=1.0, reading=reading, false_rows=0, ramp=0
    )
    expected = loss_of(jacobian)(model, X, Y, at(), weight=0.4, projections=0)
    assert_same(model, got, expected)


def test_sagr_all_of_a_linear_model_is_the_weighted_sum_of_its_rows(
    linear: nn.Sequential,
) -> None:
    got = loss_of(sagr)(
        linear, X, Y, at(), weight=1.0, rho=5.0, reading="all", false_rows=0, ramp=0
    )
    squares = linear[1].weight.square().sum(1)
    weights = torch.where(Y[:, None] == torch.arange(K), 1.0, 5.0) * K / (1 + 5.0 * (K - 1))
    torch.testing.assert_close(weights.sum(1), torch.full((N,), float(K)))
    expected = 0.5 * (weights * squares).sum(1).mean()
    torch.testing.assert_close(got - F.cross_entropy(linear(X), Y), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("false_rows", [1, 2])
@pytest.mark.parametrize(
    "reading",
    ["saliency_weighted", "saliency_gated", "all", "positive", "softweights", "contrast"],
)
def test_sagr_by_sampled_rows_is_unbiased(
    model: nn.Sequential, reading: str, false_rows: int
) -> None:
    bias = {} if reading == "contrast" else {"rho": 3.0}
    settings = {"reading": reading, "ramp": 0, **bias}
    mean, error, _ = estimates(sagr, model, false_rows=false_rows, **settings)
    exact, none, _ = estimates(sagr, model, false_rows=0, **settings)
    assert none < 1e-6 * exact
    assert 0 < error < 0.05 * exact
    assert mean == pytest.approx(exact, abs=4 * error)


@pytest.mark.parametrize("false_rows", [0, 1, 2, 3])
def test_sagrs_rows_are_the_true_class_and_different_false_ones(false_rows: int) -> None:
    many = torch.arange(3000)
    y = many % K
    got = _classes(y, K, false_rows, at(draws=Draws(0, many)))
    assert got.shape == (3000, 1 + (false_rows or K - 1))
    assert torch.equal(got[:, 0], y)
    assert all(len(set(row)) == len(row) for row in got.tolist())
    chosen = ((got[:, 1:] - y[:, None]) % K).flatten().bincount(minlength=K)
    assert chosen[0] == 0
    share = chosen[1:] / chosen.sum()
    assert (share - 1 / 3).abs().max() < 0.04  # every false class equally often


@pytest.mark.parametrize(
    ("progress", "ramp", "rise"), [(0.0, 0.2, 0.0), (0.05, 0.2, 0.25), (0.2, 0.2, 1), (0.9, 0.2, 1)]
)
def test_sagrs_weight_rises_linearly(
    model: nn.Sequential, progress: float, ramp: float, rise: float
) -> None:
    base, full = mean_ce(model, X), loss_of(sagr)(model, X, Y, at(), weight=0.1, ramp=0)
    got = loss_of(sagr)(model, X, Y, at(progress), weight=0.1, ramp=ramp)
    torch.testing.assert_close(got, base + rise * (full - base))


def test_sagr_survives_rows_that_are_zero(linear: nn.Sequential) -> None:
    with torch.no_grad():
        linear[1].weight[1] = 0
    got = loss_of(sagr)(linear, X, Y, at(), false_rows=0)
    got.backward()
    assert got.isfinite()
    assert linear[1].weight.grad.isfinite().all()


# ---- adversarial training ----


def attack(
    score: Callable[[Tensor], Tensor], image: Tensor, start: Tensor, threat: ThreatModel,
    steps: int, size: float,
) -> Tensor:  # fmt: skip
    """Projected ascent for one image."""

    def allowed(moved: Tensor) -> Tensor:
        delta = moved - image
        if isinstance(threat, Linf):
            delta = delta.clip(-threat.eps, threat.eps)
        elif delta.norm() > threat.eps:
            delta = delta * threat.eps / delta.norm()
        return (image + delta).clip(0, 1).detach()

    moved = allowed(image + start)
    for _ in range(steps):
        g = gradient(score, moved).detach()
        moved = allowed(moved + size * (g.sign() if isinstance(threat, Linf) else g / g.norm()))
    return moved


@pytest.mark.parametrize("threat", [LINF, L2(0.4)], ids=str)
@pytest.mark.parametrize("loss", ["xent", "margin"])
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_at_literally(
    model: nn.Sequential, threat: ThreatModel, loss: str, random_start: bool
) -> None:
    noise = threat.noise(X, DRAWS) if random_start else torch.zeros_like(X)
    adversarial = []
    for image, label, start in zip(X, Y.tolist(), noise, strict=True):

        def score(i: Tensor, label: int = label) -> Tensor:
            return ce(model, i, label) if loss == "xent" else -margin(model, i, label)

        adversarial.append(attack(score, image, start, threat, 4, 2.5 * threat.eps / 4))
    expected = mean_ce(model, torch.stack(adversarial))
    assert expected > mean_ce(model, X) + 0.01
    got = loss_of(pgd_at)(
        model, X, Y, at(threat=threat), steps=4, loss=loss, random_start=random_start
    )
    assert_same(model, got, expected)


def test_pgd_at_takes_steps_of_the_asked_size(model: nn.Sequential) -> None:
    moved = [
        attack(lambda i, k=k: ce(model, i, k), image, torch.zeros_like(image), LINF, 2, 0.03)
        for image, k in zip(X, Y.tolist(), strict=True)
    ]
    got = loss_of(pgd_at)(model, X, Y, at(), steps=2, step_size=0.03, random_start=False)
    assert_same(model, got, mean_ce(model, torch.stack(moved)))


@pytest.mark.parametrize("threat", [LINF, L2(0.4)], ids=str)
def test_trades_literally(model: nn.Sequential, threat: ThreatModel) -> None:
    def divergence(one: Tensor, other: Tensor) -> Tensor:
        p, q = model(one[None])[0].softmax(0), model(other[None])[0].softmax(0)
        return sum((a * (a / b).log() for a, b in zip(p, q, strict=True)), X.new_zeros(()))

    noise, terms = 0.001 * DRAWS.normal(*SHAPE), []
    for image, start in zip(X, noise, strict=True):
        moved = attack(
            lambda i, image=image: divergence(image, i), image, start, threat, 3, threat.eps / 3
        )
        terms.append(divergence(image, moved))
    penalty = torch.stack(terms).mean()
    assert penalty > 1e-3
    got = loss_of(trades)(
        model, X, Y, at(threat=threat), beta=6.0, steps=3, step_size=threat.eps / 3
    )
    assert_same(model, got, mean_ce(model, X) + 6 * penalty)


def test_the_divergence_is_raised_in_float32_also_in_a_bfloat16_training() -> None:
    """Its first step follows the difference of two predictions that bfloat16 cannot tell apart."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K))
    how: dict[str, Any] = {"steps": 3, "step_size": None}
    full = most_divergent(net, X.float(), at(), **how)
    with torch.autocast("cpu", torch.bfloat16):
        low = most_divergent(net, X.float(), at(), **how)
    assert torch.equal(low, full)
    assert not torch.equal(full, X.float())


def test_the_divergence_of_bfloat16_logits_is_taken_in_float32() -> None:
    """Of two predictions as close as these, bfloat16 gives a divergence that is wrong by more than its size."""
    one = torch.tensor([[3.0, 0.5, -1.0], [0.25, 0.0, 0.5]], dtype=torch.bfloat16)
    other = one + torch.tensor([0.125, 0.0, 0.0625], dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        low = divergence_of(one, other)
    torch.testing.assert_close(
        low.double(), divergence_of(one.double(), other.double()), rtol=1e-3, atol=0
    )
    assert low.dtype == torch.float32


def test_trades_without_weight_is_standard_exactly(model: nn.Sequential) -> None:
    got = loss_of(trades)(model, X, Y, at(), beta=0.0)
    expected = loss_of(standard)(model, X, Y, at())
    assert torch.equal(got, expected)
    parameters = list(model.parameters())
    pairs = zip(
        torch.autograd.grad(got, parameters), torch.autograd.grad(expected, parameters), strict=True
    )
    assert all(torch.equal(one, two) for one, two in pairs)


# ---- adv_gsct ----


def consensus(model: nn.Module, offending: Tensor) -> Tensor:
    terms = []
    for image, other, k in zip(X, offending, Y.tolist(), strict=True):
        own = gradient(lambda i, k=k: margin(model, i, k), image).flatten()
        label = gradient(lambda i, k=k: margin(model, i, k), other).detach().flatten()
        terms.append(1 - own @ label / (own.norm() * label.norm()))
    return torch.stack(terms).mean()


def fgsm_rs(model: nn.Module, x: Tensor, threat: ThreatModel, alpha: float) -> Tensor:
    """One step from a random start (Wong, Rice & Kolter 2020)."""
    moved = []
    for image, k, u in zip(x, Y.tolist(), threat.noise(X, DRAWS), strict=True):
        g = gradient(lambda i, k=k: ce(model, i, k), image + u).detach()
        if isinstance(threat, Linf):
            delta = (u + alpha * threat.eps * g.sign()).clip(-threat.eps, threat.eps)
        else:
            delta = u + alpha * threat.eps * g / g.norm()
            delta = delta * min(1.0, threat.eps / delta.norm().item())
        moved.append((image + delta).clip(0, 1))
    return torch.stack(moved)


def masked(model: nn.Module, kappa: float, filling: Tensor) -> Tensor:
    out = filling.clone()
    for n, (image, k) in enumerate(zip(X, Y.tolist(), strict=True)):
        g = gradient(lambda i, k=k: margin(model, i, k), image).detach().abs().sum(0)
        pixels = sorted(range(9), key=lambda p: -g.flatten()[p].item())[: round(kappa * 9)]
        for p in pixels:
            out[n].flatten(1)[:, p] = image.flatten(1)[:, p]
    return out


@pytest.mark.parametrize("threat", [LINF, L2(0.4)], ids=str)
def test_adv_gsct_with_every_pixel_is_one_step_training_plus_consensus(
    model: nn.Sequential, threat: ThreatModel
) -> None:
    offending = fgsm_rs(model, X, threat, 1.25)
    expected = mean_ce(model, offending) + consensus(model, offending)
    settings: list[dict[str, object]] = [{"offend": "step"}, {"offend": "mask+step", "kappa": 1.0}]
    for setting in settings:
        got = loss_of(adv_gsct)(model, X, Y, at(threat=threat), **setting)
        assert_same(model, got, expected)


@pytest.mark.parametrize("fill", ["zero", "mean", "noise"])
@pytest.mark.parametrize("offend", ["mask", "mask+step"])
def test_adv_gsct_literally(model: nn.Sequential, offend: str, fill: str) -> None:
    filling = {
        "zero": torch.zeros_like(X),
        "mean": torch.stack([X[:, 0].mean(), X[:, 1].mean()]).view(1, 2, 1, 1).expand_as(X),
        "noise": torch.stack(
            [
                image.min() + (image.max() - image.min()) * u
                for image, u in zip(X, DRAWS.fork("fill").uniform(*SHAPE).double(), strict=True)
            ]
        ),
    }[fill]
    offending = masked(model, 0.4, filling)
    assert ((offending == X).all(1).flatten(1).sum(1) == 4).all()
    own = {"alpha": 0.8} if "step" in offend else {}
    if own:
        offending = fgsm_rs(model, offending, LINF, 0.8)
    expected = (
        0.5 * mean_ce(model, X)
        + 2.0 * mean_ce(model, offending)
        + 3.0 * consensus(model, offending)
    )
    got = loss_of(adv_gsct)(
        model, X, Y, at(), clean_weight=0.5, offending_weight=2.0, consensus_weight=3.0,
        offend=offend, kappa=0.4, fill=fill, **own,
    )  # fmt: skip
    assert_same(model, got, expected)


def test_adv_gsct_without_consensus_is_one_step_training(model: nn.Sequential) -> None:
    got = loss_of(adv_gsct)(model, X, Y, at(), offend="step", consensus_weight=0.0)
    assert_same(model, got, mean_ce(model, fgsm_rs(model, X, LINF, 1.25)))


def test_adv_gsct_without_clean_and_offending_terms_is_the_consensus(
    model: nn.Sequential,
) -> None:
    got = loss_of(adv_gsct)(model, X, Y, at(), offend="step", offending_weight=0.0)
    assert_same(model, got, consensus(model, fgsm_rs(model, X, LINF, 1.25)))


def test_adv_gsct_on_the_image_itself_agrees_with_itself(model: nn.Sequential) -> None:
    got = loss_of(adv_gsct)(model, X, Y, at(), offend="mask", kappa=1.0)
    torch.testing.assert_close(got, mean_ce(model, X))


@pytest.mark.parametrize(("progress", "rise"), [(0.15, 1.0), (0.06, 0.6)])
def test_adv_gsct_raises_the_consensus_weight(
    model: nn.Sequential, progress: float, rise: float
) -> None:
    offending = fgsm_rs(model, X, LINF, 1.25)
    expected = mean_ce(model, offending) + rise * consensus(model, offending)
    assert_same(model, loss_of(adv_gsct)(model, X, Y, at(progress), offend="step"), expected)


# ---- for all ----


ALL: list[tuple[Trainer, dict[str, object]]] = [
    (standard, {}), (input_gradient, {}), (jacobian, {}), (jacobian, {"projections": 0}),
    (sagr, {}), (pgd_at, {"steps": 2}), (trades, {"steps": 2}), (adv_gsct, {}),
    (adv_gsct, {"clean_weight": 1.0}),
]  # fmt: skip
each = pytest.mark.parametrize(
    ("trainer", "settings"), ALL, ids=lambda v: str(getattr(v, "__name__", v))
)


@pytest.mark.parametrize("trainer", [pgd_at, trades, adv_gsct])
def test_adversarial_training_needs_a_threat(trainer: Trainer, model: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="needs a threat, as in threat = 'Linf 8/255'"):
        loss_of(trainer)(model, X, Y, at(threat=None))


@each
def test_a_loss_leaves_images_modes_and_generator_alone(
    trainer: Trainer, settings: dict[str, object], model: nn.Sequential
) -> None:
    x, state = X.clone(), torch.get_rng_state()
    loss_of(trainer)(model.train(), x, Y, at(), **settings)
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@each
def test_only_training_passes_move_batchnorm(trainer: Trainer, settings: dict[str, object]) -> None:
    """The statistics are those of the batches that the model saw in train mode, one after another."""

    def fresh() -> nn.Sequential:
        return nn.Sequential(
            nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(D, K, bias=False)
        ).double().train()  # fmt: skip

    model, seen = fresh(), []
    model.register_forward_pre_hook(
        lambda m, inputs: seen.append(inputs[0].detach().clone()) if m.training else None
    )
    loss_of(trainer)(model, X, Y, at(), **settings).backward()
    replay = fresh()
    for batch in seen:
        replay(batch)
    assert 1 <= len(seen) <= 2
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(model[0], name), getattr(replay[0], name))


def batchnorm_net() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, K)
    ).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(Draws(i, torch.arange(1)).normal(*parameter.shape)[0])
    return net.train()


def penalty(net: nn.Module, trainer: Trainer) -> Tensor:
    """Of a network in eval mode, literally."""
    if trainer is adv_gsct:
        return consensus(net, masked(net, 0.3, torch.zeros_like(X)))
    terms = []
    for image, k in zip(X, Y.tolist(), strict=True):
        if trainer is input_gradient:
            terms.append(gradient(lambda i, k=k: ce(net, i, k), image).square().sum())
        else:
            terms.append(0.5 * torch.stack(rows(net, image)).square().sum())
    return torch.stack(terms).mean()


@pytest.mark.parametrize(
    ("trainer", "settings"),
    [
        (input_gradient, {"weight": 1.0}),
        (jacobian, {"weight": 1.0, "projections": 0}),
        (sagr, {"weight": 1.0, "reading": "all", "false_rows": 0, "rho": 1.0, "ramp": 0}),
        (adv_gsct, {"offending_weight": 0.0, "offend": "mask"}),
    ],
    ids=["input_gradient", "jacobian", "sagr", "adv_gsct"],
)
def test_a_penalty_is_differentiated_at_the_statistics_it_was_computed_with(
    trainer: Trainer, settings: dict[str, object]
) -> None:
    """BatchNorm's statistics move in the loss's own training pass, after the penalty was computed."""
    net = batchnorm_net()
    classified = F.cross_entropy(net(X), Y) if trainer is not adv_gsct else X.new_zeros(())
    constants = batchnorm_net().eval()
    total = [penalty(constants, trainer), classified]
    owners = [list(constants.parameters()), list(net.parameters())]
    expected = [
        one + two
        for one, two in zip(
            *(
                torch.autograd.grad(loss, own, materialize_grads=True)
                if loss.requires_grad
                else [torch.zeros_like(p) for p in own]
                for loss, own in zip(total, owners, strict=True)
            ),
            strict=True,
        )
    ]
    model = batchnorm_net()
    got = loss_of(trainer)(model, X, Y, at(), **settings)
    torch.testing.assert_close(got, total[0] + total[1])
    found = torch.autograd.grad(got, list(model.parameters()), materialize_grads=True)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)
