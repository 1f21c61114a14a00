"""Rows of new containers, each with a wrapped data key."""

import re
from collections.abc import Iterator, Mapping

import pyarrow

from keymill.client import Blobs, Client
from keymill.columns import EXPORTED, FIELDS, Progress, Session, now, repeated, spec_of
from keymill.contexts import Contexts

# Keys of one call: some 6 MiB, of which the daemon holds a part at a time.
CALL_KEYS = 65_536
ID_PATTERN = "container-{:012}"
ID_PATTERN_BYTES_MAX = 256
NUMBER = re.compile(r"([^{}]*)\{(?::0([1-9]|[12]\d|3[0-2]))?\}([^{}]*)")


def export(
    count: int,
    *,
    key: str,
    id_pattern: str = ID_PATTERN,
    first_row: int = 0,
    constants: Mapping[str, str] | None = None,
    key_spec: str | None = None,
    number_of_bytes: int | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> pyarrow.Table:
    """A table of `count` new containers, each with a wrapped data key.

    It is what `keymill export` writes: `container_id`, `key_arn`, `key_material_id`, `key_spec`,
    `encryption_context`, `ciphertext_blob` and `created_at`. The caller needs
    `kms:GenerateDataKeyWithoutPlaintext`.

    Args:
        count: rows.
        key: the KMS key: its id, its ARN, an alias or the alias's ARN.
        id_pattern: the ids, with one `{}` or `{:0N}` where the row's number goes, N from 1 to 32.
        first_row: the number of the first row, so that several workers have ids of their own.
        constants: the encryption context of every row.
        key_spec, number_of_bytes, progress, endpoint, client: as for `bind`.

    Raises:
        KeymillError, ValueError: as for `bind`.
    """
    return export_batches(
        count,
        key=key,
        id_pattern=id_pattern,
        first_row=first_row,
        constants=constants,
        key_spec=key_spec,
        number_of_bytes=number_of_bytes,
        progress=progress,
        endpoint=endpoint,
        client=client,
    ).read_all()


def export_batches(
    count: int,
    *,
    key: str,
    id_pattern: str = ID_PATTERN,
    first_row: int = 0,
    constants: Mapping[str, str] | None = None,
    key_spec: str | None = None,
    number_of_bytes: int | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> pyarrow.RecordBatchReader:
    """As `export`, in batches of at most 65,536 rows, made as the reader is read."""
    if count < 0 or first_row < 0:
        raise ValueError("count and first_row are not negative")
    prefix, digits, suffix = _parse(id_pattern)
    contexts = Contexts((), dict(constants or {}))
    spec, length = spec_of(key_spec, number_of_bytes)
    asked = {"KeyId": key, **length, "EncryptionContext": dict(contexts.constants)}
    session = Session(client, endpoint)

    def exported() -> Iterator[pyarrow.RecordBatch]:
        done = 0
        with session as own:
            while done < count:
                blobs = own.blobs({**asked, "Count": min(CALL_KEYS, count - done)})
                numbers = range(first_row + done, first_row + done + blobs.count)
                ids = [f"{prefix}{number:0{digits}}{suffix}" for number in numbers]
                yield _batch(ids, blobs, spec, contexts)
                done += blobs.count
                if progress is not None:
                    progress(blobs.count)

    schema = pyarrow.schema(FIELDS.values())
    return pyarrow.RecordBatchReader.from_batches(schema, exported())


def _parse(pattern: str) -> tuple[str, int, str]:
    """What is before the number, its digits at least, and what is behind it."""
    parsed = NUMBER.fullmatch(pattern)
    printable = not any(ord(character) < 32 or ord(character) == 127 for character in pattern)
    if parsed is None or not printable or len(pattern.encode()) > ID_PATTERN_BYTES_MAX:
        raise ValueError(
            "an id pattern has exactly one {} or {:0N}, N from 1 to 32, no other braces, "
            f"for example {ID_PATTERN}; not {pattern!r}"
        )
    return parsed[1], int(parsed[2] or 1), parsed[3]


def _batch(ids: list[str], blobs: Blobs, spec: str, contexts: Contexts) -> pyarrow.RecordBatch:
    count, size = blobs.count, blobs.blob_bytes
    offsets = pyarrow.array(range(0, (count + 1) * size, size), pyarrow.int32())
    content = pyarrow.py_buffer(blobs.content)
    no_columns = pyarrow.record_batch([pyarrow.nulls(count)], names=["row"])
    columns = {
        "container_id": pyarrow.array(ids, pyarrow.string()),
        "key_arn": repeated("key_arn", blobs.key_arn, count),
        "key_material_id": repeated("key_material_id", blobs.key_material_id, count),
        "key_spec": repeated("key_spec", spec, count),
        "encryption_context": contexts.maps(no_columns),
        "ciphertext_blob": pyarrow.Array.from_buffers(
            pyarrow.binary(), count, [None, offsets.buffers()[1], content]
        ),
        "created_at": repeated("created_at", now(), count),
    }
    return pyarrow.record_batch(
        [columns[name] for name in EXPORTED], schema=pyarrow.schema(FIELDS.values())
    )
