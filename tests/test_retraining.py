"""Retrainings: each done once whoever asks, shared with helpers, and the same one by one or as one program."""

import threading
import weakref
from dataclasses import replace

import pytest
import torch

from benchmark import suite
from benchmark.measuring import measure, plain_training, retraining
from benchmark.measuring.place import Place, dataset
from benchmark.models.base import build
from benchmark.plan import Cell
from benchmark.planner import plan
from benchmark.store import Store
from metrics.case import Refit
from trainers.base import Diverged, Images
from trainers.recipe import Recipe
from trainers.standard import standard

SUITE = suite.Suite.model_validate(
    {
        "name": "s", "train_limit": 120, "limit": 20, "recipe": {"epochs": 1},
        "trainer": [{"name": "standard"}], "metric": [{"name": "roar"}],
    }
)  # fmt: skip


@pytest.fixture
def training():
    return plan(SUITE).trainings[0]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, None, "cpu")


@pytest.fixture
def jobs(training):
    data = dataset(training.data, None)
    return [Refit(data.train.x, data.test.x, seed) for seed in range(3)]


class Elsewhere:
    """Another worker, at one retraining until it is told to leave it, done or undone."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key
        self.holding, self.leave = threading.Event(), threading.Event()
        self.result: torch.Tensor | None = None
        self.thread = threading.Thread(target=self._hold)
        self.thread.start()
        assert self.holding.wait(10)

    def _hold(self) -> None:
        with self.store.claimed("refits", [self.key]) as mine:
            assert mine == [self.key]
            self.holding.set()
            assert self.leave.wait(30)
            if self.result is not None:
                self.store.save("refits", self.key, {"correct": self.result}, {})

    def end(self, result: torch.Tensor | None = None) -> None:
        self.result = result
        self.leave.set()
        self.thread.join()


def keys_of(place):
    return {path.stem for path in (place.folder / "store/refits").glob("*.safetensors")}


def key_of(place, training, job, tmp_path_factory):
    """The key of one retraining, found by doing it in another folder."""
    other = replace(place, folder=tmp_path_factory.mktemp("other"))
    result = retraining.refit(other, training, [job])
    (key,) = keys_of(other)
    return key, result[0].bool()


def test_a_helper_leaves_what_another_is_at(place, training, jobs, tmp_path_factory):
    key, _ = key_of(place, training, jobs[1], tmp_path_factory)
    other = Elsewhere(place.store, key)
    found = retraining.refit(place, training, iter(jobs), whole=False)
    other.end()
    assert found.shape == (3, 20)
    assert not found[1].any()
    assert found[0].any()
    assert len(keys_of(place)) == 2


def test_who_needs_all_waits_for_it_at_the_end(place, training, jobs, tmp_path_factory):
    key, correct = key_of(place, training, jobs[0], tmp_path_factory)
    other = Elsewhere(place.store, key)
    timer = threading.Timer(0.0, lambda: _once_two(place, other, correct))
    timer.start()
    found = retraining.refit(place, training, iter(jobs))
    timer.join()
    assert torch.equal(found[0].bool(), correct)
    assert torch.equal(found, retraining.refit(place, training, iter(jobs)))


def _once_two(place, other, correct):
    """The first is finished only when the others are: who waits for it at once would wait for ever."""
    while len(keys_of(place)) < 2:
        threading.Event().wait(0.01)
    other.end(correct)


def test_what_a_dead_helper_left_is_measured_again(place, training, jobs, tmp_path_factory):
    key, correct = key_of(place, training, jobs[0], tmp_path_factory)
    other = Elsewhere(place.store, key)
    timer = threading.Timer(0.0, lambda: _once_two(place, other, None))
    timer.start()
    with pytest.raises(retraining.Unfinished):
        retraining.refit(place, training, iter(jobs))
    timer.join()
    assert torch.equal(retraining.refit(place, training, iter(jobs))[0].bool(), correct)


def test_a_cell_is_measured_again_when_its_helper_died(place, training, monkeypatch):
    calls = []

    def metric(case):
        calls.append(1)
        if len(calls) == 1:
            raise retraining.Unfinished
        return {"score": torch.zeros(len(case.y))}

    cell = Cell(training, plan(SUITE).cells[0].metric, None)
    monkeypatch.setattr(measure, "model", lambda *a: torch.nn.Identity())
    monkeypatch.setattr("benchmark.cards.Card.load", lambda self: lambda case, **s: metric(case))
    measure.measure(place, cell, "m", "k")
    assert len(calls) == 2
    assert place.store.has("cells", "k")


RECIPE = Recipe("digits_cnn", epochs=2, batch_size=32, lr=5e-3, keep="last")
RECIPES = {
    "adam": RECIPE,
    "sgd with decay, stored order": replace(RECIPE, optimiser="sgd", weight_decay=5e-4, lr=0.05, order="stored"),
    "batchnorm": replace(RECIPE, architecture="resnet20", epochs=1),
    "augmented": replace(RECIPE, augment="crop_flip", schedule="piecewise"),
}  # fmt: skip


def fresh(recipe, seed):
    return build(
        recipe.architecture, channels=1, classes=10, size=8, mean=[0.3], std=[0.4], seed=seed
    )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_as_one_program_they_are_what_they_are_one_by_one(training, recipe):
    """97 images: the last batch of one is joined to the one before."""
    train = dataset(training.data, None).train[:97]
    sets = [Images(train.x * scale, train.y, train.ids) for scale in (1.0, 0.5, 1.0)]
    seeds = [3, 4, 5]
    models = [fresh(recipe, seed) for seed in seeds]
    plain_training.several(models, sets, recipe=recipe, seeds=seeds)
    nothing = Images(*(part[:0] for part in sets[0]))
    for model, images, seed in zip(models, sets, seeds, strict=True):
        alone = standard(
            fresh(recipe, seed), images, nothing, recipe=recipe, threat=None, seed=seed
        )
        mine, start = model.state_dict(), fresh(recipe, seed).state_dict()
        assert not model.training
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=2e-4)
        assert any(not torch.allclose(mine[name], start[name], atol=1e-3) for name in start)


ALONE = {
    **RECIPES,
    "bfloat16": replace(RECIPE, precision="bfloat16"),
    "channels last": replace(RECIPE, memory_format="channels_last"),
    "ema": replace(RECIPE, ema=0.9),
}


@pytest.mark.parametrize("recipe", ALONE.values(), ids=ALONE)
def test_one_by_one_they_are_what_standard_training_gives(training, recipe):
    """To the last bit."""
    train = dataset(training.data, None).train[:97]
    images = Images(train.x, train.y, train.ids)
    nothing = Images(*(part[:0] for part in images))
    mine, theirs = fresh(recipe, 3), fresh(recipe, 3)
    plain_training.one(mine, images, recipe=recipe, seed=3)
    standard(theirs, images, nothing, recipe=recipe, threat=None, seed=3)
    assert not mine.training
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name


def test_a_retraining_that_diverges_says_so(training):
    train = dataset(training.data, None).train[:97]
    with pytest.raises(Diverged, match="the loss of a retraining is"):
        plain_training.one(
            fresh(RECIPE, 0), Images(train.x, train.y, train.ids),
            recipe=replace(RECIPE, lr=1e30), seed=0,
        )  # fmt: skip


def test_what_is_no_one_program_is_left_as_it_was(training):
    train = dataset(training.data, None).train[:40]
    images = Images(*(getattr(train, name) for name in ("x", "y", "ids")))
    for recipe, change in (
        (replace(RECIPE, ema=0.9), None),
        (replace(RECIPE, lr=1e30), None),  # not finite
        (RECIPE, torch.nn.Dropout(0.5)),
    ):
        models = [fresh(recipe, seed) for seed in (0, 1)]
        for model in models:
            if change:
                model.net.append(change)
        before = [value.clone() for model in models for value in model.state_dict().values()]
        with pytest.raises(plain_training.CannotBatch):
            plain_training.several(models, [images, images], recipe=recipe, seeds=[0, 1])
        after = [value for model in models for value in model.state_dict().values()]
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("most", [2, 64])
def test_groups_give_what_one_by_one_gives(place, training, jobs, tmp_path, monkeypatch, most):
    alone = retraining.refit(place, training, iter(jobs))
    monkeypatch.setattr(retraining, "_together", lambda device: most)
    other = Place(tmp_path / "grouped", None, "cpu")
    again = [*jobs, jobs[0]]
    found = retraining.refit(other, training, iter(again))
    assert (found[:3] == alone).float().mean() > 0.95
    assert torch.equal(found[3], found[0])
    assert len(keys_of(other)) == 3
    assert keys_of(other).isdisjoint(keys_of(place)), "a program of its own has keys of its own"


def trained_as_one(training, models):
    """The models on the same 40 images, seeds by their place."""
    train = dataset(training.data, None).train[:40]
    images, number = Images(train.x, train.y, train.ids), len(models)
    plain_training.several(models, [images] * number, recipe=RECIPE, seeds=range(number))


def test_too_little_memory_halves_the_program(training, monkeypatch, caplog):
    sizes, real = [], plain_training._trained

    def small(models, *rest):
        sizes.append(len(models))
        if len(models) > 1:
            raise torch.OutOfMemoryError
        return real(models, *rest)

    monkeypatch.setattr(plain_training, "_trained", small)
    trained_as_one(training, [fresh(RECIPE, seed) for seed in range(3)])
    assert sizes == [3, 1, 2, 1, 1]
    assert "out of memory: 3 models are trained in two halves" in caplog.text


def test_a_half_that_is_no_program_leaves_all_models_as_they_were(training, monkeypatch):
    """The first half was trained by then; they are all trained again, one by one."""
    real, programs = plain_training._trained, []

    def small(models, *rest):
        programs.append(len(models))
        if len(models) == 3:
            raise torch.OutOfMemoryError
        if len(models) == 2:
            raise RuntimeError("refused")
        return real(models, *rest)

    monkeypatch.setattr(plain_training, "_trained", small)
    models = [fresh(RECIPE, seed) for seed in range(3)]
    with pytest.raises(plain_training.CannotBatch, match="refused"):
        trained_as_one(training, models)
    assert programs == [3, 1, 2]
    for seed, model in enumerate(models):
        for name, value in fresh(RECIPE, seed).state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name


def test_what_did_not_fit_is_let_go_before_the_halves_begin(training, monkeypatch):
    real, large = plain_training._trained, []

    def small(models, *rest):
        assert not any(tensor() is not None for tensor in large)
        tensor = torch.zeros(3)
        large.append(weakref.ref(tensor))
        if len(models) > 1:
            raise torch.OutOfMemoryError
        return real(models, *rest)

    monkeypatch.setattr(plain_training, "_trained", small)
    trained_as_one(training, [fresh(RECIPE, seed) for seed in range(2)])
    assert len(large) == 3
