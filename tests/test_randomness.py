"""Draws: the numbers belong to a sample, and they are uniform and normal."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from metrics.randomness import Draws

IDS = torch.tensor([3, 10_000_000_000, 0, 7, 41, 5])
KINDS: list[Callable[[Draws], Tensor]] = [
    lambda draws: draws.uniform(2, 3),
    lambda draws: draws.normal(2, 3),
    lambda draws: draws.fork("purpose", 4).uniform(5),
]


def splitmix64(state: int, count: int) -> list[int]:
    """The generator as published, on Python's integers (outputs as unsigned 64-bit)."""
    mask, out = (1 << 64) - 1, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        out.append(finalise(state))
    return out


def finalise(z: int) -> int:
    mask = (1 << 64) - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_the_literal_generator_gives_the_published_test_vector() -> None:
    # the reference outputs for seed 1234567, quoted in several implementations of SplitMix64
    assert splitmix64(1234567, 3) == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**64 - 1])
def test_uniform_is_splitmix64_started_by_id_and_seed(seed: int) -> None:
    mask = (1 << 64) - 1
    got = Draws(seed, IDS).uniform(4)
    for row, i in zip(got.tolist(), IDS.tolist(), strict=True):
        start = finalise((i * 0x9E3779B97F4A7C15 + finalise(seed & mask)) & mask)
        assert row == [((bits >> 41) + 0.5) / 2**23 for bits in splitmix64(start, 4)]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_normal_is_box_and_mullers_of_both_halves_of_each_word(count: int) -> None:
    got = Draws(9, IDS).normal(count)
    for row, i in zip(got.tolist(), IDS.tolist(), strict=True):
        start = finalise((i * 0x9E3779B97F4A7C15 + finalise(9)) & ((1 << 64) - 1))
        expected = []
        for bits in splitmix64(start, (count + 1) // 2):
            radius = math.sqrt(-2 * math.log(((bits >> 32) + 0.5) / 2**32))
            angle = 2 * math.pi * (bits % 2**32) / 2**32
            expected += [radius * math.cos(angle), radius * math.sin(angle)]
        assert row == pytest.approx(expected[:count], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_samples_numbers_do_not_depend_on_its_batch(kind: Callable[[Draws], Tensor]) -> None:
    together = kind(Draws(5, IDS))
    alone = torch.cat([kind(Draws(5, IDS[i : i + 1])) for i in range(len(IDS))])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_a_samples_numbers_do_not_depend_on_the_order(kind: Callable[[Draws], Tensor]) -> None:
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    assert torch.equal(kind(Draws(5, IDS[order])), kind(Draws(5, IDS))[order])


@pytest.mark.parametrize("index", [slice(1, 4), torch.tensor([5, 0]), torch.arange(6) % 2 == 0])
def test_indexing_gives_the_same_stream_for_some_of_the_samples(index: Tensor | slice) -> None:
    draws = Draws(5, IDS)
    assert torch.equal(draws[index].uniform(3), draws.uniform(3)[index])
    assert torch.equal(draws[index].fork("a").normal(3), draws.fork("a").normal(3)[index])


def test_asking_for_more_numbers_keeps_the_first_ones() -> None:
    draws = Draws(5, IDS)
    for kind in (draws.uniform, draws.normal):
        assert torch.equal(kind(100)[:, :7], kind(7))
        assert kind(0).shape == (6, 0)
        assert kind().shape == (6,)


def test_no_samples_have_no_numbers() -> None:
    nobody = Draws(5, IDS[:0])
    assert nobody.uniform(2, 3).shape == nobody.normal(2, 3).shape == (0, 2, 3)


def test_the_shape_only_folds_the_numbers() -> None:
    draws = Draws(5, IDS)
    assert draws.uniform(2, 3, 4).shape == draws.normal(2, 3, 4).shape == (6, 2, 3, 4)
    assert torch.equal(draws.uniform(2, 3, 4).flatten(1), draws.uniform(24))
    assert draws.uniform(1).dtype == draws.normal(1).dtype == torch.float32


def test_other_ids_seeds_and_purposes_give_other_numbers() -> None:
    base = Draws(5, IDS)
    others = [
        Draws(6, IDS), Draws(5, IDS + 1), base.fork("a"), base.fork("b"), base.fork("a", 1),
        base.fork("a").fork("b"), base.fork("a", "b"), Draws(6, IDS).fork("a"),
    ]  # fmt: skip
    drawn = [draws.uniform(50) for draws in (base, *others)]
    for i, one in enumerate(drawn):
        assert len(one.unique()) == one.numel()  # the samples differ from each other, too
        assert not any(torch.equal(one, other) for other in drawn[:i])


def test_a_fork_depends_on_seed_and_purpose_alone() -> None:
    moved = Draws(5, IDS)
    moved.uniform(1000)
    assert torch.equal(moved.fork("x", 1).uniform(9), Draws(5, IDS).fork("x", 1).uniform(9))


@pytest.mark.parametrize("purpose", ["a", 7])
def test_forks_and_neighbours_are_uncorrelated(purpose: str | int) -> None:
    n = 20_000
    draws = Draws(0, torch.arange(n))
    u, forked = draws.uniform(2), draws.fork(purpose).uniform(1)[:, 0]
    pairs = [
        (u[:, 0], u[:, 1]),  # successive numbers of a sample
        (u[:-1, 0], u[1:, 0]),  # neighbouring samples
        (u[:, 0], forked),
        (u[:, 0], Draws(1, torch.arange(n)).uniform(1)[:, 0]),  # neighbouring seeds
    ]
    z, others = draws.normal(4), draws.fork(purpose).normal(1)[:, 0]
    for values in (z, z.square(), z.abs().log()):  # pairs share a radius and an angle
        pairs += [(values[:, 0], values[:, k]) for k in (1, 2, 3)]
        pairs.append((values[:-1, 0], values[1:, 0]))
    pairs.append((z[:, 0], others))
    for a, b in pairs:
        r = torch.corrcoef(torch.stack([a, b]).double())[0, 1].item()
        assert abs(r) < 4 / math.sqrt(n)


@pytest.mark.parametrize("along", ["samples", "stream"])
def test_uniform_is_uniform(along: str) -> None:
    shape = (100_000, 1) if along == "samples" else (1, 100_000)
    u = Draws(2, torch.arange(shape[0])).uniform(shape[1]).flatten().double().numpy()
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert u.mean() == pytest.approx(1 / 2, abs=4 * math.sqrt(1 / 12 / len(u)))
    assert u.var() == pytest.approx(1 / 12, abs=4 * math.sqrt(1 / 180 / len(u)))


def test_uniform_excludes_both_ends() -> None:
    u = Draws(0, torch.arange(2000)).uniform(2000)  # 4 million numbers
    assert 0 < u.min() < 1e-5
    assert 1 - 1e-5 < u.max() < 1
    assert u.log().isfinite().all()


@pytest.mark.parametrize(
    ("bits", "value", "radius"),
    [(0, 0.5 / 2**23, math.sqrt(66 * math.log(2))), (-1, 1 - 0.5 / 2**23, 2**-16)],
)
def test_the_extreme_bit_patterns_stay_inside(
    bits: int, value: float, radius: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Draws, "_bits", lambda self, count: torch.full((1, count), bits))
    assert Draws(0, torch.arange(1)).uniform(1).item() == value
    assert Draws(0, torch.arange(1)).normal(2).norm().item() == pytest.approx(radius)


@pytest.mark.parametrize("along", ["samples", "stream"])
def test_normal_is_normal(along: str) -> None:
    shape = (100_000, 1) if along == "samples" else (1, 100_000)
    z = Draws(3, torch.arange(shape[0])).normal(shape[1]).flatten().double().numpy()
    assert stats.kstest(z, "norm").pvalue > 0.01
    se = 1 / math.sqrt(len(z))
    assert z.mean() == pytest.approx(0, abs=4 * se)
    assert z.var() == pytest.approx(1, abs=4 * math.sqrt(2) * se)
    assert stats.skew(z) == pytest.approx(0, abs=4 * math.sqrt(6) * se)
    assert stats.kurtosis(z) == pytest.approx(0, abs=4 * math.sqrt(24) * se)


def test_the_tails_of_normal_are_normal() -> None:
    """Of 6 million numbers, the counts beyond 3, 4 and 5 standard deviations."""
    z = Draws(4, torch.arange(600)).normal(10_000).abs()
    for limit in (3, 4, 5):
        expected = z.numel() * 2 * stats.norm.sf(limit)
        assert int((z > limit).sum()) == pytest.approx(expected, abs=4 * math.sqrt(expected))
    assert z.max() < 6.8


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before, one = torch.get_rng_state(), Draws(5, IDS).fork("a").normal(4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(Draws(5, IDS).fork("a").normal(4), one)
