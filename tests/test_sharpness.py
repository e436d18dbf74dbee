"""Sharpness: closed forms, literal loops, and scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from benchmark.datasets._generator import patterns
from metrics.case import Case
from metrics.edges import canny, dilated, sobel
from metrics.randomness import Draws
from metrics.sharpness.edge_agreement import edge_agreement
from metrics.sharpness.effective_complexity import _effective_complexity, effective_complexity
from metrics.sharpness.entropy import _entropy, entropy
from metrics.sharpness.gini import _gini, gini
from metrics.sharpness.morans_i import _morans_i, morans_i
from metrics.sharpness.topk_mass import _topk_mass, topk_mass
from metrics.sharpness.total_variation import _total_variation, total_variation
from metrics.ssim import ssim, unit_range

MAPS = Draws(0, torch.arange(12)).normal(6, 7).abs()
MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "gini": lambda a: _gini(a.flatten(1)),
    "entropy": lambda a: _entropy(a.flatten(1)),
    "total_variation": _total_variation,
    "effective_complexity": lambda a: _effective_complexity(a.flatten(1), 0.9),
    "topk_mass": lambda a: _topk_mass(a.flatten(1), 0.1),
    "morans_i": lambda a: _morans_i(a, "rook"),
}
EQUAL = {
    "gini": 0.0, "entropy": 1.0, "total_variation": 0.0, "effective_complexity": 38 / 42,
    "topk_mass": 4 / 42, "morans_i": math.nan,
}  # fmt: skip
"""What a map of 42 equal pixels scores."""
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
    assert got.tolist() == pytest.approx([EQUAL[name]] * 2, abs=1e-6, nan_ok=True)
    assert not (got < 0).any()


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


def linear_case() -> tuple[Case, Tensor]:
    """A linear model, whose gradient is a row of its weights, on 5 images of 2x3x4, and the rows of their classes."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 4, 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(Draws(0, torch.arange(3)).normal(24))
    x = Draws(1, torch.arange(5)).uniform(2, 3, 4)
    case = Case(
        model=model, x=x, y=torch.zeros(5, dtype=torch.long), draws=Draws(2, torch.arange(5)),
        train_x=x, train_draws=Draws(2, torch.arange(5)), threat=None, classes=3,
        grade=lambda _: {}, refit=lambda _: x, manifold=lambda: None,  # type: ignore[arg-type, return-value]
        surrogate=lambda _: model,
    )  # fmt: skip
    return case, model[1].weight[model(x).argmax(1)].view(5, 2, 3, 4).detach()


@pytest.mark.parametrize(
    "metric", [gini, entropy, total_variation, effective_complexity, morans_i, topk_mass]
)
def test_a_metric_measures_the_map_it_is_asked_for(
    metric: Callable[..., dict[str, Tensor]],
) -> None:
    case, rows = linear_case()
    for attribution, maps in {"gradient": rows, "gradient_x_input": rows * (case.x - 0.5)}.items():
        expected = MEASURES[metric.__name__](maps.abs().sum(1))
        got = metric(case, attribution=attribution, of="logit")
        if metric is topk_mass:
            assert list(got) == ["mean_mass", "mass@0.01", "mass@0.05", "mass@0.1", "mass@0.2"]
            torch.testing.assert_close(got["mass@0.1"], expected, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(got["mean_mass"], sum(list(got.values())[1:]) / 4)
        else:
            assert list(got) == [metric.__name__]
            torch.testing.assert_close(got[metric.__name__], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_a_map_that_is_not_a_number_has_no_score(name: str) -> None:
    broken = MAPS[:2].clone()
    broken[0, 2, 3] = torch.nan
    got = MEASURES[name](broken)
    assert got.isnan().tolist() == [True, False]
    torch.testing.assert_close(got[1:], MEASURES[name](MAPS[1:2]))


def literal_effective_complexity(values: list[float], share: float) -> float:
    for k in range(1, len(values) + 1):
        if sum(sorted(values)[-k:]) >= share * sum(values):
            return k / len(values)
    raise AssertionError("all pixels hold everything")


def literal_morans_i(rows: list[list[float]], queen: bool) -> float:
    """The definition, over all pairs of pixels with their weights."""
    places = [(i, j) for i in range(len(rows)) for j in range(len(rows[0]))]
    mean = sum(map(sum, rows)) / len(places)
    weights = together = 0.0
    for i, j in places:
        for k, m in places:
            distance = max(abs(i - k), abs(j - m)) if queen else abs(i - k) + abs(j - m)
            if distance == 1:
                weights += 1
                together += (rows[i][j] - mean) * (rows[k][m] - mean)
    return len(places) / weights * together / sum((rows[i][j] - mean) ** 2 for i, j in places)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_effective_complexity_literally(share: float) -> None:
    flat = MAPS.flatten(1)
    expected = [literal_effective_complexity(v, share) for v in flat.double().tolist()]
    assert _effective_complexity(flat, share).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("k", "share", "expected"),
    [(1, 0.9, 1), (20, 0.9, 18), (20, 0.5, 10), (7, 0.9, 7), (40, 0.9, 36), (40, 0.3, 12)],
)
def test_effective_complexity_of_k_equal_pixels(k: int, share: float, expected: int) -> None:
    """Exactly the share counts as the share, whatever the sum's rounding makes of it."""
    some = torch.zeros(1, 42, dtype=torch.float64)
    some[0, :k] = 0.3
    assert _effective_complexity(some, share).item() == pytest.approx(expected / 42)


def test_topk_mass_literally() -> None:
    for fraction, k in ((0.05, 2), (0.1, 4), (0.2, 8), (0.01, 1)):
        expected = [sum(sorted(v)[-k:]) / sum(v) for v in MAPS.flatten(1).double().tolist()]
        assert _topk_mass(MAPS.flatten(1), fraction).tolist() == pytest.approx(expected)
        assert _topk_mass(ONE_HOT.flatten(1), fraction).item() == 1


@pytest.mark.parametrize("neighbours", ["rook", "queen"])
def test_morans_i_literally(neighbours: str) -> None:
    expected = [literal_morans_i(rows, neighbours == "queen") for rows in MAPS.double().tolist()]
    assert _morans_i(MAPS, neighbours).tolist() == pytest.approx(expected, abs=1e-6)


def test_morans_i_of_a_chessboard_and_of_half_planes() -> None:
    board = ((torch.arange(6)[:, None] + torch.arange(8)) % 2)[None].float()
    rook, diagonal = 6 * 7 + 5 * 8, 2 * 5 * 7
    assert _morans_i(board, "rook").item() == -1
    expected = (diagonal - rook) / (diagonal + rook)
    assert _morans_i(board, "queen").item() == pytest.approx(expected)
    halves = torch.zeros(1, 6, 8)
    halves[..., :4] = 0.3  # 6 pairs of neighbours differ, by twice the deviation's sign
    assert _morans_i(halves, "rook").item() == pytest.approx((rook - 2 * 6) / rook)
    odd = ((torch.arange(3)[:, None] + torch.arange(3)) % 2)[None].float()
    # 5 and 4 pixels: deviations -4/9 and 5/9, so all 12 pairs give -20/81, and the variance is 20/81
    assert _morans_i(odd, "rook").item() == pytest.approx(-1)


def test_morans_i_of_independent_pixels() -> None:
    noise = Draws(7, torch.arange(4000)).normal(5, 6).abs()
    got = _morans_i(noise, "rook")
    error = got.std().item() / 4000**0.5
    assert abs(got.mean().item() + 1 / 29) < 4 * error < 0.02


def test_the_finest_stripes_are_the_opposite_of_smooth() -> None:
    stripes = patterns()[2:3].add(1)
    assert _morans_i(stripes, "rook").item() == pytest.approx(-1)


def literal_gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Weighted mean of all pixels, weights by distance, one pixel at a time."""
    rows, columns = np.indices(image.shape)
    out = np.zeros_like(image)
    for i, j in np.ndindex(image.shape):
        weights = np.exp(-((rows - i) ** 2 + (columns - j) ** 2) / (2 * sigma**2))
        out[i, j] = (weights * image).sum() / weights.sum()
    return out


def literal_ssim(a: np.ndarray, b: np.ndarray) -> float:
    def mean(values: np.ndarray) -> np.ndarray:
        return literal_gaussian(values, 1.5)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    each = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float((each[5:-5, 5:-5] if min(a.shape) >= 11 else each).mean())


def literal_canny(grey: np.ndarray) -> np.ndarray:
    """Pixel by pixel: blur, differences, thinning along the nearest of four directions, connection by a search."""
    smooth = literal_gaussian(grey, 1.0)
    right = ndimage.sobel(smooth, axis=1, mode="nearest") / 8
    down = ndimage.sobel(smooth, axis=0, mode="nearest") / 8
    size = np.hypot(right, down)
    ridge = np.zeros(grey.shape, bool)
    for i, j in np.ndindex(grey.shape):
        eighth = round(math.degrees(math.atan2(down[i, j], right[i, j])) / 45) % 4
        di, dj = [(0, 1), (1, 1), (1, 0), (1, -1)][eighth]
        around = [(i + di, j + dj), (i - di, j - dj)]
        inside = [
            size[p] for p in around if 0 <= p[0] < grey.shape[0] and 0 <= p[1] < grey.shape[1]
        ]
        ridge[i, j] = size[i, j] > 1e-3 and all(size[i, j] >= s * (1 - 1e-3) for s in inside)
    waiting = list(zip(*np.nonzero(ridge & (size > 0.2 * size.max())), strict=True))
    edges = np.zeros(grey.shape, bool)
    while waiting:
        i, j = waiting.pop()
        if not edges[i, j]:
            edges[i, j] = True
            near = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            waiting += [
                p for p in near
                if 0 <= p[0] < grey.shape[0] and 0 <= p[1] < grey.shape[1]
                and ridge[p] and size[p] > 0.1 * size.max()
            ]  # fmt: skip
    return edges


IMAGES = Draws(11, torch.arange(6)).uniform(3, 13, 10)
"""Noise, so that all directions, weak and strong edges occur."""


def test_sobel_is_scipys() -> None:
    for image, got in zip(IMAGES.mean(1).numpy(), sobel(IMAGES).numpy(), strict=True):
        right, down = (ndimage.sobel(image.astype(float), axis, mode="nearest") for axis in (1, 0))
        np.testing.assert_allclose(got, np.hypot(right, down) / 8, atol=1e-6)


def test_sobel_of_a_ramp_is_its_slope() -> None:
    ramp = (torch.arange(9) / 20).expand(1, 1, 7, 9)
    assert sobel(ramp)[0, :, 1:-1].tolist() == [pytest.approx([0.05] * 7)] * 7
    assert not sobel(torch.full((1, 3, 5, 5), 0.3)).any()


def test_canny_literally() -> None:
    smooth = torch.from_numpy(ndimage.gaussian_filter(IMAGES.double().numpy(), (0, 0, 2, 1)))
    for images in (IMAGES, smooth):
        edges = canny(images)
        for image, got in zip(images.double().mean(1).numpy(), edges.numpy(), strict=True):
            np.testing.assert_array_equal(got, literal_canny(image))
        share = edges.float().mean().item()
        assert 0.05 < share < 0.6, "neither everything nor nothing"


def test_canny_of_a_step_and_of_a_square() -> None:
    step, square = torch.zeros(1, 1, 12, 12), torch.zeros(1, 1, 20, 20)
    step[..., 6:] = 0.8
    square[..., 5:15, 5:15] = 1
    assert canny(step)[0].float().mean(0).tolist() == [0.0] * 5 + [1.0] * 2 + [0.0] * 5
    assert torch.equal(canny(step.mT), canny(step).mT)
    edges = canny(square)[0]
    assert edges[10].nonzero().flatten().tolist() == [4, 5, 14, 15]
    assert not edges[7:13, 7:13].any()
    assert not edges[:3].any()
    assert not canny(torch.full((2, 3, 8, 8), 0.7)).any()


def test_dilated_by_a_square() -> None:
    mask = torch.zeros(2, 5, 6, dtype=torch.bool)
    mask[0, 0, 0] = mask[1, 2, 3] = True
    assert torch.equal(dilated(mask, 0), mask)
    assert [m.sum().item() for m in dilated(mask)] == [4, 9]
    assert dilated(mask, 2)[1].nonzero().amin(0).tolist() == [0, 1]


@pytest.mark.parametrize("rows", [10, 13])
def test_ssim_literally_and_its_limits(rows: int) -> None:
    large = torch.cat([IMAGES, IMAGES.flip(2)], 3)
    a, b = (unit_range(large[:, i, :rows]) for i in (0, 1))
    expected = [literal_ssim(one, other) for one, other in zip(a.numpy(), b.numpy(), strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a).tolist() == pytest.approx([1] * 6)
    assert (ssim(a, 1 - a) < -0.5).all()
    small = unit_range(IMAGES[:, 0, :2, :3])
    assert ssim(small, small).tolist() == pytest.approx([1] * 6)


class _Squares(nn.Module):
    """Two logits, half the weighted sum of squares and 0: the gradient of the first is weight x image."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        z = (self.weight * x.square()).flatten(1).sum(1) / 2
        return torch.stack([z, torch.zeros_like(z)], 1)


def edge_scores(x: Tensor, maps: Tensor, **settings: str) -> dict[str, Tensor]:
    """Edge agreement of a model whose gradient is `maps` at images without zeros."""
    ids = torch.arange(len(x))
    model = _Squares(maps / x)
    case = Case(
        model=model, x=x, y=ids * 0, draws=Draws(2, ids), train_x=x, train_draws=Draws(2, ids),
        threat=None, classes=2, grade=lambda _: {}, refit=lambda _: x, manifold=lambda: None,  # type: ignore[arg-type, return-value]
        surrogate=lambda _: model,
    )  # fmt: skip
    return dict(edge_agreement(case, of="logit", **settings))


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_edges_themselves_agree_best_and_noise_not_at_all(size: int, channels: int) -> None:
    noise = Draws(5, torch.arange(20)).uniform(channels, size, size).numpy()
    x = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5)))
    edge = sobel(x)[:, None].expand_as(x)
    same, random = edge_scores(x, edge), edge_scores(x, edge, attribution="random")
    assert same["spearman"].tolist() == pytest.approx([1] * 20, abs=1e-3)
    assert same["ssim"].tolist() == pytest.approx([1] * 20, abs=1e-3)
    assert (same["average_precision"] > same["chance"]).all()
    assert same["auc"].min() > 0.6
    for name, chance in {"spearman": 0, "ssim": 0, "auc": 0.5}.items():
        assert random[name].mean().item() == pytest.approx(chance, abs=0.06)
    expected = random["chance"].mean().item()
    assert random["average_precision"].mean().item() == pytest.approx(expected, abs=0.06)
    assert 0.2 < expected < 0.9


def test_edge_agreement_without_edges_or_without_a_map() -> None:
    x = torch.full((4, 3, 8, 8), 0.4)
    x[1:, :, 4:] = 0.9
    maps = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    maps[2] = 0.3
    maps[3, 0, 0, 0] = torch.nan
    got = edge_scores(x, maps)
    for name in ("spearman", "ssim"):
        assert got[name].isnan().tolist() == [True, False, True, True]
    for name, tied in {"average_precision": got["chance"][2].item(), "auc": 0.5}.items():
        assert got[name].isnan().tolist() == [True, False, False, True]
        assert got[name][2].item() == pytest.approx(tied)
    alone = edge_scores(x[1:2], maps[1:2])
    for name, value in alone.items():
        torch.testing.assert_close(value, got[name][1:2])
