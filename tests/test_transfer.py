"""Transfer: the examples are made on the source and judged on the subject; the source is the run's own model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark import suite
from benchmark.grading import grade
from benchmark.measuring import services
from benchmark.measuring.measure import case as case_of
from benchmark.measuring.measure import cell_key, method
from benchmark.measuring.networks import untrained
from benchmark.measuring.place import Place, dataset
from benchmark.measuring.training import model_key, third_party
from benchmark.plan import Cell, Part, Plan
from benchmark.planner import plan
from benchmark.running.run import run
from benchmark.suite import SuiteError
from metrics.case import Case, NotApplicable
from metrics.randomness import Draws
from metrics.robustness.pgd import pgd
from metrics.robustness.transfer import transfer
from metrics.threat import L2, Linf, ThreatModel
from trainers.recipe import Recipe

SUITE = """
name = "tiny"
dataset = "digits"
limit = 40
train_limit = 120
seeds = [0, 1]
gallery.images = 0
[recipe]
epochs = 1
[[trainer]]
name = "pgd_at"
steps = 1
[[trainer]]
name = "standard"
[[metric]]
name = "pgd"
steps = 2
[[metric]]
name = "transfer"
source = ["standard", "pgd_at"]
"""


def linear(*rows: list[float]) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(rows[0]), len(rows), bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(rows))
    return model.eval().requires_grad_(False)


def case(model: nn.Module, source: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> Case:
    draws = Draws(5, torch.arange(len(x)))
    asked: dict[str, Any] = {"draws": draws, "train_x": x, "train_draws": draws}
    return Case(
        model=model, x=x, y=y, threat=threat, classes=2, **asked,
        grade=lambda adversarial: grade(model, x, y, threat, adversarial),
        refit=lambda jobs: x, manifold=lambda: pytest.fail("unused"), surrogate={"standard": source}.__getitem__,
    )  # fmt: skip


X = torch.tensor([[0.5, 0.5], [0.6, 0.3], [0.52, 0.5]]).view(3, 1, 1, 2)
Y = torch.zeros(3).long()
ALONG_FIRST = linear([1.0, 0.0], [-1.0, 1.0])
ALONG_SECOND = linear([0.0, 1.0], [0.0, 0.0])


def test_the_examples_of_a_linear_source_are_the_corners_it_likes() -> None:
    """On the source z_0 - z_1 = x_2, so its attacker lowers the second pixel, which only helps the subject."""
    found = transfer(case(ALONG_FIRST, ALONG_SECOND, X, Y, Linf(0.1)), steps=40)
    expected = X.clone()
    expected[..., 1] -= 0.1
    # the gradient is 0 in the first pixel, which stays where its random start was
    start = Linf(0.1).noise(X, Draws(5, torch.arange(3)).fork("transfer"))
    expected[..., 0] += start[..., 0]
    graded = grade(ALONG_FIRST, X, Y, Linf(0.1), expected)
    for name, values in graded.items():
        torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.1)], ids=str)
def test_a_model_is_its_own_worst_source(threat: ThreatModel) -> None:
    torch.manual_seed(0)
    one, two = (
        nn.Sequential(nn.Flatten(), nn.Linear(25, 9), nn.ReLU(), nn.Linear(9, 2)) for _ in "ab"
    )
    for model in (one, two):
        model.eval().requires_grad_(False)
    x = Draws(1, torch.arange(64)).uniform(1, 5, 5)
    y = one(x).argmax(1)
    itself = transfer(case(one, one, x, y, threat))["margin"].mean()
    other = transfer(case(one, two, x, y, threat))["margin"].mean()
    white_box = pgd(case(one, two, x, y, threat))["margin"].mean()
    assert itself > other
    assert itself == pytest.approx(float(white_box), rel=0.05)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suites") / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def made(tiny: Path) -> Plan:
    return plan(suite.read(str(tiny)))


def of(made: Plan, trainer: str, source: str, seed: int = 0) -> Cell:
    """The cell of `transfer` from a source to a model."""
    return next(
        cell
        for cell in made.cells
        if cell.training.trainer and cell.training.trainer.reference == trainer
        and cell.training.seed == seed and cell.metric.card.name == "transfer"
        and [s.trainer.reference for s in cell.surrogates if s.trainer] == [source]
    )  # fmt: skip


def test_the_source_is_the_runs_own_training_of_that_seed(made: Plan) -> None:
    for source in ("standard", "pgd_at"):
        for seed in (0, 1):
            own = of(made, source, source, seed).training
            other = "pgd_at" if source == "standard" else "standard"
            assert of(made, other, source, seed).surrogates == (own,)
    assert all(cell.surrogates == () for cell in made.cells if cell.metric.card.name == "pgd")


def test_a_source_trains_against_the_threat_of_the_evaluation(tiny: Path) -> None:
    base = suite.read(str(tiny))
    entries = [suite.Entry(name="transfer", source="pgd_at", threat=["Linf", "L2 0.5"])]
    found = plan(base.model_copy(update={"metric": entries}))
    sources = {str(c.threat): c.surrogates[0] for c in found.cells if c.training.seed == 0}
    assert sources["L2 0.5"].threat == L2(0.5)
    assert sources["Linf 0.1"] in found.trainings
    assert sources["L2 0.5"] not in found.trainings


def test_a_metric_of_several_sources_has_a_model_of_each(tiny: Path, tmp_path: Path) -> None:
    entries = [suite.Entry(name="masking", source=["standard", "pgd_at"])]
    found = plan(suite.read(str(tiny)).model_copy(update={"metric": entries}))
    (own, *_), place = (
        [c for c in found.cells if c.training.seed == 1],
        Place(tmp_path, None, "cpu"),
    )
    assert own.surrogates == tuple(
        next(
            t for t in found.trainings if t.seed == 1 and t.trainer and t.trainer.reference == name
        )
        for name in ("standard", "pgd_at")
    )
    subject = model_key(place, own.training, {})
    with pytest.raises(NotApplicable, match="the source 'pgd_at' is this very model"):
        services.surrogate(place, own, subject, "pgd_at")
    with pytest.raises(ValueError, match=r"by 'trades', but .* names standard, pgd_at"):
        services.surrogate(place, own, subject, "trades")


def test_a_source_that_is_no_trainer_is_refused_before_anything_runs(tiny: Path) -> None:
    entries = [suite.Entry(name="transfer", source="pgd_att")]
    wrong = suite.read(str(tiny)).model_copy(update={"metric": entries})
    with pytest.raises(SuiteError, match=r"transfer\.source: no trainer 'pgd_att' .*'pgd_at'"):
        plan(wrong)


def test_what_the_source_is_stands_in_the_key(made: Plan, tmp_path: Path) -> None:
    place = Place(tmp_path, None, "cpu")
    cell = of(made, "pgd_at", "standard")
    (source,) = cell.surrogates
    assert source.recipe is not None
    longer = replace(source, recipe=replace(source.recipe, epochs=7))
    other = replace(source, trainer=Part("trainers", "standard", (("label_smoothing", 0.3),)))
    keys = {
        cell_key(place, replace(cell, surrogates=(one,)), "m") for one in (source, longer, other)
    }
    keys |= {
        cell_key(place, replace(cell, surrogates=two), "m")
        for two in ((source, other), (other, source))
    }
    assert len(keys) == 5
    # the tables pool seeds: what a metric is must not depend on them
    assert method(place, cell) == method(place, of(made, "pgd_at", "standard", seed=1))


def test_only_the_named_source_is_handed_out_and_never_the_subject(
    made: Plan, tmp_path: Path
) -> None:
    place = Place(tmp_path, None, "cpu")
    cell = of(made, "pgd_at", "standard")
    own = model_key(place, cell.surrogates[0], {})
    with pytest.raises(NotApplicable, match="the source 'standard' is this very model"):
        services.surrogate(place, cell, own, "standard")
    with pytest.raises(ValueError, match=r"asks for a surrogate by 'trades', .* names standard"):
        services.surrogate(place, cell, "m", "trades")
    with pytest.raises(ValueError, match="names none"):
        services.surrogate(place, replace(cell, surrogates=()), "m", "trades")


def test_a_third_partys_model_is_a_source(made: Plan, tmp_path: Path) -> None:
    theirs = untrained(dataset(made.data, None), "digits", Recipe("mlp"), 3)
    state = {n.removeprefix("net."): v for n, v in theirs.state_dict().items() if "net." in n}
    text = f"file:{tmp_path / 'theirs.safetensors'}@mlp"
    save_file(state, tmp_path / "theirs.safetensors")
    entries = [suite.Entry(name="transfer", source=text)]
    given = suite.changed(made.suite, trainers=["standard"], seeds=[0], models=[text])
    planned = plan(given.model_copy(update={"metric": entries}))
    place = Place(tmp_path / "out", None, "cpu")
    assert run(planned, place, 1, begin=lambda _: lambda outcome: None, words="").failed == ()
    rows = pd.read_csv(place.folder / "records.csv").query("metric == 'transfer'")
    own = rows[rows["trainer"] == "pretrained"]
    assert own["value"].isna().all()
    assert own["note"].str.contains("is this very model").all()
    cell = next(c for c in planned.cells if c.training.trainer)
    key = model_key(place, cell.training, {})
    measured = case_of(place, cell, key)
    source = measured.surrogate(text)
    assert torch.equal(
        source(measured.x), third_party(text, dataset(made.data, None)).model(measured.x)
    )
    stored = place.store.load("cells", cell_key(place, cell, key))[0]
    assert torch.equal(transfer(measured, source=text)["margin"], stored["margin"])


def test_a_source_that_is_no_model_of_the_suite_is_refused(tiny: Path) -> None:
    entries = [suite.Entry(name="transfer", source="file:theirs.pt@mlp")]
    wrong = suite.read(str(tiny)).model_copy(update={"metric": entries})
    with pytest.raises(
        SuiteError, match=r"transfer\.source: 'file:.*' is no model of the suite \(none\)"
    ):
        plan(wrong)


def test_a_run_trains_each_model_once_and_transfers_between_them(
    made: Plan, tmp_path: Path
) -> None:
    titles: list[str] = []

    def begin(jobs: list[Any]) -> Any:
        titles.extend(job.title for job in jobs)
        return lambda outcome: None

    place = Place(tmp_path, None, "cpu")
    # without its own entry the source is a training that no row shows
    alone = suite.changed(made.suite, trainers=["pgd_at"], seeds=[0])
    found = run(plan(alone), place, 1, begin=begin, words="")
    assert (found.failed, found.damaged) == ((), ())
    assert sum(title == "train standard, seed 0" for title in titles) == 1
    rows = pd.read_csv(tmp_path / "records.csv")
    assert set(rows["trainer"]) == {"pgd_at (Linf 0.1, steps=1)"}

    titles.clear()
    assert run(made, place, 1, begin=begin, words="").failed == ()
    assert not {title for title in titles if "seed 0" in title and title.startswith("train")}
    rows = pd.read_csv(tmp_path / "records.csv").query("metric == 'transfer'")
    same = rows[rows["value"].isna() & rows["headline"]]
    assert len(same) == 4  # two models, two seeds
    assert same["note"].str.contains("is this very model").all()

    # the harness's source is the stored model, and the score is what attacking it by hand gives
    cell = of(made, "standard", "pgd_at")
    key = model_key(place, cell.training, {})
    given = case_of(place, cell, key)
    saved = place.store.load("models", model_key(place, cell.surrogates[0], {}))[0]
    theirs = given.surrogate("pgd_at")
    assert all(torch.equal(value, saved[name]) for name, value in theirs.state_dict().items())
    assert not any(p.requires_grad for p in theirs.parameters())
    stored = place.store.load("cells", cell_key(place, cell, key))[0]
    assert torch.equal(transfer(given, source="pgd_at")["margin"], stored["margin"])
