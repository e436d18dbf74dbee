"""Threat models: projections, steps and starts against what a ball is; and what a user may write."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from scipy import stats
from torch import Tensor

from metrics.randomness import Draws
from metrics.threat import L1, L2, Linf, ThreatModel, parse

THREATS = [
    Linf(0.1), L2(0.7), L1(3.0), Linf(0.0), L2(0.0), L1(0.0), Linf(2.0), L2(50.0), L1(500.0),
]  # fmt: skip
every_threat = pytest.mark.parametrize("threat", THREATS, ids=str)


@pytest.fixture
def images() -> Tensor:
    x = Draws(0, torch.arange(40)).uniform(3, 4, 5)
    x[:4] = x[:4].round()  # corners of [0, 1]^d as well
    return x


@pytest.fixture
def moves() -> Tensor:
    sizes = torch.logspace(-3, 1, 40).view(-1, 1, 1, 1)
    return sizes * Draws(1, torch.arange(40)).normal(3, 4, 5)


def norm(threat: ThreatModel, delta: Tensor) -> float:
    """The norm of one perturbation, literally."""
    entries = delta.flatten().tolist()
    if isinstance(threat, Linf):
        return max(abs(e) for e in entries)
    if isinstance(threat, L1):
        return sum(abs(e) for e in entries)
    return math.sqrt(sum(e * e for e in entries))


@every_threat
def test_projection_is_inside_ball_and_range(
    threat: ThreatModel, images: Tensor, moves: Tensor
) -> None:
    delta = threat.project(images, moves)
    assert all(norm(threat, d) <= threat.eps * (1 + 1e-6) + 1e-7 for d in delta)
    # exactly, because the harness checks it exactly
    assert ((images + delta >= 0) & (images + delta <= 1)).all()


@every_threat
def test_projection_twice_is_projection(threat: ThreatModel, images: Tensor, moves: Tensor) -> None:
    once = threat.project(images, moves)
    torch.testing.assert_close(threat.project(images, once), once, rtol=0, atol=2e-7)


@every_threat
def test_an_allowed_perturbation_stays(threat: ThreatModel, images: Tensor) -> None:
    allowed = (images - 0.5) * -0.01 * min(threat.eps, 1)
    torch.testing.assert_close(threat.project(images, allowed), allowed, rtol=0, atol=1e-7)


@pytest.mark.parametrize("threat", THREATS[:3], ids=str)
def test_the_projection_onto_the_ball_is_the_nearest_point(
    threat: ThreatModel, moves: Tensor
) -> None:
    """Its inequality: (d - P d) . (b - P d) <= 0 for every b of the ball."""
    nearest = threat.into_ball(moves)
    others = [threat.noise(moves, Draws(seed, torch.arange(40))) for seed in range(20)]
    others += [threat.step(other, threat.eps) for other in others]
    for other in others:
        assert norm(threat, other[0]) <= threat.eps * (1 + 1e-5)
        assert (((moves - nearest) * (other - nearest)).flatten(1).sum(1) < 1e-5).all()
    inside = torch.tensor([norm(threat, d) <= threat.eps for d in moves])
    assert 5 < inside.sum() < 35
    assert torch.equal(nearest[inside], moves[inside])


def test_the_linf_projection_is_the_nearest_allowed_point_entry_by_entry(
    images: Tensor, moves: Tensor
) -> None:
    got = Linf(0.1).project(images, moves)
    for x, d, p in zip(
        images.flatten().tolist(), moves.flatten().tolist(), got.flatten().tolist(), strict=True
    ):
        low, high = max(-0.1, -x), min(0.1, 1 - x)
        assert p == pytest.approx(min(max(d, low), high), abs=1e-7)


def nearest_l1(image: Tensor, move: Tensor, eps: float) -> list[float]:
    """Literally, in float64: entry by entry min((|d| - t)+, room) for the t at which their sum is eps.

    The sum falls piecewise linearly in t; its corners are tried one after another.
    """
    x, d = image.double().flatten().tolist(), move.double().flatten().tolist()
    lengths = [abs(v) for v in d]
    rooms = [1 - a if v > 0 else a for a, v in zip(x, d, strict=True)]

    def left(t: float) -> list[float]:
        return [min(max(n - t, 0), room) for n, room in zip(lengths, rooms, strict=True)]

    t = 0.0
    if sum(left(0)) > eps:
        corners = sorted(
            {0.0, *lengths, *(n - r for n, r in zip(lengths, rooms, strict=True) if n > r)}
        )
        low = max(c for c in corners if sum(left(c)) > eps)
        high = min(c for c in corners if c > low)
        above, below = sum(left(low)), sum(left(high))
        t = low + (high - low) * (above - eps) / (above - below)
    return [math.copysign(n, v) for n, v in zip(left(t), d, strict=True)]


@pytest.mark.parametrize("eps", [0.5, 3.0, 20.0])
def test_the_l1_projection_is_the_nearest_allowed_point(
    eps: float, images: Tensor, moves: Tensor
) -> None:
    got = L1(eps).project(images, moves)
    binding = 0
    for x, d, p in zip(images, moves, got, strict=True):
        expected = nearest_l1(x, d, eps)
        assert p.flatten().tolist() == pytest.approx(expected, abs=2e-6)
        binding += sum(map(abs, expected)) > eps - 1e-9
    assert 3 < binding < 40
    # not what projecting onto one after the other gives
    one_by_one = (images + L1(eps).into_ball(moves)).clamp(0, 1) - images
    assert (L1(eps).size(got) - L1(eps).size(one_by_one)).max() > 0.1 * eps


def test_the_l1_projection_does_not_depend_on_the_other_images(
    images: Tensor, moves: Tensor
) -> None:
    together = L1(3.0).project(images, moves)
    for i in range(40):
        assert torch.equal(L1(3.0).project(images[i : i + 1], moves[i : i + 1])[0], together[i])


@every_threat
def test_noise_lies_in_the_ball(threat: ThreatModel, images: Tensor) -> None:
    noise = threat.noise(images, Draws(0, torch.arange(40)))
    assert noise.shape == images.shape
    assert all(norm(threat, d) <= threat.eps * (1 + 1e-6) for d in noise)


def test_linf_noise_is_uniform_in_every_pixel() -> None:
    noise = Linf(0.1).noise(torch.zeros(5000, 1, 2, 2), Draws(4, torch.arange(5000)))
    for pixel in noise.flatten(1).T:
        assert stats.kstest(pixel.numpy(), "uniform", args=(-0.1, 0.2)).pvalue > 0.005
    assert (torch.corrcoef(noise.flatten(1).T) - torch.eye(4)).abs().max() < 0.06


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 3)])
def test_l2_noise_is_uniform_in_the_ball(shape: tuple[int, ...]) -> None:
    n, d = 5000, math.prod(shape)
    noise = L2(0.5).noise(torch.zeros(n, *shape), Draws(4, torch.arange(n))).flatten(1)
    lengths = noise.norm(dim=1)
    assert stats.kstest(((lengths / 0.5) ** d).numpy(), "uniform").pvalue > 0.01
    directions = noise / lengths[:, None]
    # uniform on the sphere: mean 0, covariance I/d, and independent of the length
    assert directions.mean(0).abs().max() < 4 / math.sqrt(n * d)
    covariance = directions.T @ directions / n
    torch.testing.assert_close(covariance, torch.eye(d) / d, rtol=0, atol=4 / math.sqrt(n))
    assert abs(torch.corrcoef(torch.stack([lengths, directions[:, 0]]))[0, 1]) < 4 / math.sqrt(n)


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 2, 3)])
def test_l1_noise_is_uniform_in_the_ball(shape: tuple[int, ...]) -> None:
    n, d = 5000, math.prod(shape)
    noise = L1(0.5).noise(torch.zeros(n, *shape), Draws(4, torch.arange(n))).flatten(1)
    lengths = noise.abs().sum(1)
    assert stats.kstest(((lengths / 0.5) ** d).numpy(), "uniform").pvalue > 0.01
    shares = noise.abs() / lengths[:, None]
    for entry in range(d):  # uniform on the simplex: each share is Beta(1, d - 1)
        assert stats.kstest(shares[:, entry].numpy(), stats.beta(1, d - 1).cdf).pvalue > 0.005
    assert noise.sign().mean(0).abs().max() < 4 / math.sqrt(n)
    assert abs(torch.corrcoef(torch.stack([lengths, shares[:, 0]]))[0, 1]) < 4 / math.sqrt(n)


@every_threat
def test_noise_belongs_to_the_sample(threat: ThreatModel, images: Tensor) -> None:
    draws = Draws(0, torch.arange(40))
    assert torch.equal(threat.noise(images[7:9], draws[7:9]), threat.noise(images, draws)[7:9])


@pytest.mark.parametrize("threat", THREATS[:2], ids=str)
def test_a_step_has_its_length_and_is_the_steepest(threat: ThreatModel, moves: Tensor) -> None:
    step = threat.step(moves, 0.3)
    assert [norm(threat, s) for s in step] == pytest.approx([0.3] * 40, rel=1e-5)
    gain = (moves * step).flatten(1).sum(1)
    for seed in range(10, 20):  # no other step of that length rises more
        other = threat.step(Draws(seed, torch.arange(40)).normal(3, 4, 5), 0.3)
        assert ((moves * other).flatten(1).sum(1) <= gain).all()


def test_an_l1_step_is_shared_by_the_largest_entries(moves: Tensor) -> None:
    step = L1(1).step(moves, 0.3).flatten(1)
    for g, s in zip(moves.flatten(1), step, strict=True):
        largest = g.abs().argsort(descending=True)[:3]  # 5 % of 60
        assert (s != 0).nonzero().flatten().tolist() == sorted(largest.tolist())
        assert s[largest].tolist() == pytest.approx((0.1 * g[largest].sign()).tolist())
    one = L1(1).step(torch.tensor([[[[0.1, -0.2, 0.05]]]]), 0.3)
    torch.testing.assert_close(one, torch.tensor([[[[0.0, -0.3, 0.0]]]]))


def test_an_l1_ascent_leaves_out_what_cannot_move() -> None:
    x = torch.full((1, 1, 4, 10), 0.5)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = 1.0, 0.0
    gradient = torch.full_like(x, 0.1)
    gradient[0, 0, 0, 0], gradient[0, 0, 1, 1] = 9.0, -9.0  # white and black already
    gradient[0, 0, 2, 2], gradient[0, 0, 3, 3] = 2.0, -1.0
    delta = L1(1.0).ascend(x, torch.zeros_like(x), gradient, 0.4)
    assert delta.nonzero()[:, 2:].tolist() == [[2, 2], [3, 3]]
    assert delta[0, 0, 2, 2].item() == pytest.approx(0.2)
    assert delta[0, 0, 3, 3].item() == pytest.approx(-0.2)


@every_threat
def test_ascend_is_a_step_and_a_projection(
    threat: ThreatModel, images: Tensor, moves: Tensor
) -> None:
    start = threat.project(images, 0.1 * moves)
    got = threat.ascend(images, start, moves, 0.3)
    assert ((images + got >= 0) & (images + got <= 1)).all()
    assert all(norm(threat, d) <= threat.eps * (1 + 1e-6) + 1e-7 for d in got)
    if not isinstance(threat, L1):
        assert torch.equal(got, threat.project(images, start + threat.step(moves, 0.3)))


def test_the_step_gains_the_dual_norm(moves: Tensor) -> None:
    rise = [(moves * threat.step(moves, 0.3)).flatten(1).sum(1) for threat in (Linf(1), L2(1))]
    torch.testing.assert_close(rise[0], 0.3 * moves.flatten(1).abs().sum(1))
    torch.testing.assert_close(rise[1], 0.3 * moves.flatten(1).norm(dim=1))


@every_threat
def test_a_zero_gradient_makes_no_step(threat: ThreatModel) -> None:
    gradient = torch.zeros(2, 1, 3, 3)
    gradient[1, 0, 0, 0] = 1
    step = threat.step(gradient, 0.3)
    assert (step[0] == 0).all()
    assert norm(threat, step[1]) == pytest.approx(0.3)


@pytest.mark.parametrize("scale", [1e-8, 1e-15, 1e-25, 1e-35])
@pytest.mark.parametrize("threat", THREATS[:3], ids=str)
def test_a_faint_gradient_makes_a_full_step(
    threat: ThreatModel, scale: float, moves: Tensor
) -> None:
    """The loss of a sure model has gradients whose squares are 0 in float32."""
    unit = moves / moves.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    unit = unit.where(unit.abs() > 1e-2, 0)  # stay clear of denormal numbers
    torch.testing.assert_close(
        threat.step(unit * scale, 0.3), threat.step(unit, 0.3), rtol=1e-4, atol=1e-7
    )


@every_threat
def test_size_is_the_norm(threat: ThreatModel, moves: Tensor) -> None:
    expected = [norm(threat, d) for d in moves]
    assert threat.size(moves).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("Linf 8/255", Linf(8 / 255), "Linf 8/255"),
        ("L2 0.5", L2(0.5), "L2 0.5"),
        ("  Linf   8 / 255 ", Linf(8 / 255), "Linf 8 / 255"),
        ("L2 128/255", L2(128 / 255), "L2 128/255"),
        ("Linf 1e-3", Linf(0.001), "Linf 1e-3"),
        ("L2 0", L2(0.0), "L2 0"),
        ("L1 12", L1(12.0), "L1 12"),
        ("Linf 1", Linf(1.0), "Linf 1"),  # every image
    ],
)
def test_parse_reads_what_a_user_writes(text: str, expected: ThreatModel, shown: str) -> None:
    assert parse(text) == expected
    assert type(parse(text)) is type(expected)
    assert str(parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L0 8", r"unknown norm 'L0' in threat 'L0 8'; valid: Linf, L2, L1, as in"),
        ("8/255", "unknown norm '8/255'"),
        ("", "unknown norm ''"),
        ("linf 8/255", "unknown norm 'linf'"),
        ("Linf", "'Linf' needs a radius after its norm, as in 'Linf 8/255'"),
        ("L2 ", "needs a radius after its norm, as in 'L2 8/255' or 'L2 0.5'"),
        ("L2 big", "threat 'L2 big' needs a radius"),
        ("L2 1/0", "threat 'L2 1/0' needs a radius"),
        ("L2 nan", "threat 'L2 nan' needs a radius"),
        ("L2 inf", "threat 'L2 inf' needs a radius"),
        ("L2 1e999", "threat 'L2 1e999' needs a radius"),
        ("Linf 8", r"images are in \[0, 1\].*did you mean 'Linf 8/255'"),
        ("Linf 8 255", "threat 'Linf 8 255' needs a radius"),  # not 8255
        ("Linf -8/255", "eps must be a finite number >= 0, got -8/255"),
    ],
)
def test_parse_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("eps", [-0.1, math.nan, math.inf])
def test_a_radius_is_a_finite_number(eps: float) -> None:
    with pytest.raises(ValueError, match=f"eps must be a finite number >= 0, got {eps}"):
        Linf(eps)


def test_threats_are_equal_if_norm_and_radius_are() -> None:
    assert L2(0.5, "1/2") == L2(0.5, "0.5") == L2(0.5)
    assert hash(L2(0.5, "1/2")) == hash(L2(0.5))
    assert L2(0.5) != Linf(0.5)
    assert L2(0.5) != L2(0.25)
    assert pickle.loads(pickle.dumps(L2(0.5, "1/2"))).written == "1/2"


@pytest.mark.parametrize("threat", [Linf(0.5, "1/2"), L2(0.5, "1/2"), L1(0.5, "1/2")], ids=str)
def test_scaled_keeps_the_norm(threat: ThreatModel) -> None:
    quarter = threat.scaled(0.5)
    assert (type(quarter), quarter.eps) == (type(threat), 0.25)
    assert str(quarter) == f"{threat.norm} 0.25"  # not the old text
