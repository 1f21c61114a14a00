"""Wrapped data keys beside the rows of a table, from a Keymill daemon.

    import keymill

    keys = keymill.bind(
        table, key="alias/containers", context=["tenant", "volume"],
        endpoint="unix:/run/keymill/keymill.sock",
    )

`bind` gives each row a wrapped data key of its own, `export` makes rows for new containers,
`rewrap` moves wrapped keys to another KMS key or generation, and `verify` says whether they open.
Tables are whatever has the Arrow PyCapsule interface: pyarrow, Polars, pandas, DuckDB. No plaintext
key is ever on the way.
"""

from keymill.binding import bind, bind_batches
from keymill.client import Client
from keymill.errors import (
    AccessDenied,
    ConnectionLost,
    InvalidAnswer,
    KeymillError,
    RefusedRow,
    Throttled,
    Unavailable,
)
from keymill.exporting import export, export_batches
from keymill.rewrapping import rewrap, rewrap_batches
from keymill.verification import Finding, Report, verify

__all__ = [
    "AccessDenied",
    "Client",
    "ConnectionLost",
    "Finding",
    "InvalidAnswer",
    "KeymillError",
    "RefusedRow",
    "Report",
    "Throttled",
    "Unavailable",
    "bind",
    "bind_batches",
    "export",
    "export_batches",
    "rewrap",
    "rewrap_batches",
    "verify",
]
