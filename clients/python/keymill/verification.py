"""Whether the wrapped keys of a table open, and none is there twice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow
import pyarrow.compute

from keymill.client import Client
from keymill.columns import Progress, Session
from keymill.contexts import Contexts
from keymill.errors import RefusedRow
from keymill.rewrapping import BLOB, sealed_slices
from keymill.source import Rows, calls, open_source

FINDINGS_MAX = 1000
# Where a wrapped key has its nonce: two with one nonce have one data key.
NONCE_BYTES = (24, 48)
NONCE_TYPE = pyarrow.binary(NONCE_BYTES[1] - NONCE_BYTES[0])
NONCES = pyarrow.schema([("nonce", NONCE_TYPE), ("row", pyarrow.int64())])


@dataclass(frozen=True)
class Finding:
    """A row whose wrapped key does not open, or is there before.

    `row` is counted from 0, as that of `RefusedRow`; `code` is the KMS error code of `Decrypt`, or
    `Duplicate`.
    """

    row: int
    code: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What `verify` found: how many rows there are, how many findings, and the first 1,000."""

    rows: int
    finding_count: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.finding_count == 0


def verify(
    table: Rows,
    *,
    context: Sequence[str] | None = None,
    constants: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
    client: Client | None = None,
) -> Report:
    """Opens every wrapped key of a table under its row's context, and reports those that do not.

    No plaintext leaves the daemon. A wrapped key that is there twice is a finding too. The caller
    needs `kms:Decrypt`. The memory is that of one call (8,192 rows), and 32 bytes for each row.

    Args:
        table: as `bind` takes it, with a column `ciphertext_blob`.
        context, constants: what the rows are bound to, as for `rewrap`.
        progress, endpoint, client: as for `bind`.

    Raises:
        KeymillError, ValueError, TypeError: as for `bind`. A row that does not open is a finding
            and raises nothing.
    """
    contexts = Contexts.of(context, constants)
    _, batches = open_source(table)
    query = contexts.query() if contexts else []
    findings = _Findings()
    with Session(client, endpoint) as own:
        for call in calls(batches, lambda batch: sealed_slices(batch, contexts)):
            try:
                answer = own.rows("verify", query, call.sent)
            except RefusedRow as error:
                raise error.behind(call.first_row) from None
            findings.take(call.sent.column(BLOB), answer.column("refusal"))
            if progress is not None:
                progress(call.sent.num_rows)
    return findings.report()


class _Findings:
    """Findings as they come, and the nonces of the rows that open."""

    def __init__(self) -> None:
        self.rows, self.count = 0, 0
        self.first: list[Finding] = []
        self.nonces: list[pyarrow.RecordBatch] = []

    def take(self, blobs: pyarrow.Array, refusals: pyarrow.ChunkedArray) -> None:
        rows = pyarrow.array(range(self.rows, self.rows + len(refusals)), pyarrow.int64())
        self.rows += len(refusals)
        if refusals.null_count != len(refusals):
            told = zip(rows.to_pylist(), refusals.to_pylist(), strict=True)
            self.add(Finding(row, *_told(refusal)) for row, refusal in told if refusal is not None)
            # A row that does not open need not be long enough to have a nonce.
            opens = refusals.is_null().combine_chunks()
            blobs, rows = blobs.filter(opens), rows.filter(opens)
        nonces = pyarrow.compute.binary_slice(blobs, *NONCE_BYTES).cast(NONCE_TYPE)
        self.nonces.append(pyarrow.record_batch([nonces, rows], schema=NONCES))

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.count += 1
            if len(self.first) < FINDINGS_MAX:
                self.first.append(finding)

    def report(self) -> Report:
        nonces = pyarrow.Table.from_batches(self.nonces, NONCES)
        if pyarrow.compute.count_distinct(nonces["nonce"]).as_py() != nonces.num_rows:
            self.add(_duplicates(nonces))
            self.first.sort(key=lambda finding: finding.row)
        return Report(self.rows, self.count, tuple(self.first))


def _told(refusal: str) -> tuple[str, str]:
    code, _, reason = refusal.partition(": ")
    return code, reason


def _duplicates(nonces: pyarrow.Table) -> Iterable[Finding]:
    """Every row whose nonce an earlier row has."""
    counted = nonces.group_by("nonce").aggregate([("row", "min"), ("row", "count")])
    double = counted.filter(pyarrow.compute.greater(counted["row_count"], 1))
    first = dict(zip(double["nonce"].to_pylist(), double["row_min"].to_pylist(), strict=True))
    among = pyarrow.compute.is_in(nonces["nonce"], value_set=double["nonce"].combine_chunks())
    for row in nonces.filter(among).to_pylist():
        if row["row"] != first[row["nonce"]]:
            reason = f"its wrapped key is that of row {first[row['nonce']]}"
            yield Finding(row["row"], "Duplicate", reason)
