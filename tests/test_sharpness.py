"""Sharpness: closed forms, literal loops, and scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from metrics.case import Case
from metrics.randomness import Draws
from metrics.sharpness.entropy import _entropy, entropy
from metrics.sharpness.gini import _gini, gini
from metrics.sharpness.total_variation import _total_variation, total_variation

MAPS = Draws(0, torch.arange(12)).normal(6, 7).abs()
MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "gini": lambda a: _gini(a.flatten(1)),
    "entropy": lambda a: _entropy(a.flatten(1)),
    "total_variation": _total_variation,
}
ONE_HOT = torch.zeros(1, 6, 7)
ONE_HOT[0, 2, 3] = 5.0


def literal_gini(values: list[float]) -> float:
    """Half the mean absolute difference over the mean: the definition, without sorting."""
    n = len(values)
    return sum(abs(a - b) for a in values for b in values) / (2 * n * sum(values))


def literal_entropy(values: list[float]) -> float:
    total = sum(values)
    return -sum(v / total * math.log(v / total) for v in values if v) / math.log(len(values))


def literal_total_variation(rows: list[list[float]]) -> float:
    change = 0.0
    for i in range(len(rows)):
        for j in range(len(rows[0])):
            if i + 1 < len(rows):
                change += abs(rows[i + 1][j] - rows[i][j])
            if j + 1 < len(rows[0]):
                change += abs(rows[i][j + 1] - rows[i][j])
    return change / sum(map(sum, rows))


@pytest.mark.parametrize("sparse", [False, True])
def test_the_measures_literally(sparse: bool) -> None:
    maps = MAPS.where(MAPS > 0.8, 0) if sparse else MAPS
    flat = maps.flatten(1).tolist()
    assert _gini(maps.flatten(1)).tolist() == pytest.approx(list(map(literal_gini, flat)), abs=1e-5)
    expected = list(map(literal_entropy, flat))
    assert _entropy(maps.flatten(1)).tolist() == pytest.approx(expected, rel=1e-5)
    expected = list(map(literal_total_variation, maps.tolist()))
    assert _total_variation(maps).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e6])
def test_the_scale_of_a_map_does_not_matter(name: str, scale: float) -> None:
    measure = MEASURES[name]
    torch.testing.assert_close(measure(MAPS * scale), measure(MAPS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_a_zero_map_counts_as_constant(name: str) -> None:
    got = MEASURES[name](torch.stack([torch.zeros(6, 7), torch.full((6, 7), 3.0)]))
    expected = 1.0 if name == "entropy" else 0.0
    assert got.tolist() == pytest.approx([expected, expected], abs=1e-6)


def test_gini_of_a_single_pixel() -> None:
    assert _gini(ONE_HOT.flatten(1)).item() == pytest.approx(1 - 1 / 42, abs=1e-5)


def test_gini_of_k_equal_pixels() -> None:
    half = torch.zeros(1, 42)
    half[0, 7:28] = 2.0
    assert _gini(half).item() == pytest.approx(1 - 21 / 42, abs=1e-5)


def test_gini_of_exponential_values_is_a_half() -> None:
    values = -Draws(3, torch.arange(4)).uniform(50_000).log()
    assert _gini(values).tolist() == pytest.approx([0.5] * 4, abs=0.006)


def test_gini_of_half_normal_values() -> None:
    values = Draws(3, torch.arange(4)).normal(50_000).abs()
    assert _gini(values).tolist() == pytest.approx([math.sqrt(2) - 1] * 4, abs=0.006)


def test_gini_and_entropy_do_not_know_where_the_pixels_are() -> None:
    order = Draws(5, torch.arange(1)).uniform(42)[0].argsort()
    flat = MAPS.flatten(1)
    torch.testing.assert_close(_gini(flat[:, order]), _gini(flat))
    torch.testing.assert_close(_entropy(flat[:, order]), _entropy(flat))
    shuffled = _total_variation(flat[:, order].view_as(MAPS))
    assert not torch.allclose(shuffled, _total_variation(MAPS))


@pytest.mark.parametrize("k", [1, 2, 7, 42])
def test_entropy_of_k_equal_pixels_is_ln_k(k: int) -> None:
    some = torch.zeros(1, 42)
    some[0, :k] = 0.3
    assert _entropy(some).item() == pytest.approx(math.log(k) / math.log(42), abs=1e-6)


def test_total_variation_of_an_isolated_pixel_by_its_neighbours() -> None:
    maps = torch.zeros(3, 6, 7)
    maps[0, 2, 3] = maps[1, 0, 3] = maps[2, 0, 0] = 5.0
    assert _total_variation(maps).tolist() == [4, 3, 2]  # inside, edge, corner


def test_total_variation_of_half_planes() -> None:
    maps = torch.zeros(2, 6, 8)
    maps[0, :3] = 2.0  # 8 jumps down, 24 pixels
    maps[1, :, :4] = 2.0  # 6 jumps to the right, 24 pixels
    assert _total_variation(maps).tolist() == pytest.approx([8 / 24, 6 / 24])


def test_total_variation_of_a_chessboard_is_the_greatest() -> None:
    board = (torch.arange(6)[:, None] + torch.arange(8)) % 2
    pairs = 5 * 8 + 6 * 7
    assert _total_variation(board[None].float()).item() == pytest.approx(pairs / 24)


@pytest.mark.parametrize(
    ("metric", "measure"), [(gini, _gini), (entropy, _entropy), (total_variation, None)]
)
def test_a_metric_measures_the_map_it_is_asked_for(
    metric: Callable[..., dict[str, Tensor]], measure: Callable[[Tensor], Tensor] | None
) -> None:
    """A linear model's gradient is its row, so the metric must be that of |row| summed over channels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4, 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(Draws(0, torch.arange(3)).normal(24))
    x = Draws(1, torch.arange(5)).uniform(2, 3, 4)
    case = Case(
        model=model, x=x, y=torch.zeros(5, dtype=torch.long), draws=Draws(2, torch.arange(5)),
        train_x=x, train_draws=Draws(2, torch.arange(5)), threat=None, classes=3,
        grade=lambda _: {}, refit=lambda _: x, manifold=lambda: None,  # type: ignore[arg-type, return-value]
    )  # fmt: skip
    predicted = model(x).argmax(1)
    rows = model[1].weight[predicted].view(5, 2, 3, 4)
    for attribution, maps in {"gradient": rows, "gradient_x_input": rows * (x - 0.5)}.items():
        importance = maps.abs().sum(1).detach()
        expected = measure(importance.flatten(1)) if measure else _total_variation(importance)
        got = metric(case, attribution=attribution, of="logit")
        assert list(got) == [metric.__name__]
        torch.testing.assert_close(got[metric.__name__], expected, rtol=1e-4, atol=1e-6)
