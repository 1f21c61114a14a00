"""Wrapped keys of a table under another KMS key, generation or encryption context."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow

from keymill.client import Client
from keymill.columns import (
    REWRAPPED,
    Progress,
    Session,
    answered,
    now,
    repeated,
    with_columns,
    with_fields,
)
from keymill.contexts import MAPS, Contexts, map_slices
from keymill.errors import RefusedRow
from keymill.source import Rows, Slice, blobs, calls, open_source

BLOB = "ciphertext_blob"


def rewrap(
    table: Rows,
    *,
    key: str,
    context: Sequence[str] | None = None,
    constants: Mapping[str, str] | None = None,
    new_context: Sequence[str] | None = None,
    new_constants: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> pyarrow.Table:
    """The table with its wrapped keys under another KMS key, or its newest generation.

    Each data key stays what it was, and does not leave the daemon. Every column comes out as it
    went in but `key_arn`, `key_material_id`, `encryption_context`, `ciphertext_blob` and
    `created_at`, which are made anew, at the end. The caller needs `kms:ReEncryptFrom` on the keys
    that the rows are under, and `kms:ReEncryptTo` on `key`.

    Args:
        table: as `bind` takes it, with a column `ciphertext_blob`.
        key: the KMS key to come: its id, its ARN, an alias or the alias's ARN.
        context, constants: what the rows are bound to, as for `bind`. Without both, the maps of
            the column `encryption_context`; `context=[]` is no context.
        new_context, new_constants: what they are to be bound to; without both, the same.
        progress, endpoint, client: as for `bind`.

    Raises:
        RefusedRow: a row that does not open or may not be re-encrypted, by its number, from 0.
        KeymillError, ValueError, TypeError: as for `bind`.
    """
    return rewrap_batches(
        table,
        key=key,
        context=context,
        constants=constants,
        new_context=new_context,
        new_constants=new_constants,
        progress=progress,
        endpoint=endpoint,
        client=client,
    ).read_all()


def rewrap_batches(
    table: Rows,
    *,
    key: str,
    context: Sequence[str] | None = None,
    constants: Mapping[str, str] | None = None,
    new_context: Sequence[str] | None = None,
    new_constants: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> pyarrow.RecordBatchReader:
    """As `rewrap`, batch by batch, in the memory of one call, as the reader is read."""
    old, new = Contexts.of(context, constants), Contexts.of(new_context, new_constants)
    query = [("key", key), *(old.query() if old else []), *(new.query("new-") if new else [])]
    schema, batches = open_source(table)
    kept = [name for name in schema.names if name not in REWRAPPED]
    session = Session(client, endpoint)

    def prepare(batch: pyarrow.RecordBatch) -> dict[str, Slice]:
        return sealed_slices(batch, old) | (new.slices(batch) if new else {})

    def moved() -> Iterator[pyarrow.RecordBatch]:
        with session as own:
            for call in calls(batches, prepare):
                try:
                    answer = own.rows("rewrap", query, call.sent)
                except RefusedRow as error:
                    raise error.behind(call.first_row) from None
                count, now_bound = call.sent.num_rows, new or old
                maps = now_bound.maps(call.sent) if now_bound else call.sent.column(MAPS)
                added = {
                    **answered(answer),
                    "encryption_context": maps,
                    "created_at": repeated("created_at", now(), count),
                }
                pieces = [piece.select(kept) for piece in call.pieces]
                yield from with_columns(pieces, added, REWRAPPED)
                if progress is not None:
                    progress(count)

    fields = pyarrow.schema([schema.field(name) for name in kept], schema.metadata)
    return pyarrow.RecordBatchReader.from_batches(with_fields(fields, REWRAPPED), moved())


def sealed_slices(batch: pyarrow.RecordBatch, contexts: Contexts | None) -> dict[str, Slice]:
    """The wrapped keys of a batch, and what says their contexts."""
    bound_to = contexts.slices(batch) if contexts else {MAPS: map_slices(batch)}
    return {BLOB: blobs(batch, BLOB), **bound_to}
