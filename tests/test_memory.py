"""Too little memory: batches become smaller and nothing else changes."""

import logging

import pytest
import torch

from metrics.attribution import explain
from metrics.batching import affordable, in_batches, out_of_memory, predict
from metrics.case import Case
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches
from metrics.robustness.auto_attack import auto_attack
from metrics.threat import Linf

GPU = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")


class Small:
    """A function that fits `room` rows, and notes how many it was given."""

    def __init__(self, function, room, error=CPU):
        self.function, self.room, self.error, self.seen = function, room, error, []

    def __call__(self, x, *rest):
        self.seen.append(len(x))
        if len(x) > self.room:
            raise self.error
        return self.function(x, *rest)


@pytest.mark.parametrize("error", [GPU, CPU, MemoryError()])
def test_batches_are_halved_until_they_fit_and_stay_so(error, caplog):
    x = torch.arange(100.0)
    small = Small(lambda part: part * 2, 20, error)
    assert torch.equal(in_batches(small, x), x * 2)
    assert small.seen == [100, 50, 25, 13, 13, 13, 13, 13, 13, 13, 9]
    told = [record.getMessage() for record in caplog.records]
    assert told[-1] == "out of memory: goes on with batches of 13 rows"
    assert len(told) == 3
    assert caplog.records[0].levelno == logging.WARNING


def test_random_numbers_stay_those_of_the_image():
    draws = Draws(3, torch.arange(40))
    x = torch.zeros(40)

    def noisy(part, mine):
        return part + mine.uniform()

    assert torch.equal(in_batches(Small(noisy, 7), x, draws), noisy(x, draws))
    assert torch.equal(in_equal_batches(Small(noisy, 7), x, draws), noisy(x, draws))


def test_what_does_not_fit_one_by_one_and_other_errors_are_raised():
    with pytest.raises(RuntimeError, match="can't allocate"):
        in_batches(Small(torch.clone, 0), torch.zeros(5))
    other = Small(torch.clone, 3, RuntimeError("size mismatch"))
    with pytest.raises(RuntimeError, match="size mismatch"):
        in_batches(other, torch.zeros(5))
    assert other.seen == [5]
    assert not out_of_memory(ValueError("can't allocate memory"))


def test_torchs_own_allocator_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert out_of_memory(caught.value)
    rows = affordable(lambda size: torch.empty(size * 10**15 // 2**40), 2**40)[0]
    assert len(rows) < 10**12


class Hungry(torch.nn.Module):
    """A model that fits few images."""

    def __init__(self, net, room):
        super().__init__()
        self.net, self.room = net, room

    def forward(self, x):
        if len(x) > self.room:
            raise GPU
        return self.net(x)


@pytest.mark.parametrize("attribution", ["occlusion", "integrated_gradients"])
def test_methods_that_show_an_image_many_times_go_on_with_less(attribution):
    x = torch.rand(12, 1, 12, 12)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 4)).requires_grad_(False)
    target, draws = net(x).argmax(1), Draws(0, torch.arange(12))
    expected = explain(net, x, draws, attribution=attribution, target=target)
    sizes = []
    net.register_forward_pre_hook(lambda _, shown: sizes.append(len(shown[0])))
    found = explain(Hungry(net, 125), x, draws, attribution=attribution, target=target)
    torch.testing.assert_close(found, expected)
    assert max(sizes) == 3 * (500 // 12), "a quarter of the images, as often each"


def test_auto_attack_and_predictions_go_on_with_less():
    x, y = torch.rand(12, 1, 6, 6), torch.randint(0, 4, (12,))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4)).eval()
    net.requires_grad_(False)
    model = Hungry(net, 6)
    assert torch.equal(predict(model, x), net(x).argmax(1))
    graded = []
    case = Case(
        model=model, x=x, y=net(x).argmax(1), draws=Draws(0, torch.arange(12)),
        train_x=x, train_draws=Draws(0, torch.arange(12)), threat=Linf(0.3), classes=4,
        grade=lambda found: graded.append(found) or {}, refit=None, manifold=None, surrogate=None,
        mask=None, train_y=y,
    )  # fmt: skip
    auto_attack(case, queries=5)
    assert (graded[0] - x).abs().amax() <= 0.3 + 1e-6
    assert (net(graded[0]).argmax(1) != case.y).float().mean() > 0.5
