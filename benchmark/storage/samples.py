"""The scores of single images, which the records are the means of: the rows of samples.parquet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmark.storage.ledger import Entry

ROWS = 2**20
"""Of a row group. No more of them is held, some 80 MB: the samples of a large run do not fit into memory."""

_CELL = ("dataset", "model", "trainer", "threat", "metric", "params")
COLUMNS = (*_CELL, "seed", "refit", "measure", "at", "image", "label", "value")
"""A row per image and measure, and per refit (0, 1, ...) for measures that retrain several times."""
_TEXT = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = {"at": pa.float64(), "value": pa.float32()}
_TYPES = dict.fromkeys(COLUMNS, pa.int64()) | dict.fromkeys((*_CELL, "measure"), _TEXT) | _NUMBERS
_SCHEMA = pa.schema(list(_TYPES.items()))


class Sheet:
    """samples.parquet while it is written: cells go in one after another, and stay in memory for a row group."""

    def __init__(self, file: pq.ParquetWriter, entries: Sequence[Entry]) -> None:
        texts = {name: {getattr(entry, name) for entry in entries} for name in _CELL}
        texts["measure"] = {measure for entry in entries for measure in entry.directions}
        # the same in all row groups, so that a reader need not bring different ones together
        self._texts = {name: sorted(found) for name, found in texts.items()}
        self._file, self._held = file, list[pa.RecordBatch]()

    def add(
        self, entry: Entry, scores: Mapping[str, NDArray[Any]], images: Mapping[str, NDArray[Any]]
    ) -> None:
        """The rows of a cell: its measures in turn, with the images' identities (`ids`) and `labels`."""
        for name, values in scores.items():
            self._held.append(self._rows(entry, name, values, images))
            if sum(batch.num_rows for batch in self._held) >= ROWS:
                self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            self._file.write_table(pa.Table.from_batches(self._held))
            self._held.clear()

    def _rows(
        self,
        entry: Entry,
        name: str,
        values: NDArray[Any],
        images: Mapping[str, NDArray[Any]],
    ) -> pa.RecordBatch:
        measure, _, at = name.partition("@")
        by_refit = values.reshape(-1, len(images["ids"]))
        refits, count = by_refit.shape
        texts = {**{column: getattr(entry, column) for column in _CELL}, "measure": measure}
        columns = {
            **{column: self._repeated(column, text, by_refit.size) for column, text in texts.items()},
            "seed": np.full(by_refit.size, entry.seed), "refit": np.repeat(np.arange(refits), count),
            "at": np.full(by_refit.size, float(at) if at else math.nan),
            "image": np.tile(images["ids"], refits), "label": np.tile(images["labels"], refits),
            "value": by_refit.ravel(),
        }  # fmt: skip
        # NaN is written as null, as pandas writes it
        arrays = [pa.array(columns[name], _TYPES[name], from_pandas=True) for name in COLUMNS]
        return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)

    def _repeated(self, column: str, text: str, count: int) -> pa.DictionaryArray:
        known = self._texts[column]
        codes = np.full(count, known.index(text), np.int32)
        return pa.DictionaryArray.from_arrays(codes, pa.array(known, pa.string()))


@contextmanager
def sheet(path: Path, entries: Sequence[Entry]) -> Iterator[Sheet]:
    """A file of samples for cells among these."""
    with pq.ParquetWriter(path, _SCHEMA) as file:
        made = Sheet(file, entries)
        yield made
        made.flush()
