"""Attacks: linear models, where the worst perturbation is known; literal loops; and what must stay untouched."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from metrics.randomness import Draws
from metrics.threat import L1, L2, Linf, ThreatModel

every_threat = pytest.mark.parametrize("threat", [Linf(0.05), L2(0.3), L1(0.3)], ids=str)
IDS = torch.arange(128)


@pytest.fixture
def linear() -> nn.Sequential:
    """Two classes, so that the loss rises along one direction everywhere: w = W_other - W_true."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        model[1].weight.copy_(Draws(0, torch.arange(2)).normal(12))
    return model.eval().requires_grad_(False)


@pytest.fixture
def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(),
            nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 5),
        )  # fmt: skip


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    return Draws(1, IDS).uniform(1, 4, 4), IDS % 5


@pytest.fixture
def inner() -> tuple[Tensor, Tensor]:
    """Images so far inside [0, 1] that the range does not bind."""
    return 0.4 + 0.2 * Draws(1, torch.arange(20)).uniform(3, 2, 2), torch.arange(20) % 2


def direction(linear: nn.Sequential, y: Tensor) -> Tensor:
    return linear[1].weight[1 - y] - linear[1].weight[y]


def test_margin_literally() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 5.0, -1.0], [1.0, 1.0, 0.0]])
    got = attacks.margin(logits, torch.tensor([0, 2, 1])).tolist()
    assert got == [2.5 - 3, 5 - -1, 1 - 1]


def test_margin_is_positive_exactly_where_misclassified_but_for_ties() -> None:
    logits = Draws(0, torch.arange(500)).normal(4)
    y = torch.arange(500) % 4
    wrong = logits.argmax(1) != y
    assert 100 < wrong.sum() < 480
    assert torch.equal(attacks.margin(logits, y) > 0, wrong)


def test_cross_entropy_literally() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 5.0, -1.0]])
    expected = [
        -math.log(math.exp(z[k]) / sum(math.exp(other) for other in z))
        for z, k in zip(logits.tolist(), (1, 0), strict=True)
    ]
    got = attacks.cross_entropy(logits, torch.tensor([1, 0])).tolist()
    assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("lead", [-30.0, 0.0, 5.0, 18.0, 30.0, 80.0])
def test_cross_entropy_keeps_its_direction_where_p_rounds_to_one(lead: float) -> None:
    """By softmax the label's own part of the gradient, p - 1, is lost from a margin of 17 on."""
    logits = Draws(0, torch.arange(20)).normal(3)
    logits[:, 0] += lead
    y = torch.zeros(20, dtype=torch.long)

    def gradient(loss: attacks.Loss, z: Tensor) -> Tensor:
        return torch.autograd.grad(loss(z, y).sum(), z)[0]

    got = gradient(attacks.cross_entropy, logits.clone().requires_grad_())
    exact = logits.double()
    others = (exact[:, 1:] - exact[:, :1]).exp()
    expected = torch.cat([-others.sum(1, keepdim=True), others], 1) / (
        1 + others.sum(1, keepdim=True)
    )
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=0)
    p = gradient(attacks.probability, logits.clone().requires_grad_()).double()
    torch.testing.assert_close(p, -expected / (1 + others.sum(1, keepdim=True)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("lead", [-3.0, 0.0, 3.0])
def test_cross_entropy_is_torchs_with_its_derivatives(lead: float) -> None:
    y = torch.arange(20) % 4

    def derivatives(loss: attacks.Loss) -> list[Tensor]:
        z = Draws(0, torch.arange(20)).normal(4).double()
        z[torch.arange(20), y] += lead
        value = loss(z.requires_grad_(), y)
        (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), z)
        return [value, first, second]

    torch.testing.assert_close(
        derivatives(attacks.cross_entropy),
        derivatives(lambda z, y: F.cross_entropy(z, y, reduction="none")),
        rtol=1e-12, atol=1e-14,
    )  # fmt: skip


def test_dlr_literally() -> None:
    logits = Draws(0, torch.arange(50)).normal(6)
    y = torch.arange(50) % 6
    for z, k, got in zip(logits.tolist(), y.tolist(), attacks.dlr(logits, y).tolist(), strict=True):
        first, _, third = sorted(z, reverse=True)[:3]
        other = max(v for i, v in enumerate(z) if i != k)
        assert got == pytest.approx(-(z[k] - other) / (first - third), rel=1e-5)


def test_dlr_does_not_see_the_scale_of_the_logits_nor_a_shift() -> None:
    logits, y = Draws(0, torch.arange(50)).normal(6), torch.arange(50) % 6
    torch.testing.assert_close(
        attacks.dlr(1e4 * logits + 7, y), attacks.dlr(logits, y), rtol=1e-3, atol=1e-4
    )


def test_dlr_of_two_classes_is_the_margin_and_of_three_is_defined() -> None:
    logits, y = Draws(0, torch.arange(9)).normal(3), torch.arange(9) % 2
    assert torch.equal(attacks.dlr(logits[:, :2], y), attacks.margin(logits[:, :2], y))
    assert attacks.dlr(logits, y).isfinite().all()
    assert attacks.dlr(torch.zeros(2, 4), torch.tensor([0, 3])).tolist() == [0, 0]


def test_fgsm_reaches_the_worst_linf_perturbation_of_a_linear_model(
    linear: nn.Sequential, inner: tuple[Tensor, Tensor]
) -> None:
    x, y = inner
    w = direction(linear, y)
    adversarial = attacks.fgsm(linear, x, y, Linf(0.05))
    torch.testing.assert_close(adversarial - x, 0.05 * w.sign().view_as(x), rtol=0, atol=1e-7)
    rise = attacks.margin(linear(adversarial), y) - attacks.margin(linear(x), y)
    torch.testing.assert_close(rise, 0.05 * w.abs().sum(1), rtol=1e-4, atol=1e-6)


@every_threat
@pytest.mark.parametrize("loss", ["xent", "margin", "dlr"])
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_reaches_the_dual_norm_optimum_of_a_linear_model(
    linear: nn.Sequential, inner: tuple[Tensor, Tensor], threat: ThreatModel, loss: str,
    random_start: bool,
) -> None:  # fmt: skip
    x, y = inner
    w = direction(linear, y)
    dual = {Linf: 1, L2: 2, L1: math.inf}[type(threat)]
    optimum = threat.eps * w.norm(dual, dim=1)
    start = attacks.random_start(x, threat, Draws(3, torch.arange(20))) if random_start else None
    adversarial = attacks.pgd(
        linear, x, y, threat, steps=60, step_size=threat.eps / 4, loss=attacks.LOSSES[loss],
        start=start,
    )  # fmt: skip
    rise = attacks.margin(linear(adversarial), y) - attacks.margin(linear(x), y)
    torch.testing.assert_close(rise, optimum, rtol=2e-3, atol=1e-6)
    assert (rise <= optimum * (1 + 1e-4)).all()


def literal_pgd(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, steps: int, size: float,
    start: Tensor | None,
) -> Tensor:  # fmt: skip
    """Image by image, the range by min and max, autograd by hand."""
    out = []
    for i in range(len(x)):
        image = x[i : i + 1]
        adversarial = image if start is None else (image + start[i : i + 1])
        for number in range(steps + 1):
            delta = adversarial - image
            if isinstance(threat, Linf):
                delta = torch.minimum(torch.maximum(delta, -torch.tensor(threat.eps)),
                                      torch.tensor(threat.eps))  # fmt: skip
            elif isinstance(threat, L2) and delta.norm() > threat.eps:
                delta = delta / delta.norm() * threat.eps
            elif isinstance(threat, L1):  # its own tests compare it with the nearest allowed point
                delta = threat.project(image, delta)
            adversarial = (image + delta).clip(0, 1)
            if number == steps:
                break
            adversarial = adversarial.detach().requires_grad_()
            F.cross_entropy(model(adversarial), y[i : i + 1]).backward()
            g = adversarial.grad
            assert g is not None
            ascent = {Linf: g.sign(), L2: g / g.norm()}.get(type(threat))
            if ascent is None:  # 5 % of 16 entries: the largest that can move
                stuck = ((g > 0) & (adversarial >= 1)) | ((g < 0) & (adversarial <= 0))
                g = g.where(~stuck, 0)
                ascent = torch.where(g.abs() == g.abs().max(), g.sign(), 0)
            adversarial = adversarial.detach() + size * ascent
        out.append(adversarial.detach())
    return torch.cat(out)


@every_threat
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_literally(
    net: nn.Sequential, images: tuple[Tensor, Tensor], threat: ThreatModel, random_start: bool
) -> None:
    x, y = (part[:12] for part in images)
    model = net.double().eval()
    x = x.double()
    start = threat.noise(x, Draws(0, IDS[:12])) if random_start else None
    got = attacks.pgd(model, x, y, threat, steps=5, step_size=threat.eps / 3, start=start)
    expected = literal_pgd(model, x, y, threat, 5, threat.eps / 3, start)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    assert (F.cross_entropy(model(got), y) > F.cross_entropy(model(x), y)).all()


@every_threat
def test_fgsm_is_one_pgd_step_of_length_eps(
    net: nn.Sequential, images: tuple[Tensor, Tensor], threat: ThreatModel
) -> None:
    x, y = images
    once = attacks.pgd(net, x, y, threat, steps=1, step_size=threat.eps)
    assert torch.equal(attacks.fgsm(net, x, y, threat), once)
    assert not torch.equal(once, x)


@every_threat
def test_attacked_images_are_allowed(
    net: nn.Sequential, images: tuple[Tensor, Tensor], threat: ThreatModel
) -> None:
    x, y = images[0].round(), images[1]  # black and white: the range binds everywhere
    start = attacks.random_start(x, threat, Draws(0, IDS))
    for adversarial in (
        x + start,
        attacks.fgsm(net, x, y, threat),
        attacks.pgd(net, x, y, threat, steps=4, step_size=threat.eps, start=5 * start),
    ):
        assert ((adversarial >= 0) & (adversarial <= 1)).all()
        assert (threat.size(adversarial - x) <= threat.eps * (1 + 1e-6)).all()
        assert not torch.equal(adversarial, x)


@every_threat
@pytest.mark.parametrize("size", [7, 1])
def test_pgd_does_not_depend_on_the_batch(
    net: nn.Sequential, images: tuple[Tensor, Tensor], threat: ThreatModel, size: int
) -> None:
    """To 1e-6 and not bit for bit: matrix products are summed in another order for another batch."""
    x, y = images
    model, draws = net.eval(), Draws(9, IDS)

    def run(part: slice) -> Tensor:
        start = attacks.random_start(x[part], threat, draws[part])
        return attacks.pgd(
            model, x[part], y[part], threat, steps=5, step_size=threat.eps / 3, start=start
        )

    together = run(slice(None))
    parts = torch.cat([run(slice(i, i + size)) for i in range(0, len(x), size)])
    torch.testing.assert_close(parts, together, rtol=0, atol=1e-6)


def test_frozen_restores_every_modules_own_mode(net: nn.Sequential) -> None:
    net.train()
    net[1].eval()
    modes = [module.training for module in net.modules()]
    with attacks.frozen(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == modes
    with pytest.raises(RuntimeError, match="oops"), attacks.frozen(net):
        raise RuntimeError("oops")
    assert [module.training for module in net.modules()] == modes


def test_an_attack_leaves_parameters_gradients_and_batchnorm_as_they_are(
    net: nn.Sequential, images: tuple[Tensor, Tensor]
) -> None:
    net.train()
    buffers = dict(net.named_buffers())
    before = copy.deepcopy(net.state_dict())
    attacks.pgd(net, *images, Linf(0.1), steps=2, step_size=0.1)
    attacks.fgsm(net, *images, Linf(0.1))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(buffer is buffers[name] for name, buffer in net.named_buffers())
    assert net.training


def test_a_gradient_taken_frozen_survives_a_later_training_pass(
    net: nn.Sequential, images: tuple[Tensor, Tensor]
) -> None:
    """Training passes move BatchNorm's statistics in place; the penalty's graph must not see that."""
    net.train()
    x, y = images

    def penalty() -> Tensor:
        with attacks.frozen(net):
            return attacks.input_gradient(
                lambda i: attacks.cross_entropy(net(i), y), x, create_graph=True
            ).square().sum()  # fmt: skip

    (expected,) = torch.autograd.grad(penalty(), net[0].weight)
    kept = penalty()
    net(3 * x)
    (got,) = torch.autograd.grad(kept, net[0].weight)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


def test_input_gradient_is_autograds_image_by_image(
    net: nn.Sequential, images: tuple[Tensor, Tensor]
) -> None:
    x, y = (part[:9] for part in images)
    with attacks.frozen(net):
        got = attacks.input_gradient(lambda i: attacks.cross_entropy(net(i), y), x)
        for i in range(9):
            image = x[i : i + 1].clone().requires_grad_()
            F.cross_entropy(net(image), y[i : i + 1]).backward()
            assert image.grad is not None
            torch.testing.assert_close(got[i], image.grad[0], rtol=1e-4, atol=1e-7)
    assert not got.requires_grad
    assert not x.requires_grad


def test_an_images_gradient_does_not_depend_on_the_other_images(
    net: nn.Sequential, images: tuple[Tensor, Tensor]
) -> None:
    x, y = images
    others = torch.cat([x[:1], 1 - x[1:]])
    with attacks.frozen(net):
        one, two = (
            attacks.input_gradient(lambda i: attacks.margin(net(i), y), batch)
            for batch in (x, others)
        )
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])


def test_gradients_are_computed_inside_no_grad(linear: nn.Sequential) -> None:
    x, y = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    with torch.no_grad():
        got = attacks.input_gradient(lambda i: attacks.margin(linear(i), y), x)
    torch.testing.assert_close(got.flatten(1), direction(linear, y))


def test_input_gradients_of_a_linear_model_are_its_rows(linear: nn.Sequential) -> None:
    x = torch.full((3, 3, 2, 2), 0.3)
    got = attacks.input_gradients(lambda i: linear(i).T, x)
    assert got.shape == (2, 3, 3, 2, 2)
    for k in range(2):
        for n in range(3):
            torch.testing.assert_close(got[k, n].flatten(), linear[1].weight[k])


def test_the_second_derivative_of_a_cubic_is_its_closed_form() -> None:
    """s = a sum x^3, so ||ds/dx||^2 = 9 a^2 sum x^4, whose derivative by a is 18 a sum x^4."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = Draws(0, torch.arange(4)).uniform(1, 2, 3).double()
    rows = attacks.input_gradients(
        lambda i: torch.stack([a * i.pow(3).flatten(1).sum(1), a.square() * i.flatten(1).sum(1)]),
        x, create_graph=True,
    )  # fmt: skip
    torch.testing.assert_close(rows[0], 3 * a * x**2)
    (first,) = torch.autograd.grad(rows[0].square().sum(), a, retain_graph=True)
    torch.testing.assert_close(first, 18 * a * (x**4).sum())
    (second,) = torch.autograd.grad(rows[1].square().sum(), a)
    torch.testing.assert_close(second, 4 * a**3 * x.numel())


def test_strongest_takes_each_images_largest_margin(linear: nn.Sequential) -> None:
    x = Draws(0, torch.arange(30)).uniform(3, 2, 2)
    y = torch.arange(30) % 2
    candidates = [Draws(seed, torch.arange(30)).uniform(3, 2, 2) for seed in range(1, 5)]
    got = attacks.strongest(linear, x, y, iter(candidates))
    chosen = set()
    for i in range(30):
        margins = [
            attacks.margin(linear(c[i : i + 1]), y[i : i + 1]).item() for c in candidates
        ]  # fmt: skip
        best = max(range(4), key=margins.__getitem__)
        chosen.add(best)
        assert torch.equal(got[i], candidates[best][i])
    assert chosen == {0, 1, 2, 3}


def test_strongest_does_not_take_what_is_not_a_number(linear: nn.Sequential) -> None:
    x, y = torch.full((2, 3, 2, 2), 0.5), torch.tensor([0, 1])
    broken = torch.full_like(x, math.nan)
    assert torch.equal(attacks.strongest(linear, x, y, iter([broken])), x)
    assert torch.equal(attacks.strongest(linear, x, y, iter([x + 0.1, broken])), x + 0.1)
