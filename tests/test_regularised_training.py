"""MART, AWP and the penalties on gradients: closed forms and limits, and the formulas written out image by image."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.randomness import Draws
from metrics.threat import L2, Linf, ThreatModel
from trainers.awp import _ascended, awp
from trainers.base import Images, Objective, Setup, Step, Trainer
from trainers.cure import cure
from trainers.finite_difference import finite_difference
from trainers.input_gradient import input_gradient
from trainers.mart import mart
from trainers.pag import _REPRESENTATIVES, pag
from trainers.pgd_at import pgd_at
from trainers.recipe import Recipe
from trainers.saliency_guided import saliency_guided
from trainers.standard import standard
from trainers.trades import trades

N, K, SHAPE = 6, 4, (2, 3, 3)
D = math.prod(SHAPE)
IDS = torch.arange(N)
X = Draws(0, IDS).uniform(*SHAPE).double()
Y = IDS % K
DRAWS = Draws(3, IDS)
LINF = Linf(0.1)
both_threats = pytest.mark.parametrize("threat", [LINF, L2(0.4)], ids=str)


def loss_of(trainer: Callable) -> Callable[..., Tensor]:
    """The loss on a batch that a trainer was lifted from."""
    return inspect.unwrap(trainer)


def at(progress: float = 1.0, threat: ThreatModel | None = LINF, draws: Draws = DRAWS) -> Step:
    return Step(draws, progress, threat, lr=0.1)


def filled(net: nn.Module) -> nn.Module:
    """With keyed normal weights, in double precision."""
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(Draws(i + 5, torch.arange(1)).normal(*parameter.shape)[0])
    return net.double()


@pytest.fixture
def model() -> nn.Module:
    return filled(nn.Sequential(nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, K)))


def batchnorm_net() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, K)
    )
    return filled(net).train()


class Exponential(nn.Module):
    """Two classes with p_0 = exp(-cost(x)): the cross-entropy of class 0 is the cost itself."""

    def __init__(self, cost: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.cost = cost

    def forward(self, x: Tensor) -> Tensor:
        cost = self.cost(x.flatten(1))
        return torch.stack([-cost, torch.log1p(-torch.exp(-cost))], 1)


ZERO = torch.zeros(N, dtype=torch.long)
SLOPE = Draws(7, torch.arange(1)).uniform(D)[0].double()


@pytest.fixture
def straight() -> nn.Module:
    """The loss of class 0 is linear in the image, with gradient SLOPE."""
    return Exponential(lambda x: x @ SLOPE)


def assert_same(
    model: nn.Module, got: Tensor, expected: Tensor, rtol: float = 1e-6, atol: float = 1e-9,
    owner: nn.Module | None = None,
) -> None:  # fmt: skip
    """Equal values and equal derivatives by every parameter (the expected one's are `owner`'s)."""
    assert got.shape == ()
    torch.testing.assert_close(got, expected, rtol=rtol, atol=0)
    one, two = (
        torch.autograd.grad(loss, list(net.parameters()), retain_graph=True, materialize_grads=True)
        for loss, net in ((got, model), (expected, owner or model))
    )
    for mine, theirs in zip(one, two, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol)


def assert_identical(one_net: nn.Module, one: Tensor, other_net: nn.Module, other: Tensor) -> None:
    """Bit for bit: value, derivatives by every parameter, and what the nets hold afterwards."""
    assert torch.equal(one, other)
    derivatives = [
        torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
        for loss, net in ((one, one_net), (other, other_net))
    ]
    assert all(torch.equal(a, b) for a, b in zip(*derivatives, strict=True))
    state = other_net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one_net.state_dict().items())


def ce(model: nn.Module, image: Tensor, label: int) -> Tensor:
    z = model(image[None])[0]
    return z.exp().sum().log() - z[label]


def mean_ce(model: nn.Module, x: Tensor, y: Tensor = Y) -> Tensor:
    return torch.stack([ce(model, i, k) for i, k in zip(x, y.tolist(), strict=True)]).mean()


def gradient(score: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    image = image.detach().clone().requires_grad_()
    (g,) = torch.autograd.grad(score(image), image, create_graph=True)
    return g


def kl(model: nn.Module, image: Tensor, other: Tensor) -> Tensor:
    p, q = model(image[None])[0].softmax(0), model(other[None])[0].softmax(0)
    return sum((a * (a / b).log() for a, b in zip(p, q, strict=True)), X.new_zeros(()))


def ascent(
    score: Callable[[Tensor], Tensor], image: Tensor, start: Tensor, threat: ThreatModel, steps: int
) -> Tensor:  # fmt: skip
    """Projected ascent for one image, in steps of 2.5 eps / steps."""

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
        direction = g.sign() if isinstance(threat, Linf) else g / g.norm()
        moved = allowed(moved + 2.5 * threat.eps / steps * direction)
    return moved


def attacked(model: nn.Module, threat: ThreatModel, starts: Tensor, steps: int) -> Tensor:
    """What raises the cross-entropy, image by image."""
    return torch.stack(
        [
            ascent(lambda i, k=k: ce(model, i, k), image, start, threat, steps)
            for image, k, start in zip(X, Y.tolist(), starts, strict=True)
        ]
    )


# ---- MART ----


@both_threats
@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_mart_literally(model: nn.Module, threat: ThreatModel, beta: float) -> None:
    moved = attacked(model, threat, 0.001 * DRAWS.normal(*SHAPE), 3)
    terms = []
    for image, other, label in zip(X, moved, Y.tolist(), strict=True):
        p = model(other[None])[0].softmax(0)
        rival = max(p[k] for k in range(K) if k != label)
        doubt = 1.0000001 - model(image[None])[0].softmax(0)[label]
        boosted = -p[label].log() - (1.0001 - rival + 1e-12).log()
        terms.append(boosted + beta * kl(model, image, other) * doubt)
    got = loss_of(mart)(model, X, Y, at(threat=threat), beta=beta, steps=3)
    assert_same(model, got, torch.stack(terms).mean())


@pytest.mark.parametrize(
    ("trainer", "settings"), [(mart, {}), (awp, {}), (awp, {"on": "trades", "warm_up": 0.0})]
)
def test_the_step_of_the_attack_can_be_said(
    model: nn.Module, trainer: Trainer, settings: dict[str, object]
) -> None:
    usual, said, other = (
        loss_of(trainer)(model, X, Y, at(), steps=2, step_size=size, **settings).item()
        for size in (None, 1.25 * LINF.eps, 0.3 * LINF.eps)
    )
    assert said == usual
    assert other != usual


def test_mart_of_a_model_that_ignores_the_image() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(D, K)).double()
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    expected = math.log(K) - math.log(1.0001 - 1 / K)
    assert loss_of(mart)(net, X, Y, at()).item() == pytest.approx(expected, rel=1e-9)


def test_mart_has_no_divergence_where_the_image_is_certain(model: nn.Module) -> None:
    with torch.no_grad():
        model[3].weight.mul_(100)
    sure = model(X).argmax(1)
    assert (model(X).softmax(1).amax(1) > 1 - 1e-9).any()
    certain = model(X).softmax(1).amax(1) > 1 - 1e-9
    x, y, step = X[certain], sure[certain], at(draws=DRAWS[certain], threat=LINF)
    lone, heavy = (loss_of(mart)(model, x, y, step, beta=beta) for beta in (0.0, 5.0))
    moved = attacks.pgd(
        model, x, y, LINF, steps=10, step_size=0.025, start=0.001 * step.draws.normal(*SHAPE)
    )
    divergence = torch.stack([kl(model, a, b) for a, b in zip(x, moved, strict=True)])
    assert 0 <= heavy - lone <= 5 * 1.2e-7 * divergence.mean()  # 1.0000001 leaves this much


def test_mart_keeps_its_probabilities_out_of_bfloat16() -> None:
    """There 0.9999 is 1, and its share of the loss 10% too large."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(D, K))
    nn.init.zeros_(net[1].weight)
    net[1].bias.data = torch.tensor([10.0, 0, 0, 0])
    sure = 1 / (1 + 3 * math.exp(-10))
    expected = 10 - math.log(sure) - math.log(1.0001 - sure)
    with torch.autocast("cpu", torch.bfloat16):
        got = loss_of(mart)(net, X.float(), torch.ones_like(Y), at())
    assert got.item() == pytest.approx(expected, rel=1e-3)


# ---- AWP ----

BASES = {"pgd_at": pgd_at, "trades": trades}
both_bases = pytest.mark.parametrize("on", BASES)


@both_bases
@both_threats
@pytest.mark.parametrize(
    "settings", [{"gamma": 0.0, "warm_up": 0.0}, {"gamma": 0.5, "warm_up": 1.0}], ids=str
)
def test_awp_without_perturbation_is_its_base_exactly(
    on: str, threat: ThreatModel, settings: dict[str, float]
) -> None:
    one, other = batchnorm_net().float(), batchnorm_net().float()
    step = at(0.9, threat)
    got = loss_of(awp)(one, X.float(), Y, step, on=on, steps=2, **settings)
    expected = loss_of(BASES[on])(other, X.float(), Y, step, steps=2)
    assert_identical(one, got, other, expected)


def perturbed(net: nn.Module, loss: Callable[[nn.Module], Tensor], gamma: float) -> nn.Module:
    """A copy at the weights after the ascent."""
    proxy, moved = copy.deepcopy(net), copy.deepcopy(net)
    loss(proxy).backward()
    with torch.no_grad():
        for weight, by in zip(moved.parameters(), proxy.parameters(), strict=True):
            if weight.dim() > 1:
                weight += gamma * weight.norm() * by.grad / by.grad.norm()
    return moved


def base_loss(on: str, net: nn.Module, steps: int) -> Callable[[nn.Module], Tensor]:
    """The base's loss at any weights, image by image, on images made at these."""
    if on == "pgd_at":
        moved = attacked(net, LINF, LINF.noise(X, DRAWS), steps)
        return lambda other: mean_ce(other, moved)
    starts = 0.001 * DRAWS.normal(*SHAPE)
    moved = torch.stack(
        [
            ascent(lambda i, image=image: kl(net, image, i), image, start, LINF, steps)
            for image, start in zip(X, starts, strict=True)
        ]
    )

    def loss(other: nn.Module) -> Tensor:
        terms = [kl(other, image, far) for image, far in zip(X, moved, strict=True)]
        return mean_ce(other, X) + 6 * torch.stack(terms).mean()

    return loss


@both_bases
@pytest.mark.parametrize("gamma", [0.02, 0.5])
def test_awp_literally(model: nn.Module, on: str, gamma: float) -> None:
    before = copy.deepcopy(model.state_dict())
    loss = base_loss(on, model, 3)
    there = perturbed(model, loss, gamma)
    got = loss_of(awp)(model, X, Y, at(), on=on, gamma=gamma, steps=3)
    assert all(p.grad is None for p in model.parameters())
    assert_same(model, got, loss(there), owner=there)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@both_bases
def test_awp_raises_the_loss_by_what_the_gradient_says(model: nn.Module, on: str) -> None:
    loss = base_loss(on, model, 2)
    gradients = torch.autograd.grad(loss(model), list(model.parameters()))
    slope = sum(
        w.norm() * g.norm()
        for w, g in zip(model.parameters(), gradients, strict=True)
        if w.dim() > 1
    )
    gamma = 1e-6
    here, there = (
        loss_of(awp)(model, X, Y, at(), on=on, gamma=size, steps=2) for size in (0.0, gamma)
    )
    torch.testing.assert_close((there - here) / gamma, slope, rtol=1e-4, atol=0)


def test_awp_moves_each_weight_by_gamma_of_its_length_and_no_bias() -> None:
    net = batchnorm_net()
    moved = _ascended(net, lambda tensors: F.cross_entropy(net(X), Y), 0.3)
    assert set(moved) == {"0.weight", "4.weight"}
    for name, there in moved.items():
        here = net.get_parameter(name)
        torch.testing.assert_close((there - here).norm(), 0.3 * here.norm())


@pytest.mark.parametrize(("on", "gamma", "start"), [("pgd_at", 0.01, 0.0), ("trades", 0.005, 0.05)])
def test_awps_defaults_are_the_authors(
    model: nn.Module, on: str, gamma: float, start: float
) -> None:
    def loss(progress: float, **settings: float) -> Tensor:
        return loss_of(awp)(model, X, Y, at(progress), on=on, steps=2, **settings)

    plain = loss_of(BASES[on])(model, X, Y, at(), steps=2)
    assert torch.equal(loss(start), loss(1.0, gamma=gamma, warm_up=0.0))
    assert loss(start) > plain
    if start:
        assert torch.equal(loss(start - 0.01), plain)


def test_awps_beta_is_that_of_trades_alone(model: nn.Module) -> None:
    for given, same in ((None, 6.0), (1.0, 1.0)):
        got = loss_of(awp)(model, X, Y, at(), on="trades", gamma=0.0, beta=given, steps=2)
        assert torch.equal(got, loss_of(trades)(model, X, Y, at(), beta=same, steps=2))
    with pytest.raises(ValueError, match=r"^beta = 6 changes nothing on pgd_at: .* on = 'trades'$"):
        loss_of(awp)(model, X, Y, at(), beta=6.0)


@both_bases
def test_awps_ascent_leaves_batchnorm_to_the_training_passes(on: str) -> None:
    net = batchnorm_net()
    frozen = copy.deepcopy(net).eval()
    start = LINF.noise(X, DRAWS) if on == "pgd_at" else 0.001 * DRAWS.normal(*SHAPE)
    score = {
        "pgd_at": attacks.cross_entropy,
        "trades": lambda logits, _: F.kl_div(
            logits.log_softmax(1), frozen(X).softmax(1).detach(), reduction="none"
        ).sum(1),
    }[on]
    moved = attacks.pgd(frozen, X, Y, LINF, steps=2, step_size=0.125, loss=score, start=start)
    batches = [moved] if on == "pgd_at" else [X, moved]

    def loss(other: nn.Module) -> Tensor:
        logits = [other(batch) for batch in batches]
        value = F.cross_entropy(logits[0], Y)
        if on == "trades":
            p, q = logits[0].log_softmax(1), logits[1].log_softmax(1)
            value = value + 6 * (p.exp() * (p - q)).sum(1).mean()
        return value

    there = perturbed(net, loss, 0.2)
    expected = loss(there)
    got = loss_of(awp)(net, X, Y, at(), on=on, gamma=0.2, steps=2)
    assert_same(net, got, expected, owner=there)
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, there.get_buffer(name))
    assert net[1].num_batches_tracked == len(batches)


# ---- finite differences ----


@pytest.mark.parametrize("h", [1e-3, 0.05])
@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_finite_difference_of_a_linear_loss(straight: nn.Module, norm: str, h: float) -> None:
    got = loss_of(finite_difference)(straight, X, ZERO, at(), weight=0.6, h=h, norm=norm)
    size = {"L2": SLOPE.square().sum(), "L1": SLOPE.abs().sum() ** 2 / D}[norm]
    torch.testing.assert_close(got - (X.flatten(1) @ SLOPE).mean(), 0.3 * size)


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_finite_difference_literally(model: nn.Module, norm: str) -> None:
    terms = []
    for image, k in zip(X, Y.tolist(), strict=True):
        g = gradient(lambda i, k=k: ce(model, i, k), image).detach()
        v = g / g.norm() if norm == "L2" else g.sign() / math.sqrt(D)
        slope = (ce(model, image + 0.3 * v, k) - ce(model, image, k)) / 0.3
        terms.append(slope**2)
    expected = mean_ce(model, X) + 0.7 / 2 * torch.stack(terms).mean()
    got = loss_of(finite_difference)(model, X, Y, at(), weight=0.7, h=0.3, norm=norm)
    assert_same(model, got, expected)


def test_finite_difference_becomes_double_backpropagation_as_h_falls(model: nn.Module) -> None:
    exact = loss_of(input_gradient)(model, X, Y, at(), weight=0.35)
    got = loss_of(finite_difference)(model, X, Y, at(), weight=0.7, h=1e-6)
    assert_same(model, got, exact, rtol=1e-4, atol=1e-5)
    far, near = (
        (loss_of(finite_difference)(model, X, Y, at(), weight=0.7, h=h) - exact).abs().item()
        for h in (2e-3, 1e-3)
    )
    assert far / near == pytest.approx(2, rel=0.05)  # a first-order method


def test_finite_difference_keeps_its_differences_in_float32(model: nn.Module) -> None:
    net, x = model.float(), X.float()

    def penalty() -> Tensor:
        full, none = (loss_of(finite_difference)(net, x, Y, at(), weight=w) for w in (1.0, 0.0))
        return full - none

    expected = penalty()
    with torch.autocast("cpu", torch.bfloat16):
        got = penalty()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


# ---- CURE ----


@pytest.mark.parametrize("penalty", ["norm", "squared"])
def test_cure_is_nothing_where_the_gradient_is_constant(straight: nn.Module, penalty: str) -> None:
    got = loss_of(cure)(straight, X, ZERO, at(), weight=100.0, h=0.02, penalty=penalty)
    torch.testing.assert_close(got, (X.flatten(1) @ SLOPE).mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("penalty", "size"), [("norm", 3 * 0.2), ("squared", (3 * 0.2) ** 2)])
def test_cure_of_a_quadratic_loss_is_its_curvature(penalty: str, size: float) -> None:
    bowl = Exponential(lambda x: 1.5 * x.square().sum(1))  # Hessian 3 I
    x = X + 0.1  # no pixel at 0, where the sign would be
    got = loss_of(cure)(bowl, x, ZERO, at(), weight=0.7, h=0.2, penalty=penalty)
    expected = 1.5 * x.flatten(1).square().sum(1).mean() + 0.7 * size
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=0)


def curvature(model: nn.Module, h: float, penalty: str) -> Tensor:
    terms = []
    for image, k in zip(X, Y.tolist(), strict=True):
        here = gradient(lambda i, k=k: ce(model, i, k), image)
        sign = here.detach().sign()
        there = gradient(lambda i, k=k: ce(model, i, k), image + h * sign / sign.norm())
        square = (there - here).square().sum()
        terms.append(square.sqrt() if penalty == "norm" else square)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("penalty", ["norm", "squared"])
def test_cure_literally(model: nn.Module, penalty: str) -> None:
    expected = mean_ce(model, X) + 0.4 * curvature(model, 0.5, penalty)
    got = loss_of(cure)(model, X, Y, at(), weight=0.4, h=0.5, penalty=penalty)
    assert_same(model, got, expected)


@pytest.mark.parametrize(
    ("progress", "ramp", "rise"), [(0.1, 0.4, 0.25), (0.4, 0.4, 1), (0.9, 0.4, 1), (0.0, 0.0, 1)]
)
def test_cures_step_grows(model: nn.Module, progress: float, ramp: float, rise: float) -> None:
    expected = mean_ce(model, X) + 0.4 * curvature(model, 0.5 * rise, "norm")
    got = loss_of(cure)(model, X, Y, at(progress), weight=0.4, h=0.5, ramp=ramp)
    assert_same(model, got, expected)


def test_cures_usual_step_is_as_far_a_pixel_as_on_cifar10(model: nn.Module) -> None:
    expected = mean_ce(model, X) + 0.4 * curvature(
        model, 0.6 * math.sqrt(D / (3 * 32 * 32)), "norm"
    )
    assert_same(model, loss_of(cure)(model, X, Y, at(), weight=0.4), expected)


@pytest.mark.parametrize("penalty", ["norm", "squared"])
def test_cure_begins_as_standard_training(model: nn.Module, penalty: str) -> None:
    got = loss_of(cure)(model, X, Y, at(0.0), weight=9.0, penalty=penalty)
    assert_same(model, got, mean_ce(model, X))


# ---- saliency-guided training ----


def passes(model: nn.Module, trainer: Callable, **settings: object) -> list[Tensor]:
    """The batches that the model sees in train mode."""
    seen: list[Tensor] = []
    handle = model.train().register_forward_pre_hook(
        lambda m, inputs: seen.append(inputs[0].detach().clone()) if m.training else None
    )
    loss_of(trainer)(model, X, Y, at(), **settings)
    handle.remove()
    return seen


@pytest.mark.parametrize("fill", ["noise", "mean", "zero"])
@pytest.mark.parametrize(
    ("share", "signed"), [(0.3, False), (0.5, False), (1.0, False), (0.5, True)]
)
def test_saliency_guided_literally(model: nn.Module, fill: str, share: float, signed: bool) -> None:
    uniform = DRAWS.fork("fill").uniform(*SHAPE).double()
    terms = []
    for n, (image, label) in enumerate(zip(X, Y.tolist(), strict=True)):
        g = gradient(lambda i, k=label: model(i[None])[0, k], image).detach()
        g = (g if signed else g.abs()).sum(0).flatten()
        fainter = sorted(range(9), key=lambda p: g[p].item())[: round(share * 9)]
        replaced = image.clone()
        for pixel in fainter:
            row, column = divmod(pixel, 3)
            for c in range(2):
                replaced[c, row, column] = {
                    "noise": image.min() + (image.max() - image.min()) * uniform[n, c, row, column],
                    "mean": X[:, c].mean(),
                    "zero": image.new_zeros(()),
                }[fill]
        terms.append(kl(model, image, replaced))
    expected = mean_ce(model, X) + 0.8 * torch.stack(terms).mean()
    got = loss_of(saliency_guided)(
        model, X, Y, at(), weight=0.8, share=share, fill=fill, signed=signed
    )
    assert_same(model, got, expected)


def test_saliency_guided_replaces_whole_pixels_within_the_images_range(model: nn.Module) -> None:
    clean, replaced = passes(model, saliency_guided, share=0.4)
    assert torch.equal(clean, X)
    changed = replaced != X
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert (changed[:, 0].flatten(1).sum(1) == round(0.4 * 9)).all()
    low, high = X.amin((1, 2, 3), keepdim=True), X.amax((1, 2, 3), keepdim=True)
    assert ((replaced >= low) & (replaced <= high)).all()


def test_saliency_guided_of_no_pixel_is_standard(model: nn.Module) -> None:
    got = loss_of(saliency_guided)(model, X, Y, at(), share=0.0, weight=10.0)
    assert_same(model, got, loss_of(standard)(model, X, Y, at()))


# ---- PAG ----

TRAIN = Images(
    Draws(8, torch.arange(20)).uniform(*SHAPE).double(), torch.arange(20) * 7 % K, torch.arange(20)
)


def pag_loss(
    model: nn.Module, x: Tensor = X, y: Tensor = Y, step: Step | None = None,
    train: Images = TRAIN, seed: int = 0, **settings: object,
) -> Tensor:  # fmt: skip
    setup = Setup(train, train, Recipe("none"), None, None, seed)
    objective: Objective = inspect.unwrap(pag)(model, setup, **settings)
    return objective.loss(x, y, step or at(threat=None))


def angles(model: nn.Module, representative: Callable[[int, int], Tensor]) -> list[list[Tensor]]:
    """1 - cos of every image and class."""
    found = []
    for n, image in enumerate(X):
        found.append([])
        for t in range(K):
            g = gradient(lambda i, t=t: -ce(model, i, t), image).flatten()
            way = (representative(n, t) - image).flatten()
            found[-1].append(1 - g @ way / (g.norm() * way.norm()))
    return found


def class_mean(n: int, t: int) -> Tensor:
    own = [image for image, label in zip(TRAIN.x, TRAIN.y.tolist(), strict=True) if label == t]
    return torch.stack(own).mean(0)


def nearest(n: int, t: int) -> Tensor:
    """Among those of the class whose identity is not the image's own."""
    others = [
        image
        for image, label, i in zip(TRAIN.x, TRAIN.y.tolist(), TRAIN.ids.tolist(), strict=True)
        if label == t and i != n
    ]
    return min(others, key=lambda image: (image - X[n]).square().sum().item())


@pytest.mark.parametrize("targets", [K, 10])
@pytest.mark.parametrize(
    ("towards", "representative"), [("class_mean", class_mean), ("nearest", nearest)]
)
def test_pag_of_all_classes_literally(
    model: nn.Module, towards: str, representative: Callable[[int, int], Tensor], targets: int
) -> None:
    total = torch.stack([sum(row) for row in angles(model, representative)]).mean()
    got = pag_loss(model, weight=0.3, towards=towards, targets=targets)
    assert_same(model, got, mean_ce(model, X) + 0.3 * total)


def test_pag_without_another_image_of_a_class_has_no_way_to_it(model: nn.Module) -> None:
    """The class of label 0 is one image: for itself the cosine counts as 0, and teaches nothing."""
    kept = (TRAIN.y != 0) | (TRAIN.ids == TRAIN.ids[TRAIN.y == 0][0])
    alone = Images(*(part[kept] for part in TRAIN))
    make = _REPRESENTATIVES["nearest"](alone, alone.y.unique(), 0)
    first = (alone.y == 0).nonzero()[0]
    chosen = torch.arange(K)[None]
    found = make(alone.x[first], chosen, alone.ids[first])[0]
    assert torch.equal(found[0], alone.x[first][0])
    assert all(not torch.equal(image, alone.x[first][0]) for image in found[1:])


def test_pag_towards_one_image_of_each_class(model: nn.Module) -> None:
    def loss(seed: int) -> Tensor:
        return pag_loss(model, weight=1.0, towards="one_image", seed=seed)

    lots = Draws(0, TRAIN.ids).fork("representative").uniform(1).flatten().tolist()
    drawn = [
        min((i for i in range(20) if TRAIN.y[i] == t), key=lambda i: lots[i]) for t in range(K)
    ]
    total = torch.stack([sum(row) for row in angles(model, lambda n, t: TRAIN.x[drawn[t]])]).mean()
    assert_same(model, loss(0), mean_ce(model, X) + total)
    assert len({loss(seed).item() for seed in range(5)}) > 1


def test_pag_draws_different_classes_for_each_image(model: nn.Module) -> None:
    x, y, many = X[:1].expand(4000, *SHAPE), Y[:1].expand(4000), torch.arange(100, 4100)
    base = F.cross_entropy(model(x), y)
    exact = sum(angles(model, class_mean)[0]).item()
    errors = []
    for targets in (1, 3):
        step = at(threat=None, draws=Draws(1, many))
        got = (pag_loss(model, x, y, step, weight=1.0, targets=targets) - base).item()
        assert got == pytest.approx(exact, rel=0.03)
        errors.append(abs(got - exact))
    whole = pag_loss(model, x, y, weight=1.0, step=step, targets=K) - base
    assert whole.item() == pytest.approx(exact, rel=1e-9)
    assert min(errors) > 1e-6 * exact, "a sample must vary"


def test_pag_of_a_linear_model_of_two_classes() -> None:
    """grad log p_t is a positive multiple of w_t - w_other, whatever the prediction."""
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(D, 2)))
    y, train = Y % 2, TRAIN._replace(y=TRAIN.y % 2)
    means = [train.x[train.y == t].mean(0).flatten() for t in (0, 1)]
    between = net[1].weight[1] - net[1].weight[0]
    total = X.new_zeros(())
    for image in X.flatten(1):
        for t, direction in ((0, -between), (1, between)):
            way = means[t] - image
            total = total + 1 - direction @ way / (direction.norm() * way.norm())
    got = pag_loss(net, y=y, train=train, weight=2.0)
    torch.testing.assert_close(got - F.cross_entropy(net(X), y), 2 * total / N)


def test_pag_sees_the_direction_of_a_sure_models_tiny_gradients() -> None:
    """However sure a linear model is, its gradients point the same way; in float32 p_y - 1 is 0."""
    net = filled(nn.Sequential(nn.Flatten(), nn.Linear(D, 2)))
    y, train = torch.ones(N, dtype=torch.int64), TRAIN._replace(y=TRAIN.y % 2)
    unsure = pag_loss(net, y=y, train=train, weight=1.0) - F.cross_entropy(net(X), y)
    with torch.no_grad():
        net[1].bias[1] += 35
    net.float()
    single = train._replace(x=train.x.float())
    sure = pag_loss(net, X.float(), y, train=single, weight=1.0)
    assert F.cross_entropy(net(X.float()), y) < 1e-9
    torch.testing.assert_close(sure.double(), unsure, rtol=1e-4, atol=0)


def test_pag_targets_the_classes_that_there_are(model: nn.Module) -> None:
    few = TRAIN.y >= 2
    train = Images(TRAIN.x[few], TRAIN.y[few], TRAIN.ids[few])
    total = torch.stack([sum(row[2:]) for row in angles(model, class_mean)]).mean()
    assert_same(model, pag_loss(model, train=train, weight=0.5), mean_ce(model, X) + 0.5 * total)


def test_pag_survives_an_image_that_is_its_own_target(model: nn.Module) -> None:
    train = TRAIN._replace(x=X[:1].expand(20, *SHAPE))
    got = pag_loss(model, train=train)
    got.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# ---- for all ----

Loss = Callable[[nn.Module, Tensor], Tensor]


def lifted(trainer: Callable, **settings: object) -> Loss:
    return lambda model, x: loss_of(trainer)(model, x, Y, at(), **settings)


PENALTIES: dict[str, Callable[..., Loss]] = {
    "finite_difference": lambda **settings: lifted(finite_difference, **settings),
    "cure": lambda **settings: lifted(cure, **settings),
    "pag": lambda **settings: lambda model, x: pag_loss(model, x, **settings),
    "saliency_guided": lambda **settings: lifted(saliency_guided, **settings),
}
ALL: dict[str, Loss] = {
    **{name: make() for name, make in PENALTIES.items()},
    "mart": lifted(mart, steps=2),
    "awp on pgd_at": lifted(awp, steps=2),
    "awp on trades": lifted(awp, steps=2, on="trades"),
}
each = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_without_weight_leaves_standard_training(model: nn.Module, name: str) -> None:
    got = PENALTIES[name](weight=0.0)(model, X)
    assert_same(model, got, mean_ce(model, X))


@pytest.mark.parametrize("trainer", [mart, awp])
def test_adversarial_training_needs_a_threat(trainer: Callable, model: nn.Module) -> None:
    with pytest.raises(ValueError, match="needs a threat, as in threat = 'Linf 8/255'"):
        loss_of(trainer)(model, X, Y, at(threat=None))


@each
def test_a_loss_leaves_images_modes_and_generator_alone(loss: Loss, model: nn.Module) -> None:
    x, state, weights = X.clone(), torch.get_rng_state(), copy.deepcopy(model.state_dict())
    loss(model.train(), x)
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "count"),
    [("finite_difference", 1), ("cure", 1), ("pag", 1), ("saliency_guided", 2), ("mart", 2)],
)
def test_only_training_passes_move_batchnorm(name: str, count: int) -> None:
    """The statistics are those of the batches that the model saw in train mode, one after another."""

    def fresh() -> nn.Module:
        return filled(nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(D, K))).train()

    model, seen = fresh(), []
    model.register_forward_pre_hook(
        lambda m, inputs: seen.append(inputs[0].detach().clone()) if m.training else None
    )
    ALL[name](model, X).backward()
    assert len(seen) == count
    assert torch.equal(seen[0], X)
    replay = fresh()
    for batch in seen:
        replay(batch)
    for (key, one), two in zip(model.named_buffers(), replay.buffers(), strict=True):
        assert torch.equal(one, two), key


def slopes(net: nn.Module) -> Tensor:
    terms = []
    for image, k in zip(X, Y.tolist(), strict=True):
        g = gradient(lambda i, k=k: ce(net, i, k), image).detach()
        terms.append((ce(net, image + 0.3 * g / g.norm(), k) - ce(net, image, k)) / 0.3)
    return 0.5 * torch.stack(terms).square().mean()


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        (lifted(finite_difference, weight=1.0, h=0.3), slopes),
        (lifted(cure, weight=1.0, h=0.5), lambda net: curvature(net, 0.5, "norm")),
        (
            lambda net, x: pag_loss(net, x, weight=1.0),
            lambda net: torch.stack([sum(row) for row in angles(net, class_mean)]).mean(),
        ),
    ],
    ids=["finite_difference", "cure", "pag"],
)
def test_a_penalty_is_that_of_the_model_in_eval_mode(
    loss: Loss, penalty: Callable[[nn.Module], Tensor]
) -> None:
    """And it is differentiated at the statistics it was computed with, which the loss's own pass then moves."""
    still, moving, net = batchnorm_net().eval(), batchnorm_net(), batchnorm_net()
    parts = ((penalty(still), still), (F.cross_entropy(moving(X), Y), moving))
    expected = [
        sum(each)
        for each in zip(
            *(
                torch.autograd.grad(part, list(own.parameters()), materialize_grads=True)
                for part, own in parts
            ),
            strict=True,
        )
    ]
    got = loss(net, X)
    torch.testing.assert_close(got, parts[0][0] + parts[1][0])
    found = torch.autograd.grad(got, list(net.parameters()), materialize_grads=True)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)
