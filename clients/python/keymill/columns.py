"""The columns that rows with wrapped keys have, as the commands of keymill write them."""

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pyarrow

from keymill.client import Client
from keymill.contexts import MAP_TYPE

# Told how many rows were just done, such as the method `update` of a tqdm bar.
Progress = Callable[[int], object]

FIELDS = {
    field.name: field
    for field in (
        pyarrow.field("container_id", pyarrow.string(), nullable=False),
        pyarrow.field("key_arn", pyarrow.string(), nullable=False),
        pyarrow.field("key_material_id", pyarrow.string(), nullable=False),
        pyarrow.field("key_spec", pyarrow.string(), nullable=False),
        pyarrow.field("encryption_context", MAP_TYPE, nullable=False),
        pyarrow.field("ciphertext_blob", pyarrow.binary(), nullable=False),
        pyarrow.field("created_at", pyarrow.timestamp("us", tz="UTC"), nullable=False),
    )
}
EXPORTED = tuple(FIELDS)
BOUND = EXPORTED[1:]
REWRAPPED = tuple(name for name in BOUND if name != "key_spec")


def with_fields(schema: pyarrow.Schema, names: tuple[str, ...]) -> pyarrow.Schema:
    """The schema of a table with these columns at its end; its metadata stays."""
    check_names(schema, names)
    return pyarrow.schema([*schema, *(FIELDS[name] for name in names)], schema.metadata)


def check_names(schema: pyarrow.Schema, names: tuple[str, ...]) -> None:
    """Refuses a table with a column that readers may take for one of these: many ignore case."""
    added = {name.lower(): name for name in names}
    double = next((own for own in schema.names if own.lower() in added), None)
    if double is None:
        return
    taken = added[double.lower()]
    like = "" if double == taken else f", which readers that ignore case take for {taken!r}"
    raise ValueError(f"there is a column {double!r} already{like}")


def with_columns(
    pieces: list[pyarrow.RecordBatch], added: dict[str, pyarrow.Array], names: tuple[str, ...]
) -> Iterator[pyarrow.RecordBatch]:
    """The batches of a call, each with its rows of the new columns."""
    start = 0
    for piece in pieces:
        schema = with_fields(piece.schema, names)
        columns = [added[name].slice(start, piece.num_rows) for name in names]
        yield pyarrow.record_batch([*piece.columns, *columns], schema=schema)
        start += piece.num_rows


def answered(answer: pyarrow.Table) -> dict[str, pyarrow.Array]:
    """The new columns of an answer, plain and in one piece."""
    answer = answer.combine_chunks()
    columns = {}
    for name in ("key_arn", "key_material_id", "ciphertext_blob"):
        column = answer.column(name).cast(FIELDS[name].type)
        columns[name] = pyarrow.concat_arrays(column.chunks) if column.num_chunks else None
    return columns


def repeated(name: str, value: object, count: int) -> pyarrow.Array:
    """A column of one value."""
    return pyarrow.repeat(pyarrow.scalar(value, FIELDS[name].type), count)


def now() -> datetime:
    """The time of `created_at`."""
    return datetime.now(timezone.utc)


def spec_of(key_spec: str | None, number_of_bytes: int | None) -> tuple[str, dict[str, object]]:
    """What the column `key_spec` says of a length, and the length as a request gives it."""
    if number_of_bytes is None:
        key_spec = key_spec or "AES_256"
        return key_spec, {"KeySpec": key_spec}
    if key_spec is not None:
        raise ValueError("key_spec and number_of_bytes are two ways to say one thing: give one")
    named = {32: "AES_256", 16: "AES_128"}.get(number_of_bytes, f"BYTES_{number_of_bytes}")
    return named, {"NumberOfBytes": number_of_bytes}


class Session:
    """The caller's client, or one that is closed with the work."""

    def __init__(self, client: Client | None, endpoint: str | None):
        if client is not None and endpoint is not None:
            raise ValueError("client and endpoint are two ways to say one thing: give one")
        self.client = client or Client(endpoint)
        self._own = client is None

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        if self._own:
            self.client.close()
