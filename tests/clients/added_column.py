"""Adds a column of ids to a Parquet file, behind its own, without a change to any other byte of its
pages: a file that others have made becomes a table of containers.

The column's chunks come from a file that pyarrow writes, and follow the pages; the footer, which is
Thrift's compact protocol, is read and written field by field, so that it keeps what it has. No
library offers this: all of them write the other columns anew.
"""

import base64
import io
import struct
from pathlib import Path

import pyarrow
import pyarrow.parquet

MAGIC = b"PAR1"
# Kinds of Thrift's compact protocol. A number of any width is a varint here, in zigzag.
TRUE, FALSE, BYTE, NUMBERS, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, 9, 12
I32, I64 = 5, 6
# Fields of the footer: FileMetaData, RowGroup, ColumnChunk and ColumnMetaData of parquet.thrift.
SCHEMA, ROWS, GROUPS, PAIRS, ORDERS = 2, 3, 4, 5, 7
NUM_CHILDREN = 5
COLUMNS, GROUP_BYTES, GROUP_ROWS, GROUP_COMPRESSED = 1, 2, 3, 6
FILE_OFFSET, META = 2, 3
UNCOMPRESSED, COMPRESSED, DATA_PAGE, DICTIONARY_PAGE = 6, 7, 9, 11


class Reader:
    """A struct is a dictionary from a field's number to its kind and value; a list is the kind and
    the values."""

    def __init__(self, text: bytes):
        self.text, self.at = text, 0

    def byte(self) -> int:
        self.at += 1
        return self.text[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def number(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def taken(self, count: int) -> bytes:
        self.at += count
        return self.text[self.at - count : self.at]

    def value(self, kind: int):
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == BYTE:
            return self.byte()
        if kind in NUMBERS:
            return self.number()
        if kind == DOUBLE:
            return self.taken(8)
        if kind == BINARY:
            return self.taken(self.varint())
        if kind == LIST:
            head = self.byte()
            count = head >> 4 if head >> 4 < 15 else self.varint()
            kind = head & 15
            # Booleans of a list are bytes.
            return kind, [self.byte() if kind in (TRUE, FALSE) else self.value(kind) for _ in range(count)]
        assert kind == STRUCT, f"kind {kind} at {self.at}"
        return self.struct()

    def struct(self) -> dict:
        fields, last = {}, 0
        while head := self.byte():
            last = last + (head >> 4) if head >> 4 else self.number()
            fields[last] = (head & 15, self.value(head & 15))
        return fields


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(value: int) -> bytes:
    return varint(value << 1 ^ value >> 63)


def written(kind: int, value) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in NUMBERS:
        return number(value)
    if kind == DOUBLE:
        return value
    if kind == BINARY:
        return varint(len(value)) + value
    if kind == LIST:
        kind, items = value
        head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([15 << 4 | kind]) + varint(len(items))
        return head + b"".join(bytes([item]) if kind in (TRUE, FALSE) else written(kind, item) for item in items)
    out, last = b"", 0
    for field, (kind, inner) in sorted(value.items()):
        step = field - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + number(field)
        out += written(kind, inner)
        last = field
    return out + b"\0"


def footer(file: bytes) -> tuple[int, dict]:
    """Where the footer begins, and the footer."""
    assert file[-4:] == MAGIC, file[-4:]
    begins = len(file) - 8 - struct.unpack("<I", file[-8:-4])[0]
    reader = Reader(file[begins:-8])
    fields = reader.struct()
    assert begins + reader.at == len(file) - 8, "bytes behind the footer"
    return begins, fields


def member(fields: dict, field: int):
    return fields[field][1]


def ids_like(groups: list[int], name: str) -> bytes:
    """A file with ids alone, in row groups of these sizes."""
    schema, sink, first = pyarrow.schema([pyarrow.field(name, pyarrow.string(), False)]), io.BytesIO(), 0
    with pyarrow.parquet.ParquetWriter(sink, schema, compression="snappy", use_dictionary=False, store_schema=False) as writer:
        for rows in groups:
            ids = pyarrow.array([f"row-{row:08}" for row in range(first, first + rows)])
            writer.write_table(pyarrow.table([ids], schema=schema), row_group_size=max(rows, 1))
            first += rows
    return sink.getvalue()


def arrow_schema(text: bytes, name: str) -> bytes:
    """The schema of Arrow that a footer has, with the column."""
    schema = pyarrow.ipc.read_schema(pyarrow.BufferReader(base64.b64decode(text)))
    schema = schema.append(pyarrow.field(name, pyarrow.string(), False))
    return base64.b64encode(schema.serialize().to_pybytes())


def first_groups(before: Path, after: Path, count: int) -> None:
    """Writes the file as if it had its first row groups alone."""
    file = before.read_bytes()
    begins, fields = footer(file)
    kind, groups = member(fields, GROUPS)
    fields[GROUPS] = (LIST, (kind, groups[:count]))
    fields[ROWS] = (I64, sum(member(group, GROUP_ROWS) for group in groups[:count]))
    after.write_bytes(with_footer(file[:begins], fields))


def with_footer(pages: bytes, fields: dict) -> bytes:
    ending = written(STRUCT, fields)
    return pages + ending + struct.pack("<I", len(ending)) + MAGIC


def with_ids(before: Path, after: Path, name: str) -> None:
    """Writes the file with the column `name` behind its own."""
    file = before.read_bytes()
    begins, fields = footer(file)
    groups = member(fields, GROUPS)[1]
    donor = ids_like([member(group, GROUP_ROWS) for group in groups], name)
    donor_begins, donated = footer(donor)
    elements = member(fields, SCHEMA)[1]
    elements[0][NUM_CHILDREN] = (I32, member(elements[0], NUM_CHILDREN) + 1)
    elements.append(member(donated, SCHEMA)[1][1])
    if ORDERS in fields:
        member(fields, ORDERS)[1].append(member(donated, ORDERS)[1][0])
    # The donor's pages go where the footer was, but for its magic number.
    shift = begins - len(MAGIC)
    for group, other in zip(groups, member(donated, GROUPS)[1], strict=True):
        chunk = member(other, COLUMNS)[1][0]
        meta = member(chunk, META)
        chunk[FILE_OFFSET] = (I64, member(chunk, FILE_OFFSET) + shift if member(chunk, FILE_OFFSET) else 0)
        for offset in (DATA_PAGE, DICTIONARY_PAGE):
            if offset in meta:
                meta[offset] = (I64, member(meta, offset) + shift)
        member(group, COLUMNS)[1].append(chunk)
        for total, of in ((GROUP_BYTES, UNCOMPRESSED), (GROUP_COMPRESSED, COMPRESSED)):
            if total in group:
                group[total] = (I64, member(group, total) + member(meta, of))
    for pair in member(fields, PAIRS)[1] if PAIRS in fields else []:
        if member(pair, 1) == b"ARROW:schema":
            pair[2] = (BINARY, arrow_schema(member(pair, 2), name))
    after.write_bytes(with_footer(file[:begins] + donor[len(MAGIC) : donor_begins], fields))
