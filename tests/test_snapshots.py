"""Unfinished trainings on disk: continued only if they are whole and of this very training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from benchmark.errors import BenchError
from benchmark.measuring import standalone
from benchmark.planner import plan
from benchmark.storage.snapshots import FileSnapshots
from benchmark.suite import Entry, Suite
from trainers.base import Epoch

STATE = {"live": {"model": {"weight": torch.arange(3.0)}}, "log": [(0, 0.5)], "best": 0.1}


@pytest.fixture
def kept(tmp_path):
    snapshots = FileSnapshots(tmp_path / "x.snapshot", "key", "cpu", every=0)
    snapshots.offer(lambda: STATE)
    return snapshots


def test_a_snapshot_comes_back(kept):
    found = kept.load()
    assert torch.equal(found["live"]["model"]["weight"], torch.arange(3.0))
    assert found["log"] == [(0, 0.5)]


def test_the_snapshot_of_another_training_is_not_continued(kept):
    assert FileSnapshots(kept.path, "other", "cpu").load() is None


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-9] + b"x" + b[-8:]]
)
def test_a_damaged_snapshot_is_not_continued(kept, harm):
    kept.path.write_bytes(harm(kept.path.read_bytes()))
    assert kept.load() is None


def test_nothing_is_written_before_it_is_time(tmp_path):
    snapshots = FileSnapshots(tmp_path / "x.snapshot", "key", "cpu", every=1000)
    snapshots.offer(lambda: pytest.fail("too early"))
    assert snapshots.load() is None


def test_a_finished_training_leaves_no_snapshot(kept):
    kept.discard()
    kept.discard()
    assert kept.load() is None


class Killed(BaseException):
    """As an interrupt: nothing that a training would be said to have failed of."""


def weights(path):
    return {name: tensor.tolist() for name, tensor in load_file(path).items()}


def test_a_killed_bench_train_continues_to_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr(standalone.FileSnapshots.__init__, "__defaults__", (0.0,))
    suite = Suite(
        name="train", dataset="digits", trainer=[Entry(name="pgd_at", steps=1)], seeds=[0],
        train_limit=200, recipe={"epochs": 4}, metric=[Entry(name="clean_accuracy")],
    )  # fmt: skip
    training = plan(suite).trainings[0]

    def die(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise Killed

    told: list[Epoch] = []
    said: list[str] = []
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    standalone.train_to_file(training, whole, None, "cpu", lambda epoch: None, said.append)
    with pytest.raises(Killed):
        standalone.train_to_file(training, parted, None, "cpu", die, said.append)
    assert not parted.exists()
    assert not said
    # another seed is another training: it neither takes over the unfinished neighbour nor throws it away
    other = replace(training, seed=1)
    with pytest.raises(Killed):
        standalone.train_to_file(other, parted, None, "cpu", die, said.append)
    standalone.train_to_file(training, parted, None, "cpu", told.append, said.append)
    assert [words.startswith("continues after epoch 2, from ") for words in said] == [True]
    assert weights(parted) == weights(whole)
    assert [epoch.epoch for epoch in told] == [0, 1, 2, 3]
    kept = parted.read_bytes()
    with pytest.raises(BenchError, match=r"parted\.safetensors is there already, and not of this"):
        standalone.train_to_file(other, parted, None, "cpu", told.append, said.append)
    assert standalone.train_to_file(training, parted, None, "cpu", die, said.append) == (
        f"file:{parted}"
    )
    assert said[1:] == [f"{parted} is of this very training already: nothing to do"]
    assert parted.read_bytes() == kept
    (unfinished,) = tmp_path.glob("parted.safetensors.*.unfinished")
    assert {*tmp_path.iterdir()} == {whole, parted, unfinished}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: file.mkdir(), "it is a folder"),
        (lambda file: file.parent.write_text("no folder"), "File exists"),
        (lambda file: FileLock(f"{file}.lock").acquire(), "another bench train is making"),
    ],
)
def test_a_file_that_cannot_be_made_is_told_before_the_training(tmp_path, make, words):
    training = plan(
        Suite(
            name="train", dataset="digits", trainer=[Entry(name="standard")], seeds=[0],
            metric=[Entry(name="clean_accuracy")],
        )
    ).trainings[0]  # fmt: skip
    file = tmp_path / "folder" / "model.safetensors"
    if words != "File exists":
        file.parent.mkdir()
    held = make(file)  # a lock holds as long as it lives

    def never(epoch: Epoch) -> None:
        raise AssertionError("it trains")

    with pytest.raises(BenchError, match=words):
        standalone.train_to_file(training, file, None, "cpu", never, never)
    del held
