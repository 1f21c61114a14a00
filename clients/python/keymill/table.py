"""Tables with their keys: whatever speaks Arrow goes in, and comes out with the columns that `keymill provision` writes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone

import pyarrow
import pyarrow.compute

from keymill.client import Client, KeymillError

# Rows and bytes of contexts in one call: with them a body stays below the 1 MiB that may be signed.
CALL_ROWS = 8192
CALL_TEXT_BYTES = 768 * 1024
ADDED = (
    pyarrow.field("key_arn", pyarrow.string(), nullable=False),
    pyarrow.field("key_material_id", pyarrow.string(), nullable=False),
    pyarrow.field("key_spec", pyarrow.string(), nullable=False),
    pyarrow.field("encryption_context", pyarrow.map_(pyarrow.string(), pyarrow.string()), nullable=False),
    pyarrow.field("ciphertext_blob", pyarrow.binary(), nullable=False),
    pyarrow.field("created_at", pyarrow.timestamp("us", tz="UTC"), nullable=False),
)


def provision(
    table, *, key: str, context: Sequence[str], constants: Mapping[str, str] | None = None, key_spec: str = "AES_256", number_of_bytes: int | None = None,
    id_column: str | None = None, endpoint: str | None = None, client: Client | None = None,
) -> pyarrow.Table:
    """The table with a wrapped data key beside each row.

    `table` is whatever speaks Arrow: a table or record batch of pyarrow, a DataFrame of pandas or Polars, a relation of DuckDB. `context` names the columns, of strings, that each row's
    encryption context is made of; `constants` are pairs that all have. The values of `id_column`, if one is named, may not be there twice. Raises KeymillError, whose `row` is that of the table.
    """
    arrow = _to_arrow(table)
    if id_column is not None:
        ids = arrow[id_column]
        if ids.null_count or pyarrow.compute.count_distinct(ids).as_py() != len(ids):
            raise ValueError(f"a value of {id_column!r} is null, or there twice")
    batches = provision_batches(
        arrow.to_batches(), key=key, context=context, constants=constants, key_spec=key_spec, number_of_bytes=number_of_bytes, endpoint=endpoint, client=client,
    )
    return pyarrow.Table.from_batches(batches, schema=_schema(arrow.schema))


def provision_batches(
    batches: Iterable[pyarrow.RecordBatch], *, key: str, context: Sequence[str], constants: Mapping[str, str] | None = None, key_spec: str = "AES_256",
    number_of_bytes: int | None = None, endpoint: str | None = None, client: Client | None = None,
) -> Iterator[pyarrow.RecordBatch]:
    """The same for record batches as they come, in the memory of one: what PySpark's `mapInArrow` asks for.

    A job that is run again makes new keys: write what comes out where a task's output appears at once or not at all.
    """
    if isinstance(context, str) or not context:
        raise ValueError("context is a list of at least one column")
    constants = dict(constants or {})
    length = {"bytes": str(number_of_bytes)} if number_of_bytes is not None else {"spec": key_spec}
    query = {"key": key, **length, "context": ",".join(context), "constant": [f"{name}={value}" for name, value in constants.items()]}
    spec = key_spec if number_of_bytes is None else {32: "AES_256", 16: "AES_128"}.get(number_of_bytes, f"BYTES_{number_of_bytes}")
    own = client or Client(endpoint)
    rows = 0
    try:
        for batch in batches:
            texts = _texts(batch, context)
            for start, count in _calls(texts):
                part = pyarrow.record_batch([text.slice(start, count) for text in texts], names=list(context))
                try:
                    bound = own.bind(part, query)
                except KeymillError as error:
                    if error.row is not None:
                        error.row += rows + start
                    raise
                yield _with_keys(batch.slice(start, count), part, constants, spec, bound)
            rows += batch.num_rows
    finally:
        if client is None:
            own.close()


def _to_arrow(table) -> pyarrow.Table:
    if isinstance(table, pyarrow.Table):
        return table
    if isinstance(table, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([table])
    if isinstance(table, pyarrow.RecordBatchReader):
        return table.read_all()
    if hasattr(table, "__arrow_c_stream__"):
        return pyarrow.table(table)
    if type(table).__module__.partition(".")[0] == "pandas":
        return pyarrow.Table.from_pandas(table, preserve_index=False)
    raise TypeError(f"{type(table)} is nothing that speaks Arrow")


def _texts(batch: pyarrow.RecordBatch, context: Sequence[str]) -> list[pyarrow.Array]:
    """The context's columns as plain strings."""
    texts = []
    for name in context:
        if batch.schema.get_field_index(name) < 0:
            raise ValueError(f"there is no column {name!r}, or there are several")
        column = batch.column(name)
        kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or str(kind) == "string_view"):
            raise TypeError(f"column {name!r} is of type {column.type}, and contexts are strings")
        if pyarrow.types.is_dictionary(column.type):
            # pyarrow takes no views by their number.
            column = pyarrow.DictionaryArray.from_arrays(column.indices, column.dictionary.cast(pyarrow.string()))
        texts.append(column.cast(pyarrow.string()))
    return texts


def _calls(texts: list[pyarrow.Array]) -> Iterator[tuple[int, int]]:
    """Slices whose contexts fit into one call."""
    rows = len(texts[0])
    sizes = [pyarrow.compute.fill_null(pyarrow.compute.binary_length(text), 0) for text in texts]
    start = 0
    while start < rows:
        count = min(CALL_ROWS, rows - start)
        while count > 1 and sum(pyarrow.compute.sum(size.slice(start, count)).as_py() + 4 * count for size in sizes) > CALL_TEXT_BYTES:
            count = (count + 1) // 2
        yield start, count
        start += count


def _schema(given: pyarrow.Schema) -> pyarrow.Schema:
    for field in ADDED:
        if field.name in given.names:
            raise ValueError(f"there is a column {field.name!r} already")
    return pyarrow.schema([*given, *ADDED])


def _with_keys(rows: pyarrow.RecordBatch, contexts: pyarrow.RecordBatch, constants: dict[str, str], spec: str, bound: pyarrow.Table) -> pyarrow.RecordBatch:
    schema, count = _schema(rows.schema), rows.num_rows
    bound = bound.combine_chunks()
    column = {name: bound[name].combine_chunks() for name in ("ciphertext_blob", "key_arn", "key_material_id")}
    # The pairs of every row, by name, as the context itself has them.
    pairs = {name: contexts.column(name) for name in contexts.schema.names}
    pairs |= {name: pyarrow.repeat(pyarrow.scalar(value), count) for name, value in constants.items()}
    names = sorted(pairs, key=lambda name: name.encode())
    together = pyarrow.concat_arrays([pairs[name].cast(pyarrow.string()) for name in names])
    order = pyarrow.array([number * count + row for row in range(count) for number in range(len(names))], pyarrow.int64())
    offsets = pyarrow.array(range(0, len(names) * count + 1, len(names)), pyarrow.int32())
    maps = pyarrow.MapArray.from_arrays(offsets, pyarrow.array(names * count, pyarrow.string()), together.take(order))
    now = pyarrow.scalar(datetime.now(timezone.utc), pyarrow.timestamp("us", tz="UTC"))
    added = [
        column["key_arn"].cast(pyarrow.string()), column["key_material_id"].cast(pyarrow.string()), pyarrow.repeat(pyarrow.scalar(spec), count), maps,
        column["ciphertext_blob"].cast(pyarrow.binary()), pyarrow.repeat(now, count),
    ]
    return pyarrow.record_batch([*rows.columns, *added], schema=schema)
