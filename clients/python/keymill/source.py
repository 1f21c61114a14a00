"""Tables of any library as record batches of Arrow, and the calls that they are sent in."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import pyarrow
import pyarrow.types

# Rows and bytes of one call: with them its body stays below the 1 MiB that may be signed, and the
# daemon authorizes it as one chunk.
CALL_ROWS = 8192
CALL_BYTES = 768 * 1024


class ArrowStream(Protocol):
    """What has the Arrow PyCapsule interface of streams."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class ArrowArray(Protocol):
    """What has the Arrow PyCapsule interface of arrays."""

    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...


# A table: a DataFrame of pandas or Polars, a relation of DuckDB, a table, record batch or reader of
# pyarrow, anything else with the interface, or record batches as they come.
Rows = ArrowStream | ArrowArray | Iterable[pyarrow.RecordBatch]
# A slice of a column, ready to be sent.
Slice = Callable[[int, int], pyarrow.Array]
# The columns of a batch that are sent, by name.
Prepare = Callable[[pyarrow.RecordBatch], dict[str, Slice]]


def open_source(source: Rows) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    """The schema of a table, and its batches. The table is read as the batches are taken."""
    rows: Any = source
    if isinstance(rows, pyarrow.Table):
        return rows.schema, iter(rows.to_batches())
    if isinstance(rows, pyarrow.RecordBatch):
        return rows.schema, iter([rows])
    if isinstance(rows, pyarrow.RecordBatchReader):
        return rows.schema, rows
    if hasattr(rows, "__arrow_c_stream__"):
        reader = pyarrow.RecordBatchReader.from_stream(rows)
        return reader.schema, reader
    if hasattr(rows, "__arrow_c_array__"):
        batch = pyarrow.record_batch(rows)
        return batch.schema, iter([batch])
    if isinstance(rows, Iterable) and not isinstance(rows, (str, bytes, dict)):
        batches = iter(rows)
        first = next(batches, None)
        if first is None:
            return pyarrow.schema([]), iter([])
        if isinstance(first, pyarrow.RecordBatch):
            return first.schema, chain([first], batches)
    raise TypeError(f"{type(source)} does not have the Arrow PyCapsule interface")


@dataclass(frozen=True)
class Call:
    """The rows of one call: the caller's batches, the columns that are sent, the first row."""

    pieces: list[pyarrow.RecordBatch]
    sent: pyarrow.RecordBatch
    first_row: int


def calls(batches: Iterable[pyarrow.RecordBatch], prepare: Prepare) -> Iterator[Call]:
    """Cuts large batches and puts small ones together. Columns that are not sent are not copied."""
    gathered, first_row = _Gathered(0), 0
    for batch in batches:
        columns = prepare(batch)
        start = 0
        while start < batch.num_rows:
            count = min(CALL_ROWS - gathered.rows, batch.num_rows - start)
            sent = _sent(columns, start, count)
            while count > 1 and gathered.bytes + sent.nbytes > CALL_BYTES:
                count = (count + 1) // 2
                sent = _sent(columns, start, count)
            if gathered.rows and gathered.bytes + sent.nbytes > CALL_BYTES:
                # Not even one row more fits.
                first_row += gathered.rows
                yield gathered.call()
                gathered = _Gathered(first_row)
                continue
            gathered.add(batch.slice(start, count), sent)
            start += count
            if gathered.rows == CALL_ROWS:
                first_row += gathered.rows
                yield gathered.call()
                gathered = _Gathered(first_row)
    if gathered.rows:
        yield gathered.call()


class _Gathered:
    """A call that is being filled."""

    def __init__(self, first_row: int):
        self.first_row, self.rows, self.bytes = first_row, 0, 0
        self.pieces: list[pyarrow.RecordBatch] = []
        self.sent: list[pyarrow.RecordBatch] = []

    def add(self, piece: pyarrow.RecordBatch, sent: pyarrow.RecordBatch) -> None:
        self.pieces.append(piece)
        self.sent.append(sent)
        self.rows += sent.num_rows
        self.bytes += sent.nbytes

    def call(self) -> Call:
        sent = self.sent[0]
        if len(self.sent) > 1:
            names = sent.schema.names
            columns = [
                pyarrow.concat_arrays([part.column(name) for part in self.sent]) for name in names
            ]
            sent = pyarrow.record_batch(columns, names=names)
        return Call(self.pieces, sent, self.first_row)


def _sent(columns: dict[str, Slice], start: int, count: int) -> pyarrow.RecordBatch:
    arrays = [column(start, count) for column in columns.values()]
    if not arrays:
        # A batch without columns has no length: rows without a context need one all the same.
        return pyarrow.record_batch([pyarrow.nulls(count)], names=["row"])
    return pyarrow.record_batch(arrays, names=list(columns))


def column_of(batch: pyarrow.RecordBatch, name: str) -> pyarrow.Array:
    """The one column of this name."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise ValueError(f"there is no column {name!r}, or there are several")
    return batch.column(index)


def texts(batch: pyarrow.RecordBatch, name: str) -> Slice:
    """A column of strings, of whatever layout, as plain strings."""
    column = column_of(batch, name)
    kind = column.type
    values = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if not is_text(values) and not pyarrow.types.is_null(values):
        raise TypeError(f"column {name!r} is of type {kind}, and contexts are strings")
    return plain(column, pyarrow.string())


def blobs(batch: pyarrow.RecordBatch, name: str) -> Slice:
    """A column of bytes, of whatever layout, as plain binary."""
    column = column_of(batch, name)
    kind = column.type
    fits = (
        pyarrow.types.is_binary(kind)
        or pyarrow.types.is_large_binary(kind)
        or pyarrow.types.is_fixed_size_binary(kind)
        or pyarrow.types.is_binary_view(kind)
        or pyarrow.types.is_null(kind)
    )
    if not fits:
        raise TypeError(f"column {name!r} is of type {kind}, and wrapped keys are binary")
    return plain(column, pyarrow.binary())


def plain(column: pyarrow.Array, kind: pyarrow.DataType) -> Slice:
    """Slices of a column as arrays of this type; a dictionary is converted once."""
    if pyarrow.types.is_dictionary(column.type):
        values, indices = column.dictionary.cast(kind), column.indices
        return lambda start, count: values.take(indices.slice(start, count))
    return lambda start, count: column.slice(start, count).cast(kind)


def is_text(kind: pyarrow.DataType) -> bool:
    """Whether values of this type are strings."""
    return bool(
        pyarrow.types.is_string(kind)
        or pyarrow.types.is_large_string(kind)
        or pyarrow.types.is_string_view(kind)
    )
