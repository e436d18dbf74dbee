"""What a run keeps for its report beside the numbers: small test images, and the epochs of its trainings."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.datasets.base import Split
from benchmark.storage.ledger import Entry, Ledger
from benchmark.storage.thumbnails import COUNT, keep_images
from benchmark.storage.trainings import EPOCHS, epochs, trainings
from benchmark.store import Store


def split(count: int, side: int) -> Split:
    """Images that are dark on the left and bright on the right."""
    x = torch.linspace(0, 1, side).expand(count, 3, side, side).clone()
    return Split(x, torch.zeros(count, dtype=torch.long), torch.arange(count))


def test_the_first_images_are_kept_small(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep_images(store, "k", split(COUNT + 5, 128))
    kept, _ = store.arrays("images", "k")
    assert kept["thumbnails"].shape == (COUNT, 3, 32, 32)
    assert (len(kept["ids"]), len(kept["labels"])) == (COUNT + 5, COUNT + 5)
    first, last = kept["thumbnails"][0, 0, 0, [0, -1]]
    assert first < 5
    assert last > 250
    keep_images(store, "small", split(3, 8))
    assert store.arrays("images", "small")[0]["thumbnails"].shape == (3, 3, 8, 8)


def test_what_is_there_stays_and_what_lacks_thumbnails_gets_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    data = split(3, 8)
    store.save("images", "k", {"ids": data.ids, "labels": data.y}, {})
    keep_images(store, "k", data)
    written = store.path("images", "k").read_bytes()
    assert "thumbnails" in store.arrays("images", "k")[0]
    keep_images(store, "k", split(3, 9))
    assert store.path("images", "k").read_bytes() == written


def test_a_damaged_file_is_left_for_its_cells_to_tell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep_images(store, "k", split(3, 8))
    path = store.path("images", "k")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = path.read_bytes()
    keep_images(store, "k", split(3, 8))
    assert path.read_bytes() == before


def entry(model_key: str, seed: int) -> Entry:
    """A cell of a trained model."""
    texts = dict.fromkeys(Entry.__dataclass_fields__, "x")
    own = {"model_key": model_key, "seed": seed, "reconstruction": False}
    return Entry(**{**texts, **own, "directions": {}, "ranges": {}})  # type: ignore[arg-type]


def test_every_epoch_of_a_kept_training_is_a_row_with_its_recipe_beside(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log = [
        {"epoch": i, "loss": 1.0 / (i + 1), "validation": 0.1 * i, "lr": 0.1, "seconds": 2.0}
        for i in range(3)
    ]
    cost = {"forward": 1.0, "backward": 1.0, "work": 1.0}
    info = {"log": log, "kept": 1, "cost": cost}
    store.save("models", "new", {}, {**info, "recipe": {"epochs": 3}})
    store.save("models", "old", {}, info)
    book = Ledger("s", (entry("new", 0), entry("new", 0), entry("old", 1), entry("gone", 2)), {})
    table = epochs(store, book)
    assert list(table.columns) == list(EPOCHS)
    assert list(table["epoch"]) == [0, 1, 2, 0, 1, 2]
    assert list(table["seed"]) == [0, 0, 0, 1, 1, 1]
    assert list(trainings(store, book)["recipe"]) == ['{"epochs": 3}', ""]
    assert epochs(store, Ledger("s", (), {})).empty
