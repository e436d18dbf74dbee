"""Manifold alignment: tangent spaces that are known, literal projections, steps along and off them, long walks."""

from __future__ import annotations

import copy
import math
import runpy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from metrics.case import Case, Manifold, NotApplicable
from metrics.manifold._generators import VaeManifold
from metrics.manifold._tangent import over_tangents, points, projection, tangents
from metrics.manifold._vae import VAE
from metrics.manifold.on_off_manifold import _ratio, on_off_manifold
from metrics.manifold.reconstruction_distance import reconstruction_distance, share_below
from metrics.manifold.tangent_fraction import _fraction, tangent_fraction
from metrics.randomness import Draws


@dataclass(frozen=True)
class Known:
    """Images shape(phi(z) @ a + offset of the image): curved if phi is, flat if it is the identity."""

    latents: Tensor
    a: Tensor
    shape: tuple[int, ...]
    phi: Callable[[Tensor], Tensor] = lambda z: z

    def __getitem__(self, rows: slice) -> Known:
        return replace(self, latents=self.latents[rows])

    def decode(self, z: Tensor) -> Tensor:
        offset = 0.01 * torch.arange(len(z))[:, None]
        return (0.5 + 0.02 * (self.phi(z) @ self.a) + offset).view(len(z), *self.shape)

    def project(self, x: Tensor) -> Tensor:
        """Each image's mean: the manifold of flat images."""
        return x.mean((1, 2, 3), keepdim=True).expand_as(x)


def known(n: int, k: int, shape: tuple[int, ...], *, curved: bool = False) -> Known:
    d = math.prod(shape)
    z, a = Draws(0, torch.arange(n)).normal(k), Draws(1, torch.arange(k)).normal(d)
    return Known(z, a, shape, torch.sin if curved else (lambda z: z))


def linear(weight: Tensor) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], len(weight))).eval()
    with torch.no_grad():
        model[1].weight.copy_(weight)
    return model.requires_grad_(False)


def case(
    model: nn.Module,
    x: Tensor,
    manifold: Manifold,
    y: Tensor | None = None,
    referee: nn.Module | None = None,
) -> Case:
    """The referee is the model itself unless another is given."""

    def surrogate(name: str) -> nn.Module:
        if referee is None:
            raise NotApplicable("this very model")
        return referee

    n = len(x)
    draws = Draws(3, torch.arange(n))
    return Case(
        model=model, x=x, y=torch.arange(n) % 3 if y is None else y, draws=draws, train_x=x,
        train_draws=draws, threat=None, classes=3, grade=lambda _: {}, refit=lambda _: x,
        manifold=lambda *settings: manifold, surrogate=surrogate,
    )  # fmt: skip


# ---- tangent space ----


def test_the_tangents_are_the_decoders_derivatives() -> None:
    m = known(4, 3, (1, 4, 5), curved=True)
    expected = 0.02 * m.latents.cos()[:, :, None] * m.a
    torch.testing.assert_close(tangents(m), expected, rtol=1e-5, atol=1e-7)


def test_the_tangents_of_a_vae_are_its_jacobian() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = VAE(1, 8, 8, latents=4, hidden=8).requires_grad_(False)
    m = VaeManifold.at(vae, Draws(0, torch.arange(3)).uniform(1, 8, 8))
    got = tangents(m)
    for n in range(3):
        jacobian = torch.autograd.functional.jacobian(vae.decode, m.latents[n : n + 1])
        torch.testing.assert_close(got[n], jacobian.reshape(64, 4).T, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("curved", [False, True])
def test_a_map_in_the_tangent_space_has_fraction_one(curved: bool) -> None:
    m = known(20, 17, (1, 16, 16), curved=curved)
    t = tangents(m)
    maps = (Draws(5, torch.arange(20)).normal(1, 17) @ t).view(20, 1, 16, 16)
    assert (_fraction(t, maps) - 1).abs().max() < 1e-4
    orthogonal = maps + 1e3 * (  # and one outside it has none
        Draws(6, torch.arange(20)).normal(1, 256) @ projector(t)[1]
    ).view(20, 1, 16, 16)
    assert _fraction(t, orthogonal).max() < 1e-2


def projector(t: Tensor) -> tuple[Tensor, Tensor]:
    """QQ^T and I - QQ^T of each image, Q an orthonormal basis of the tangents."""
    inside = torch.stack([(q := torch.linalg.qr(one.T)[0]) @ q.T for one in t])
    return inside, torch.eye(t.shape[2]) - inside


def test_the_fraction_literally_by_qr() -> None:
    m = known(10, 6, (3, 4, 5), curved=True)
    t, maps = tangents(m), Draws(9, torch.arange(10)).normal(3, 4, 5)
    expected = []
    for n in range(10):
        q, _ = torch.linalg.qr(t[n].double().T)
        a = maps[n].flatten().double()
        expected.append(((q @ (q.T @ a)).norm() / a.norm()).item())
    assert _fraction(t, maps).tolist() == pytest.approx(expected, rel=1e-5)
    assert 0.1 < min(expected) < max(expected) < 0.9


def test_pythagoras() -> None:
    m = known(10, 6, (1, 4, 5))
    t, maps = tangents(m), Draws(9, torch.arange(10)).normal(1, 20)
    outside = maps @ projector(t)[1]
    share = outside.flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    torch.testing.assert_close(_fraction(t, maps) ** 2 + share**2, torch.ones(10))


@pytest.mark.parametrize("how", ["does nothing", "is a copy", "is faint"])
def test_a_degenerate_latent_changes_nothing(how: str) -> None:
    m = known(10, 6, (1, 4, 5))
    t, maps = tangents(m), Draws(9, torch.arange(10)).normal(1, 4, 5)
    extra = {"does nothing": 0 * t[:, :1], "is a copy": 2 * t[:, 1:2], "is faint": t[:, 1:2] / 1e3}
    got = _fraction(torch.cat([t, extra[how]], 1), maps)
    torch.testing.assert_close(got, _fraction(t, maps), rtol=1e-4, atol=1e-6)


def test_a_faint_latent_of_its_own_counts() -> None:
    """The span does not know how far a latent moves the image."""
    m = known(10, 6, (1, 4, 5))
    t, maps = tangents(m), Draws(9, torch.arange(10)).normal(1, 4, 5)
    faint = torch.cat([t[:, :1] * 1e-3, t[:, 1:]], 1)
    torch.testing.assert_close(_fraction(faint, maps), _fraction(t, maps), rtol=1e-4, atol=1e-6)


def test_a_zero_map_has_no_fraction() -> None:
    m = known(2, 3, (1, 4, 5))
    maps = torch.zeros(2, 1, 4, 5)
    maps[1] = 1
    got = _fraction(tangents(m), maps)
    assert got[0].isnan()
    assert 0 < got[1] < 1


def test_latents_that_all_do_nothing_hold_no_map() -> None:
    assert _fraction(torch.zeros(2, 3, 20), torch.ones(2, 1, 4, 5)).tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_the_map_does_not_matter(scale: float) -> None:
    m = known(10, 6, (1, 4, 5))
    t, maps = tangents(m), Draws(9, torch.arange(10)).normal(1, 4, 5)
    torch.testing.assert_close(_fraction(t, maps * scale), _fraction(t, maps), rtol=1e-5, atol=0)


def test_random_maps_reach_chance() -> None:
    """The mean is E sqrt(Beta(k/2, (d-k)/2)), a little below sqrt(k/d)."""
    n, k, d = 1500, 17, 256
    m = known(n, k, (1, 16, 16))
    got = tangent_fraction(case(linear(torch.ones(3, d)), m.decode(m.latents), m),
                           attribution="random")  # fmt: skip
    mean, chance = got["fraction"].mean().item(), math.sqrt(k / d)
    ratio = math.lgamma((k + 1) / 2) + math.lgamma(d / 2) - math.lgamma(k / 2)
    exact = math.exp(ratio - math.lgamma((d + 1) / 2))
    assert mean == pytest.approx(exact, abs=4 * got["fraction"].std().item() / math.sqrt(n))
    assert mean == pytest.approx(chance, rel=0.02)
    assert got["chance"].tolist() == pytest.approx([chance] * n)


def test_more_latents_than_pixels_span_the_whole_space() -> None:
    m = known(5, 24, (1, 4, 5))
    got = tangent_fraction(case(linear(torch.ones(3, 20)), m.decode(m.latents), m))
    torch.testing.assert_close(got["fraction"], torch.ones(5))
    assert got["chance"].tolist() == [1] * 5


def test_a_model_that_looks_along_the_manifold_scores_one() -> None:
    m = known(12, 4, (1, 4, 5))
    along = linear(Draws(4, torch.arange(3)).normal(4) @ m.a)
    across = linear(Draws(4, torch.arange(3)).normal(20) @ projector(tangents(m)[:1])[1][0])
    x = m.decode(m.latents)
    assert (tangent_fraction(case(along, x, m))["fraction"] - 1).abs().max() < 1e-4
    assert tangent_fraction(case(across, x, m))["fraction"].max() < 1e-3


@pytest.mark.parametrize("target", ["true", "predicted"])
def test_the_map_is_taken_at_the_manifolds_point_for_the_asked_class(target: str) -> None:
    """A quadratic model: its gradient tells where it was taken."""

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.flatten(1) @ weight.T) ** 2

    weight = Draws(4, torch.arange(3)).normal(20)
    m = known(9, 4, (1, 4, 5), curved=True)
    c = case(Quadratic().eval(), torch.zeros(9, 1, 4, 5), m)  # the case's own images do not matter
    got = tangent_fraction(c, of="logit", target=target)["fraction"]  # type: ignore[arg-type]
    points = m.decode(m.latents).flatten(1)
    labels = c.y if target == "true" else ((points @ weight.T) ** 2).argmax(1)
    assert (labels != c.y).any() == (target == "predicted")
    maps = 2 * (points * weight[labels]).sum(1, keepdim=True) * weight[labels]
    torch.testing.assert_close(got, _fraction(tangents(m), maps), rtol=1e-4, atol=1e-6)


# ---- distance ----


@pytest.mark.parametrize(("eps", "loss"), [(None, "xent"), (0.7, "xent"), (0.7, "margin")])
def test_the_distance_literally(eps: float | None, loss: Literal["xent", "margin"]) -> None:
    """Walk, referee, projection, scale and ROC, one image after the other in float64."""
    n, shape = 15, (1, 4, 5)
    x = Draws(0, torch.arange(n)).uniform(*shape)
    weight = Draws(1, torch.arange(3)).normal(20)
    model, judge = linear(weight), linear(weight + Draws(2, torch.arange(3)).normal(20))
    c = case(model, x, known(n, 2, shape), referee=judge)
    got = reconstruction_distance(c, eps=eps, steps=5, loss=loss)

    model, judge = copy.deepcopy(model).double(), copy.deepcopy(judge).double()
    radius = 6 * math.sqrt(20 / 784) if eps is None else eps
    clean, far, lengths = [], [], []
    for image, label in zip(x.double(), c.y, strict=True):
        moved = image
        for _ in range(5):
            at = moved.detach().clone().requires_grad_()
            logits = model(at[None])[0]
            others = [logits[k] for k in range(3) if k != label]
            climbed = {
                "xent": -logits.softmax(0)[label].log(),
                "margin": max(others) - logits[label],
            }
            climbed[loss].backward()
            assert at.grad is not None
            delta = moved + radius / 6 * at.grad / at.grad.norm() - image
            delta = delta * min(1, radius / delta.norm().item())
            moved = (image + delta).clip(0, 1)
        changed = bool(judge(moved[None]).argmax() != judge(image[None]).argmax())
        far.append((moved - moved.mean()).norm().item() if changed else math.nan)
        clean.append((image - image.mean()).norm().item())
        lengths.append((moved - image).norm().item())
    above = [[0.5 * (d == c) + (d > c) if d == d else math.nan for c in clean] for d in far]
    low, high = min(clean), max(clean)
    scaled, own = ([(d - low) / (high - low) for d in row] for row in (far, clean))
    assert got["distance"].tolist() == pytest.approx(scaled, rel=1e-3, abs=1e-4, nan_ok=True)
    assert got["clean_distance"].tolist() == pytest.approx(own, abs=1e-5)
    assert got["auroc"].tolist() == pytest.approx([sum(row) / n for row in above], nan_ok=True)
    assert got["kept"].tolist() == [float(d == d) for d in far]
    assert got["walked"].tolist() == pytest.approx(lengths, rel=1e-4)
    assert 0 < sum(map(math.isnan, far)) < n  # some images are left out, some are not


def test_the_cut_to_black_and_white_shortens_the_walk() -> None:
    signs = Draws(1, torch.arange(1)).normal(784).sign()
    model = linear(torch.cat([signs, -signs, 0 * signs]))  # all pixels are moved alike
    m, walked = known(3, 2, (1, 28, 28)), {}
    for grey in (0.5, 0.0):
        x = torch.full((3, 1, 28, 28), grey)
        walked[grey] = reconstruction_distance(case(model, x, m), steps=6)["walked"]
    torch.testing.assert_close(walked[0.5], torch.full((3,), 6.0))
    # of a black image's pixels only those that become brighter move
    share = torch.tensor([(signs * way > 0).float().mean() for way in (-1, 1)]).max()
    assert (walked[0.0] <= 6 * share.sqrt() + 1e-4).all()
    assert (walked[0.0] > 1).all()


def test_the_referee_is_the_named_model_or_the_model_itself() -> None:
    n, shape = 15, (1, 4, 5)
    x = Draws(0, torch.arange(n)).uniform(*shape)
    model, other = (linear(Draws(seed, torch.arange(3)).normal(20)) for seed in (1, 2))
    m = known(n, 2, shape)

    def kept(referee: nn.Module | None, name: str) -> list[float]:
        found = reconstruction_distance(case(model, x, m, referee=referee), eps=0.7, referee=name)
        return found["kept"].tolist()

    own = kept(None, "own")
    assert kept(other, "own") == own  # nobody is asked
    assert kept(None, "standard") == own  # the referee is this very model
    assert kept(other, "standard") != own


def test_the_mean_of_the_ranks_is_the_area_under_the_roc_curve() -> None:
    reference = Draws(0, torch.arange(40)).normal(1).squeeze(1).round(decimals=1)
    values = (0.7 + Draws(1, torch.arange(30)).normal(1).squeeze(1)).round(decimals=1)
    assert set(values.tolist()) & set(reference.tolist())  # ties
    expected = roc_auc_score([0] * 40 + [1] * 30, torch.cat([reference, values]).numpy())
    assert share_below(values, reference).mean().item() == pytest.approx(expected, abs=1e-6)
    assert share_below(torch.tensor([-9.0, 9.0]), reference).tolist() == [0, 1]
    assert share_below(torch.ones(1), torch.ones(5)).tolist() == [0.5]


def test_clean_distances_run_from_zero_to_one() -> None:
    x = Draws(0, torch.arange(15)).uniform(1, 4, 5)
    clean = reconstruction_distance(
        case(linear(Draws(1, torch.arange(3)).normal(20)), x, known(15, 2, (1, 4, 5))), steps=1
    )["clean_distance"]
    assert (clean.min(), clean.max()) == (0, 1)


def test_images_on_the_manifold_are_measured_on_the_scale_of_the_walk() -> None:
    """Their own distances are rounding: not to be divided by."""

    class OnIt(Known):
        def project(self, x: Tensor) -> Tensor:
            return images if torch.equal(x, images) else images + 1e-6 * (x - images)

    d, m = 20, known(15, 2, (1, 4, 5))
    images = 0.45 + 0.1 * Draws(0, torch.arange(15)).uniform(1, 4, 5)
    weight = Draws(3, torch.arange(1)).normal(d)
    model = linear(torch.cat([weight - weight.mean(), weight.mean() - weight, 0 * weight]))
    got = reconstruction_distance(case(model, images, OnIt(m.latents, m.a, m.shape)), eps=0.4)
    moved = got["distance"][~got["distance"].isnan()]
    assert len(moved) > 3
    torch.testing.assert_close(moved, torch.ones(len(moved)), rtol=1e-4, atol=0)
    assert got["clean_distance"].abs().max() < 1e-3


def test_a_single_image_has_no_range_of_its_own() -> None:
    x = Draws(0, torch.arange(1)).uniform(1, 4, 5)
    model = linear(Draws(1, torch.arange(3)).normal(20))
    got = reconstruction_distance(case(model, x, known(1, 2, (1, 4, 5))), eps=0.7)
    expected = (x - x.mean()).norm().item() / 0.7
    assert got["clean_distance"].tolist() == pytest.approx([expected])


def test_large_images_walk_the_papers_length() -> None:
    """On 28x28 pixels and more the walk is 6 long, whatever the size."""
    walked = []

    class Spy(Known):
        def project(self, x: Tensor) -> Tensor:
            walked.append(x)
            return x * 0

    for shape in ((1, 28, 28), (3, 32, 32)):
        d = math.prod(shape)
        x = torch.full((3, *shape), 0.5)
        signs = Draws(1, torch.arange(1)).normal(d).sign()
        model = linear(torch.cat([signs, -signs, 0 * signs]))  # all pixels move alike: none is cut
        m = known(3, 2, shape)
        reconstruction_distance(case(model, x, Spy(m.latents, m.a, shape)), steps=6)
        clean, moved = walked[-2:]
        torch.testing.assert_close((moved - clean).flatten(1).norm(dim=1), torch.full((3,), 6.0))


def test_the_order_of_models_is_only_as_sure_as_its_steps() -> None:
    """What the script of Kim, Seo & Jeon's order says of distances that rise, stay within noise, and fall."""
    neighbours = runpy.run_path(str(Path(__file__).parent / "peers" / "manifold_order.py"))[
        "neighbours"
    ]
    base, noise = (Draws(seed, torch.arange(200)).normal(1).squeeze(1) for seed in (0, 1))
    noise[:9] = math.nan  # images that one of them has no distance of
    order = {"a": base, "b": base + 0.5, "c": base + 0.5 + 0.02 * noise, "d": base}
    *steps, _, verdict = neighbours(order)
    assert [step.partition(":")[0] for step in steps] == ["- b - a", "- c - b", "- d - c"]
    assert ["(200 images)" in step for step in steps] == [True, False, False]
    assert verdict == (
        "The order a < b < c < d: 1 of 3 steps hold (p < 0.05), 1 are the other way round (p < 0.05)."
    )


# ---- steps along the manifold and off it ----


def test_a_step_is_split_into_its_parts_along_the_manifold_and_off_it() -> None:
    m = known(6, 4, (1, 4, 5), curved=True)
    t, vectors = tangents(m), Draws(9, torch.arange(6)).normal(3, 20)
    inside = projection(t, vectors)
    for n in range(6):
        q, _ = torch.linalg.qr(t[n].double().T)
        torch.testing.assert_close(inside[n], vectors[n].double() @ q @ q.T, rtol=1e-5, atol=1e-7)


def test_the_changes_on_and_off_the_manifold_literally() -> None:
    m = known(6, 4, (3, 2, 4), curved=True)
    points = m.decode(m.latents)
    model = linear(Draws(4, torch.arange(3)).normal(24) / 5)
    c = case(model, torch.zeros_like(points), m)  # the case's own images do not matter
    got = on_off_manifold(c, eps=0.3, directions=2)

    model = copy.deepcopy(model).double()
    noise, on, off = c.draws.fork("directions").normal(2, 24).double(), [], []
    for n in range(6):
        q, _ = torch.linalg.qr(tangents(m)[n].double().T)
        x, changes = points[n].double().flatten(), [0.0, 0.0]
        for each in noise[n]:
            inside = q @ (q.T @ each)
            for i, part in enumerate((inside, each - inside)):
                moved = x + 0.3 * part / part.norm()
                p, before = (model(image[None]).softmax(1)[0] for image in (moved, x))
                changes[i] += (
                    sum(abs(a - b) for a, b in zip(p.tolist(), before.tolist(), strict=True)) / 2
                )
        on.append(changes[0])
        off.append(changes[1])
    assert got["on"].tolist() == pytest.approx(on, rel=1e-4)
    assert got["off"].tolist() == pytest.approx(off, rel=1e-4)
    mean, r = sum(on) / 6, sum(off) / sum(on)
    parts = [r + (d - r * o) / mean for d, o in zip(off, on, strict=True)]
    assert got["ratio"].tolist() == pytest.approx(parts, rel=1e-3, abs=1e-4)
    assert got["ratio"].mean().item() == pytest.approx(r, rel=1e-4)


def test_the_spread_of_the_ratio_is_that_of_a_ratio_of_means() -> None:
    """Against the bootstrap over images; off / mean(on) has too small a spread where `on` varies."""
    off, on = Draws(4, torch.arange(2)).normal(400).div(2).exp().unbind()
    again = (Draws(0, torch.arange(4000)).uniform(400) * 400).long()
    bootstrap = (off[again].mean(1) / on[again].mean(1)).std().item()
    assert _ratio(off, on).mean().item() == pytest.approx((off.mean() / on.mean()).item())
    assert _ratio(off, on).std().item() / 20 == pytest.approx(bootstrap, rel=0.05)
    assert (off / on.mean()).std().item() / 20 < 0.8 * bootstrap


def test_a_model_that_heeds_the_manifold_alone_does_not_change_off_it_and_the_other_way_round() -> (
    None
):
    m = known(12, 4, (1, 4, 5))
    along = linear(Draws(4, torch.arange(3)).normal(4) @ m.a)
    across = linear(Draws(4, torch.arange(3)).normal(20) @ projector(tangents(m)[:1])[1][0])
    x = m.decode(m.latents)
    assert on_off_manifold(case(along, x, m), eps=0.01)["ratio"].max() < 1e-2
    assert on_off_manifold(case(across, x, m), eps=0.01)["ratio"].mean() > 100


def test_a_model_that_weighs_all_directions_alike_has_a_ratio_of_one() -> None:
    """Logits (w (x - point), 0) change by |w u| / 2 on a short step u: alike on and off for random w and k = d - k."""
    m = known(250, 5, (1, 2, 5))  # one batch
    points, w = m.decode(m.latents), Draws(7, torch.arange(250)).normal(10)

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = ((x - points).flatten(1) * w).sum(1)
            return torch.stack([score, torch.zeros_like(score)], 1)

    got = on_off_manifold(case(Own().eval(), points, m), eps=1e-2, directions=20)
    assert got["ratio"].mean().item() == pytest.approx(1, abs=0.1)
    exact = 0.5 * 1e-2 * (2 / math.pi) ** 0.5  # mean of eps |w u| / 2
    assert got["on"].mean().item() == pytest.approx(exact, rel=0.1)


def test_a_model_that_never_changes_has_no_ratio() -> None:
    m = known(4, 3, (1, 4, 5))
    got = on_off_manifold(case(linear(torch.zeros(3, 20)), m.decode(m.latents), m))
    assert got["ratio"].isnan().all()
    assert got["on"].tolist() == got["off"].tolist() == [0] * 4


def test_the_default_step_grows_with_the_image() -> None:
    """2.64 on CIFAR-10, and of the same size per pixel elsewhere."""
    m = known(3, 3, (3, 2, 2))
    c = case(linear(Draws(4, torch.arange(3)).normal(12)), m.decode(m.latents), m)
    asked = on_off_manifold(c, eps=2.64 / 16)
    torch.testing.assert_close(on_off_manifold(c)["on"], asked["on"])


@dataclass(frozen=True, eq=False)
class Counted(Known):
    """Notes how many images each pass of the decoder has."""

    passes: list[int] = field(default_factory=list)

    def decode(self, z: Tensor) -> Tensor:
        self.passes.append(len(z))
        return super().decode(z)


def counted(n: int) -> Counted:
    one = known(n, 2, (1, 4, 5), curved=True)
    return Counted(one.latents, one.a, one.shape, one.phi)


def test_all_maps_share_the_tangents_of_a_manifold() -> None:
    first, second = counted(3), counted(3)
    vectors = torch.ones(3, 1, 20)
    expected = projection(tangents(known(3, 2, (1, 4, 5), curved=True)), vectors)
    assert torch.equal(over_tangents(projection, first, vectors), expected)
    assert torch.equal(over_tangents(projection, first, vectors), expected)
    assert first.passes == [1, 3, 3, 1]  # the size of an image, then one pass a latent
    assert torch.equal(over_tangents(projection, second, vectors), expected)
    assert second.passes == [1, 3, 3]


def test_large_tangents_are_never_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    m, vectors = counted(5), Draws(9, torch.arange(5)).normal(1, 20)
    expected = over_tangents(projection, counted(5), vectors)
    for most in ("_KEPT", "_AT_ONCE"):
        monkeypatch.setattr(f"metrics.manifold._tangent.{most}", 2 * 2 * 20 * 8)  # of two images
    assert torch.equal(over_tangents(projection, m, vectors), expected)
    assert m.passes == [1, 2, 2, 2, 2, 1, 1]
    metrics = (tangent_fraction, on_off_manifold)
    model = linear(Draws(4, torch.arange(3)).normal(20))
    few = [metric(case(model, torch.zeros(5, 1, 4, 5), m)) for metric in metrics]
    monkeypatch.undo()
    for metric, got in zip(metrics, few, strict=True):
        whole = metric(case(model, torch.zeros(5, 1, 4, 5), counted(5)))
        for name, scores in got.items():
            torch.testing.assert_close(scores, whole[name], rtol=1e-4, atol=1e-5)


def test_the_points_of_many_images_are_decoded_in_batches() -> None:
    m = counted(260)
    assert points(m).shape == (260, 1, 4, 5)
    assert m.passes == [250, 10]
