"""Encryption contexts of rows: which columns and constants they are made of, and as maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow
import pyarrow.compute
import pyarrow.types

from keymill.source import Slice, column_of, is_text, texts

MAPS = "encryption_context"
MAP_TYPE = pyarrow.map_(pyarrow.string(), pyarrow.string())


@dataclass(frozen=True)
class Contexts:
    """Pairs of columns and of constants."""

    columns: tuple[str, ...]
    constants: Mapping[str, str]

    @classmethod
    def of(
        cls, columns: Sequence[str] | None, constants: Mapping[str, str] | None
    ) -> "Contexts | None":
        """None where neither is given."""
        if columns is None and constants is None:
            return None
        if isinstance(columns, str):
            raise ValueError(f"context is a list of columns, such as [{columns!r}]")
        named, pairs = tuple(columns or ()), dict(constants or {})
        for name in named:
            if not name:
                raise ValueError("a column of a context has no name")
        for name in pairs:
            if "=" in name:
                raise ValueError(f"constant {name!r} cannot be of a context: it has '='")
        double = next((name for at, name in enumerate(named) if name in named[:at]), None)
        double = double or next((name for name in named if name in pairs), None)
        if double is not None:
            raise ValueError(f"{double!r} is in the context twice")
        return cls(named, pairs)

    def query(self, prefix: str = "") -> list[tuple[str, str]]:
        """The parameters of a call."""
        constants = [
            (f"{prefix}constant", f"{name}={value}") for name, value in self.constants.items()
        ]
        return [(f"{prefix}context", ",".join(map(_field, self.columns))), *constants]

    def slices(self, batch: pyarrow.RecordBatch) -> dict[str, Slice]:
        """The columns of a batch, to be sent."""
        return {name: texts(batch, name) for name in self.columns}

    def maps(self, sent: pyarrow.RecordBatch) -> pyarrow.Array:
        """The context of each row, its pairs sorted by name as the daemon sorts them."""
        count = sent.num_rows
        pairs = {name: sent.column(name) for name in self.columns}
        for name, value in self.constants.items():
            pairs[name] = pyarrow.repeat(pyarrow.scalar(value, pyarrow.string()), count)
        names = tuple(sorted(pairs, key=lambda name: name.encode()))
        offsets, keys, order = _layout(names, count)
        if not names:
            values = pyarrow.array([], pyarrow.string())
        else:
            values = pyarrow.concat_arrays([pairs[name] for name in names]).take(order)
        return pyarrow.MapArray.from_arrays(offsets, keys, values)


def _field(name: str) -> str:
    """A name as the query has it: with a comma or a quote, as a field of CSV."""
    if not {",", '"'}.intersection(name):
        return name
    return '"' + name.replace('"', '""') + '"'


@lru_cache(maxsize=8)
def _layout(
    names: tuple[str, ...], count: int
) -> tuple[pyarrow.Array, pyarrow.Array, pyarrow.Array]:
    """Offsets and names of maps, and the order that puts values column by column row by row."""
    width = len(names)
    offsets = pyarrow.array(range(0, width * count + 1, width or 1), pyarrow.int32())
    if not width:
        offsets = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), count + 1)
    order = [number * count + row for row in range(count) for number in range(width)]
    keys = pyarrow.array(names * count, pyarrow.string())
    return offsets, keys, pyarrow.array(order, pyarrow.int64())


def map_slices(batch: pyarrow.RecordBatch, name: str = MAPS) -> Slice:
    """A column of maps as maps of strings.

    Polars has maps as lists of structs, and pandas as lists of pairs.
    """
    column = column_of(batch, name)
    kind = column.type
    pair = []
    if pyarrow.types.is_map(kind):
        pair = [kind.key_type, kind.item_type]
    elif _is_list(kind) and pyarrow.types.is_struct(kind.value_type):
        fields = kind.value_type
        pair = [fields.field(at).type for at in range(fields.num_fields)]
    elif _is_list(kind) and _is_list(kind.value_type):
        pair = 2 * [kind.value_type.value_type]
    elif _is_list(kind) and pyarrow.types.is_null(kind.value_type):
        # Maps of no pairs, of whose type nothing is known.
        pair = 2 * [pyarrow.string()]
    if len(pair) != 2 or not all(is_text(part) for part in pair):
        raise TypeError(f"column {name!r} is of type {kind}, and not of maps of strings")
    return lambda start, count: _as_maps(column.slice(start, count), name)


def _is_list(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind))


def _as_maps(column: pyarrow.Array, name: str) -> pyarrow.Array:
    if pyarrow.types.is_map(column.type):
        return column if column.type == MAP_TYPE else column.cast(MAP_TYPE)
    # The pairs of this slice alone, and where each row's begin. A null row stays null.
    pairs = column.flatten()
    if pyarrow.types.is_struct(pairs.type):
        keys, values = pairs.flatten()
    elif len(pairs) == 0:
        keys = values = pyarrow.array([], pyarrow.string())
    elif pyarrow.types.is_null(pairs.type):
        raise TypeError(f"column {name!r} has lists of nulls, and is not of maps")
    else:
        widths = pyarrow.compute.list_value_length(pairs)
        if pairs.null_count or pyarrow.compute.any(pyarrow.compute.not_equal(widths, 2)).as_py():
            raise TypeError(f"column {name!r} has lists that are not pairs, and is not of maps")
        keys, values = (pyarrow.compute.list_element(pairs, at) for at in (0, 1))
    lengths = pyarrow.compute.list_value_length(column).cast(pyarrow.int32())
    ends = pyarrow.compute.cumulative_sum(lengths.fill_null(0))
    return pyarrow.MapArray.from_arrays(
        pyarrow.concat_arrays([pyarrow.compute.subtract(ends, lengths), ends[-1:]]),
        keys.cast(pyarrow.string()),
        values.cast(pyarrow.string()),
    )
