"""Small Arrow streams of every kind that `bind`, `rewrap` and `verify` take or refuse, what becomes of them on the way, and how their answers may end."""

import random
from collections.abc import Callable

import pyarrow
import pyarrow.ipc
from wire import ARROW, Answer

ROWS = 24
END = b"\xff\xff\xff\xff\0\0\0\0"
# What lengths, offsets and counts turn into.
WORDS = [value.to_bytes(4, "little") for value in (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFFFF, 1 << 20, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)]
# A chunk has at most so many rows: streams of more leave in several.
CHUNK_ROWS = 8_192

Messages = list[bytes]


def messages(batches: list[pyarrow.RecordBatch], schema: pyarrow.Schema | None = None, **options) -> Messages:
    """A stream in its messages, the end marker as the last one."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, schema or batches[0].schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    stream = sink.getvalue()
    reader = pyarrow.ipc.MessageReader.open_stream(stream)
    parts = [message.serialize().to_pybytes() for message in reader]
    assert b"".join(parts) + END == stream.to_pybytes(), "messages are not what the stream is made of"
    return [*parts, END]


def tenants(first: int, rows: int = ROWS) -> list[str]:
    return [f"tenant-{row % 5}" if row % 2 else f"a tenant of more than twelve letters {row}" for row in range(first, first + rows)]


def batches(make: Callable[[int], dict], count: int = 3) -> list[pyarrow.RecordBatch]:
    return [pyarrow.record_batch(make(number * ROWS)) for number in range(count)]


def nested(first: int) -> dict:
    rows = range(first, first + ROWS)
    return {
        "tenant": pyarrow.array(tenants(first)),
        "list": pyarrow.array([[row] * (row % 3) for row in rows], pyarrow.list_(pyarrow.int32())),
        "large list": pyarrow.array([["x" * row] * (row % 2) for row in rows], pyarrow.large_list(pyarrow.string())),
        "fixed": pyarrow.array([[row, row] for row in rows], pyarrow.list_(pyarrow.int8(), 2)),
        "struct": pyarrow.array([{"a": row, "b": {"c": str(row)}} if row % 4 else None for row in rows]),
        "map": pyarrow.array([[("k", row)] for row in rows], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "structs": pyarrow.array([[{"a": row}] * (row % 3) for row in rows]),
        "none": pyarrow.nulls(ROWS),
        "decimal": pyarrow.array(list(rows), pyarrow.decimal128(20, 2)),
        "bytes": pyarrow.array([b"x" * 4] * ROWS, pyarrow.binary(4)),
        "flags": pyarrow.array([None if row % 3 else True for row in rows]),
        "time": pyarrow.array(list(rows), pyarrow.timestamp("us", "UTC")),
    }


def to_bind() -> dict[str, Messages]:
    """By name; each has a column `tenant`."""
    def plain(first: int) -> dict:
        return {"tenant": pyarrow.array(tenants(first)), "n": pyarrow.array(range(first, first + ROWS))}

    def dictionary(first: int) -> dict:
        return {"tenant": pyarrow.array(tenants(first)).dictionary_encode(), "n": pyarrow.array([["a"]] * ROWS)}

    def keyed_lists(first: int) -> dict:
        lists = pyarrow.array([["a", "b"], [], None, [str(first)]])
        return {"tenant": pyarrow.array(tenants(first)), "lists": pyarrow.DictionaryArray.from_arrays(pyarrow.array([3, 0, 1, 2] * (ROWS // 4), pyarrow.int8()), lists)}

    def views(first: int) -> dict:
        return {"tenant": pyarrow.array(tenants(first), pyarrow.string_view()), "raw": pyarrow.array([b"y" * 40] * ROWS, pyarrow.binary_view())}

    large = [pyarrow.record_batch({"tenant": pyarrow.array(["a", "b"] * (CHUNK_ROWS // 2 + 4)).dictionary_encode()})]
    return {
        "plain": messages(batches(plain, 5)),
        "large strings": messages(batches(lambda first: {"tenant": pyarrow.array(tenants(first), pyarrow.large_string())})),
        "dictionary": messages(batches(dictionary)),
        "deltas": messages(batches(dictionary), emit_dictionary_deltas=True),
        "views": messages(batches(views)),
        "nested": messages(batches(nested)),
        "empty batches": messages([pyarrow.record_batch(plain(0)).slice(0, rows) for rows in (0, 5, 0, 1)]),
        "nulls": messages([pyarrow.record_batch(plain(0)), pyarrow.record_batch({"tenant": pyarrow.array([None, *tenants(1)[1:]]), "n": pyarrow.array(range(ROWS))})]),
        "no batch": messages([], pyarrow.schema({"tenant": pyarrow.string()})),
        "lz4": messages(batches(plain), compression="lz4"),
        "zstd": messages(batches(dictionary), compression="zstd"),
        "nested dictionary": messages(batches(keyed_lists)),
        "list views": messages(batches(lambda first: {"tenant": pyarrow.array(tenants(first)), "l": pyarrow.array([[1]] * ROWS, pyarrow.list_view(pyarrow.int8()))})),
        "two chunks": messages(large),
    }


def to_open(blobs: list[bytes]) -> dict[str, Messages]:
    """By name; each has blobs that are bound to `tenant=a`, and says so in a column of names and in one of maps."""
    def made(first: int, names: pyarrow.Array, kind: pyarrow.DataType, **more: pyarrow.Array) -> dict:
        maps = pyarrow.array([[("tenant", "a")]] * ROWS, pyarrow.map_(pyarrow.string(), pyarrow.string()))
        return {"ciphertext_blob": pyarrow.array(blobs[first : first + ROWS], kind), "tenant": names, "encryption_context": maps} | more

    plain = pyarrow.array(["a"] * ROWS)
    return {
        "plain": messages(batches(lambda first: made(first, plain, pyarrow.binary()))),
        "dictionary of names": messages(batches(lambda first: made(first, plain.dictionary_encode(), pyarrow.large_binary(), n=pyarrow.nulls(ROWS)))),
        "views": messages(batches(lambda first: made(first, plain.cast(pyarrow.string_view()), pyarrow.binary_view(), l=pyarrow.array([[{"a": 1}]] * ROWS)))),
    }


def mutated(chance: random.Random, own: Messages, others: list[Messages], spoil: Callable[[random.Random, bytes], bytes]) -> tuple[str, bytes]:
    """What is done, and the stream afterwards."""
    parts = list(own)
    how = chance.choices(["intact", "bytes", "metadata", "lengths", "cut", "order", "splice", "tail"], [2, 24, 24, 10, 16, 12, 8, 4])[0]
    at = chance.randrange(len(parts))
    match how:
        case "bytes":
            return how, spoil(chance, b"".join(parts))
        case "metadata":
            # Aligned words of one message's flatbuffer, whose length stands behind the continuation
            # marker.
            part = bytearray(parts[at])
            for _ in range(chance.choice([1, 1, 2, 4])):
                place = chance.randrange(0, min(8 + int.from_bytes(part[4:8], "little"), len(part)), 4)
                part[place : place + 4] = chance.choice([*WORDS, chance.randbytes(4)])
            parts[at] = bytes(part)
        case "lengths":
            parts[at] = parts[at][:4] + chance.choice(WORDS) + parts[at][8:]
        case "cut":
            stream = b"".join(parts)
            return how, stream[: chance.choice([chance.randrange(len(stream)), len(b"".join(parts[:at])), len(stream) - chance.randrange(1, 9)])]
        case "order":
            match chance.randrange(4):
                case 0:
                    chance.shuffle(parts)
                case 1:
                    del parts[at]
                case 2:
                    parts.insert(chance.randrange(len(parts)), parts[at])
                case _:
                    parts.reverse()
        case "splice":
            other = chance.choice(others)
            parts = parts[:at] + other[chance.randrange(len(other)) :]
        case "tail":
            parts.append(chance.choice([b"\0", b"x" * 9, parts[0], END, chance.randbytes(64)]))
    return how, b"".join(parts)


def rows_of(body: bytes) -> tuple[int, bool]:
    """The rows of the record batches that are whole, and whether the stream has its end."""
    rows = 0
    try:
        stream = pyarrow.ipc.open_stream(body)
    except (pyarrow.ArrowInvalid, OSError):
        # Columns of a type that pyarrow does not take come back as they were sent: a decimal of no
        # digits.
        return rows, body.endswith(END)
    try:
        for batch in stream:
            rows += batch.num_rows
    except (pyarrow.ArrowInvalid, OSError):
        return rows, False
    return rows, body.endswith(END)


def wrong(answer: Answer, asked: int | None) -> str | None:
    """What about an answer is not as docs/interfaces.md says of a stream: an error, a whole stream, or sound rows without the marker on a connection that is cut.

    A whole one has as many rows as were asked for, where that is known.
    """
    if answer.status != 200:
        return None if answer.status < 500 and answer.code else f"{answer.status} without an error: {answer.body[:80]!r}"
    if answer.headers.get("content-type") != ARROW:
        return f"a stream of type {answer.headers.get('content-type')}"
    rows, has_end = rows_of(answer.body)
    if answer.is_whole != has_end:
        return f"{rows} rows, {'with' if has_end else 'without'} the marker, on a connection that was {'not ' if answer.is_whole else ''}cut"
    if not answer.is_whole and not rows:
        return f"a stream that ended early without a row: {answer.body[:80]!r}"
    return None if not answer.is_whole or asked in (None, rows) else f"{rows} rows for {asked}"
