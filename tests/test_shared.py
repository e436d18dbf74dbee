"""Results kept elsewhere than in the run's folder: the same records, nothing computed twice, every command works."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmark import suite
from benchmark.errors import IntegrityError
from benchmark.measuring import verify
from benchmark.measuring.place import Place
from benchmark.planner import plan
from benchmark.report.write import write
from benchmark.running import refresh
from benchmark.running.run import run
from benchmark.storage import ledger
from benchmark.storage.shared import SharedError, agreed, noted, put, root
from benchmark.store import Store

SUITE = suite.Suite.model_validate(
    {
        "name": "s", "train_limit": 120, "limit": 20, "recipe": {"epochs": 1},
        "trainer": [{"name": "standard"}], "gallery": {"images": 2},
        "metric": [
            {"name": "pgd", "steps": 2},
            {"name": "roar", "percents": [50], "retrains": 2},
        ],
    }
)  # fmt: skip


@pytest.fixture(params=["memory", "file", "folder"])
def url(request, tmp_path):
    there = tmp_path / "shared"
    yield {"memory": "memory://bucket/run", "file": there.as_uri(), "folder": str(there)}[
        request.param
    ]
    if request.param == "memory":
        import fsspec

        fsspec.filesystem("memory").store.clear()


def done(folder, url=None):
    place = Place(folder, None, "cpu", agreed(folder, url))
    return run(plan(SUITE), place, 1, begin=lambda jobs: lambda outcome: None, words="bench run")


def test_a_run_with_its_results_elsewhere(url, tmp_path):
    alone, here, other = (tmp_path / name for name in ("alone", "here", "other"))
    done(alone)
    assert done(here, url).computed == 4
    assert {p.name for p in (here / "store").iterdir()} <= {
        "records.digest",
        "records.lock",
        "images",
        "inspections",
    }
    for name in ("records.csv", "verdicts.parquet"):
        assert (here / name).read_bytes() == (alone / name).read_bytes()

    assert done(other, url).computed == 0, "another run finds what is there"
    assert (other / "records.csv").read_bytes() == (alone / "records.csv").read_bytes()
    assert done(here).computed == 0, "the folder knows where its results are"

    # status, report, verify
    book = ledger.read(here)
    assert {book.state(Store(here), entry) for entry in book.entries} == {"done"}
    assert any(path.suffix == ".png" for path in write(here))
    index = json.loads((here / "gallery/index.json").read_text())
    assert all((here / "gallery" / line["file"]).is_file() for line in index)
    entries, _ = verify.examples(here)
    assert [len(c.remarks) for c in verify.verify(here, entries, None, "cpu")] == [0]


def test_what_is_put_there_comes_back_and_damage_is_noticed(url, tmp_path):
    store = Store(tmp_path / "run", url)
    store.save("models", "k", {"a": torch.arange(3)}, {"n": 1})
    assert store.has("models", "k")
    tensors, info = store.load("models", "k")
    assert (tensors["a"].tolist(), info) == ([0, 1, 2], {"n": 1})
    path = store.path("models", "k")
    put(path, path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"models/k\.safetensors is not what was written"):
        store.load("models", "k")
    assert not (tmp_path / "run" / "store" / "models").exists()


def test_results_that_others_may_read_are_not_discarded(url, tmp_path):
    store = Store(tmp_path / "run", url)
    store.save("refits", "k", {}, {})
    store.discard("refits")
    assert store.has("refits", "k")
    own = Store(tmp_path / "own")
    own.save("refits", "k", {}, {})
    own.discard("refits")
    assert not own.has("refits", "k")


def test_a_refresh_says_what_is_not_computed_again(url, tmp_path):
    store = Store(tmp_path / "run", url)
    (told,) = refresh.ask(store, [], {"refits", "manifolds"})
    assert told.startswith("--refresh: generators of manifolds and retrainings are not computed")
    assert url in told
    assert refresh.ask(store, [], set()) == ()
    assert refresh.ask(Store(tmp_path / "own"), [], {"refits"}) == ()


def test_a_folder_keeps_its_results_in_one_place(tmp_path):
    done(tmp_path / "a", str(tmp_path / "x"))
    with pytest.raises(SharedError, match=r"results of .*a are in .*x; give another --out"):
        agreed(tmp_path / "a", str(tmp_path / "y"))
    shutil.rmtree(tmp_path / "a")
    done(tmp_path / "a")
    with pytest.raises(SharedError, match="are in the folder itself"):
        agreed(tmp_path / "a", str(tmp_path / "x"))


def test_a_place_that_cannot_be_used_is_told_before_anything_is_done(tmp_path):
    (tmp_path / "file").touch()
    for url in (f"{tmp_path}/file/x", "nothing://x"):
        with pytest.raises(SharedError, match="cannot write to --store"):
            agreed(tmp_path / "run", url)
    assert not (tmp_path / "run").exists()


def test_a_relative_folder_is_meant_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert root(agreed(tmp_path / "run", "there")) == tmp_path / "there"
    assert noted(Path("nowhere")) == ""


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%20b", "with space"])
def test_signs_in_the_name_of_a_folder_are_its_own(tmp_path, name):
    there = tmp_path / name
    assert root(agreed(tmp_path / "run", str(there))) == there
    assert root(agreed(tmp_path / "run", there.as_uri())) == there
    assert (there / "writable").is_file()


def test_a_runs_folder_is_a_local_one():
    with pytest.raises(SharedError, match=r"a run's folder is a local one; .* --store URL"):
        agreed(Path("s3://bucket/run"), None)
