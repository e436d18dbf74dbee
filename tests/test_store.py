"""The store: whole files or none, digests that notice a change, one writer at a time."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.errors import IntegrityError
from benchmark.storage import ledger
from benchmark.storage.atomic import write_atomically, write_json
from benchmark.storage.ledger import Entry, Ledger
from benchmark.store import Store, StoreError, locked

TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.tensor([True, False]),
    "c": torch.tensor(3),
}


def test_what_is_saved_comes_back(tmp_path):
    store = Store(tmp_path)
    assert not store.has("cells", "k")
    store.save("cells", "k", TENSORS, {"reason": "", "n": 3})
    assert store.has("cells", "k")
    tensors, info = store.load("cells", "k")
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert info == store.info("cells", "k") == {"n": 3, "reason": ""}
    arrays, _ = store.arrays("cells", "k")
    assert (arrays["a"] == TENSORS["a"].numpy()).all()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_changed_file_is_noticed(tmp_path, damage):
    store = Store(tmp_path)
    store.save("models", "k", TENSORS, {})
    path = store.path("models", "k")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-4], "empty": b""}[damage])
    for read in (store.load, store.arrays, store.info):
        with pytest.raises(IntegrityError, match=r"k\.safetensors is .*delete it"):
            read("models", "k")


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": True})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"old": True}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_what_a_killed_run_was_writing_is_discarded(tmp_path):
    (tmp_path / "store/cells").mkdir(parents=True)
    (tmp_path / "store/cells/.writing-1.safetensors").touch()
    (tmp_path / ".writing-2.json").touch()
    other = tmp_path / "another-run/store/cells/.writing-3.safetensors"
    other.parent.mkdir(parents=True)
    other.touch()
    Store(tmp_path).discard_unfinished()
    assert list(tmp_path.glob("**/.writing-*")) == [other]


def test_once_computes_once(tmp_path):
    store, calls = Store(tmp_path), []

    def compute() -> dict[str, torch.Tensor]:
        calls.append(1)
        return TENSORS

    for _ in range(2):
        assert torch.equal(store.once("refits", "k", compute)["a"], TENSORS["a"])
    assert calls == [1]


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    code = (
        "import sys; from pathlib import Path; from benchmark.store import locked\n"
        "with locked(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(StoreError, match="another run is writing to"):
            locked(tmp_path)
    locked(tmp_path).release()


def line(seed, key, images="f", fit="t", experiment="e", method="q") -> Entry:
    return Entry(
        "digits", "mlp", "standard", "", False, seed, "", "gini", "sharpness", "Gini", "",
        {"gini": "higher"}, {"gini": "0..1"}, images, fit, experiment, method, "m", "i", key,
    )  # fmt: skip


def test_a_ledger_grows_and_replaces_by_identity(tmp_path):
    first = ledger.amended(None, "smoke", (line(0, "a"),), tmp_path)
    ledger.write(tmp_path, first)
    assert ledger.read(tmp_path) == first
    second = ledger.amended(first, "smoke", (line(1, "b"), line(0, "new")), tmp_path)
    assert {entry.key for entry in second.entries} == {"new", "b"}
    with pytest.raises(StoreError, match="holds results of suite 'smoke', not of 'quick'"):
        ledger.amended(second, "quick", (), tmp_path)


def test_a_command_that_asks_for_all_cells_gives_the_order(tmp_path):
    """Whatever was asked for before it."""
    every = tuple(line(seed, str(seed)) for seed in range(3))
    for first, second in (((2,), (0,)), ((2, 0), ()), ((1,), (2, 0, 1))):
        book = None
        for seeds in (first, second):
            book = ledger.amended(book, "smoke", tuple(every[i] for i in seeds), tmp_path)
        assert ledger.amended(book, "smoke", every, tmp_path).entries == every
    some = ledger.amended(None, "smoke", every[::-1], tmp_path)
    assert ledger.amended(some, "smoke", every[:1], tmp_path).entries == every[::-1]


def test_seeds_add_up_and_other_experiments_replace(tmp_path):
    old = ledger.amended(None, "smoke", (line(0, "a"), line(1, "b")), tmp_path)
    for name in ("images", "fit", "experiment", "method"):
        new = ledger.amended(old, "smoke", (line(0, "c", **{name: "other"}),), tmp_path)
        assert [entry.key for entry in new.entries] == ["c"], name
    more = ledger.amended(old, "smoke", (line(2, "c"),), tmp_path)
    assert [entry.key for entry in more.entries] == ["a", "b", "c"]


def test_a_cell_that_is_asked_for_twice_is_one_line_at_once(tmp_path):
    book = ledger.amended(None, "smoke", (line(0, "a"), line(0, "a")), tmp_path)
    assert len(book.entries) == 1


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="is not empty and holds no run"):
        locked(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "records.parquet").touch()
    with pytest.raises(StoreError, match="as they are published: bench report, compare and export"):
        locked(tmp_path)
    with pytest.raises(StoreError, match="cannot write to"):
        locked(tmp_path / "thesis.tex")


def test_states_of_a_cell(tmp_path):
    store = Store(tmp_path)
    store.save("cells", "a", {}, {"reason": "", "seconds": 0})
    book = Ledger("s", (line(0, "a"), line(1, "b"), line(2, "c")), {"b": "why"})
    assert [book.state(store, entry) for entry in book.entries] == ["done", "failed", "waiting"]


def test_a_plan_that_is_none_is_explained(tmp_path):
    assert ledger.read(tmp_path) is None
    (tmp_path / "plan.json").write_text('{"suite": 1}')
    with pytest.raises(StoreError, match=r"plan\.json is not a run's plan"):
        ledger.read(tmp_path)


def test_what_the_suites_file_no_longer_asks_for_leaves(tmp_path):
    """What a command's options asked for stays, and so do cells of other data sets."""
    theirs = replace(line(0, "a"), dataset="mnist", of_suite=True)
    lines = (replace(line(0, "b"), of_suite=True), replace(line(1, "c"), of_suite=True))
    old = ledger.amended(None, "smoke", (theirs, *lines, line(9, "d")), tmp_path)
    asked = frozenset([lines[1].identity])
    for new in ((), lines[1:]):
        left = ledger.amended(old, "smoke", new, tmp_path, asked)
        assert [entry.key for entry in left.entries] == ["a", "c", "d"]
