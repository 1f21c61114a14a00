"""A wrapped data key of its own beside each row of a table."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow
import pyarrow.compute
import pyarrow.types

from keymill.client import Client
from keymill.columns import (
    BOUND,
    Progress,
    Session,
    answered,
    now,
    repeated,
    spec_of,
    with_columns,
    with_fields,
)
from keymill.contexts import Contexts
from keymill.errors import KeymillError, RefusedRow
from keymill.source import Rows, calls, is_text, open_source

# Refusals that are about the KMS key; the daemon names the row that it was about to make one for.
OF_THE_KEY = (
    "DisabledException",
    "InvalidKeyUsageException",
    "KMSInvalidStateException",
    "NotFoundException",
)


def bind(
    table: Rows,
    *,
    key: str,
    context: Sequence[str],
    constants: Mapping[str, str] | None = None,
    key_spec: str | None = None,
    number_of_bytes: int | None = None,
    id_column: str | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> pyarrow.Table:
    """The table with a wrapped data key beside each row.

    Every column comes out as it went in, then `key_arn`, `key_material_id`, `key_spec`,
    `encryption_context`, `ciphertext_blob` and `created_at`: what `keymill provision --context-map`
    writes. The caller needs `kms:GenerateDataKeyWithoutPlaintext` under each row's context.

    Args:
        table: has the Arrow PyCapsule interface (pyarrow, pandas, Polars, DuckDB), or is an
            iterable of record batches.
        key: the KMS key: its id, its ARN, an alias or the alias's ARN.
        context: columns of strings. A row's key is bound to its values, under the columns' names.
        constants: pairs of the context that are the same for every row.
        key_spec: `AES_256`, which is the default, or `AES_128`.
        number_of_bytes: the length of the data keys in place of a spec, 1 to 1,024.
        id_column: a column of which no value may be null, empty or there twice; it is looked
            through before the first key is made.
        progress: is called with the number of rows that were just done, as `tqdm.update` is.
        endpoint: the daemon, as `Client` takes it, where there is no `client`.
        client: an open connection, which stays open.

    Raises:
        RefusedRow: a row that is refused, by its number in the table, from 0.
        KeymillError: everything else that the daemon refuses, or that does not reach it.
        ValueError, TypeError: columns that are not there or not of their type.
    """
    source: Rows = table
    if id_column is not None:
        schema, batches = open_source(table)
        source = pyarrow.Table.from_batches(batches, schema)
        check_ids(source, id_column)
    return bind_batches(
        source,
        key=key,
        context=context,
        constants=constants,
        key_spec=key_spec,
        number_of_bytes=number_of_bytes,
        progress=progress,
        endpoint=endpoint,
        client=client,
    ).read_all()


def bind_batches(
    table: Rows,
    *,
    key: str,
    context: Sequence[str],
    constants: Mapping[str, str] | None = None,
    key_spec: str | None = None,
    number_of_bytes: int | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> pyarrow.RecordBatchReader:
    """As `bind`, batch by batch, in the memory of one call: 8,192 rows.

    The reader makes keys as it is read, and raises what `bind` raises. It is what DuckDB, Polars,
    a Parquet writer or PySpark's `mapInArrow` read from. Reading a table again makes new keys:
    write what comes out where all of a task's output appears or none.
    """
    contexts = Contexts.of(context, constants)
    if contexts is None or not contexts.columns:
        raise ValueError("context is a list of at least one column")
    spec, length = spec_of(key_spec, number_of_bytes)
    schema, batches = open_source(table)
    asked = [
        ("spec" if name == "KeySpec" else "bytes", str(value)) for name, value in length.items()
    ]
    query = [("key", key), *asked, *contexts.query()]
    session = Session(client, endpoint)

    def bound() -> Iterator[pyarrow.RecordBatch]:
        with session as own:
            for call in calls(batches, contexts.slices):
                try:
                    answer = own.rows("bind", query, call.sent)
                except RefusedRow as error:
                    if error.code in OF_THE_KEY:
                        raise KeymillError(error.code, error.reason) from None
                    raise error.behind(call.first_row) from None
                count = call.sent.num_rows
                added = {
                    **answered(answer),
                    "key_spec": repeated("key_spec", spec, count),
                    "encryption_context": contexts.maps(call.sent),
                    "created_at": repeated("created_at", now(), count),
                }
                yield from with_columns(call.pieces, added, BOUND)
                if progress is not None:
                    progress(count)

    return pyarrow.RecordBatchReader.from_batches(with_fields(schema, BOUND), bound())


def check_ids(table: pyarrow.Table, name: str) -> None:
    """Refuses the first row whose id is null, empty or that of an earlier row."""
    if table.schema.get_field_index(name) < 0:
        raise ValueError(f"there is no column {name!r}, or there are several")
    ids = table.column(name)
    if pyarrow.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if is_text(ids.type):
        # Arrow counts no views.
        ids = ids.cast(pyarrow.large_string())
    distinct = pyarrow.compute.count_distinct(ids).as_py() == len(ids)
    has_empty = is_text(ids.type) and pyarrow.compute.any(pyarrow.compute.equal(ids, "")).as_py()
    if distinct and not ids.null_count and not has_empty:
        return
    first: dict[object, int] = {}
    for row, value in enumerate(ids.to_pylist()):
        if value is None or value == "":
            reason = f"its {name!r} is {'null' if value is None else 'empty'}"
            raise RefusedRow(row, reason, "ValidationException")
        if value in first:
            reason = f"its {name!r} is that of row {first[value]}"
            raise RefusedRow(row, reason, "ValidationException")
        first[value] = row
