"""Writes the parts of an export again with pyarrow, from memory, as often as it is told.

    python3 ready_made.py PARTS OUT

PARTS is the folder of an export. For each line on standard input the whole table is written into OUT, by as many threads as there are cores, with the settings
that the export has; the seconds that this took are printed.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq

CONSTANT = ["key_arn", "key_material_id", "key_spec", "encryption_context.key_value.key", "encryption_context.key_value.value"]
SETTINGS = dict(
    compression="none",
    use_dictionary=CONSTANT,
    column_encoding={
        "container_id": "DELTA_BYTE_ARRAY",
        "ciphertext_blob": "DELTA_LENGTH_BYTE_ARRAY",
        "created_at": "DELTA_BINARY_PACKED",
    },
    write_statistics=["container_id", *CONSTANT, "created_at"],
    row_group_size=128 * 1024,
    store_schema=False,
)


def main() -> None:
    parts, out = map(Path, sys.argv[1:])
    tables = [pq.read_table(part).combine_chunks() for part in sorted(parts.glob("*.parquet"))]

    def write(number: int) -> None:
        pq.write_table(tables[number], out / f"{number}.parquet", **SETTINGS)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        print("ready", flush=True)
        for _ in sys.stdin:
            began = time.monotonic()
            list(threads.map(write, range(len(tables))))
            print(time.monotonic() - began, flush=True)


if __name__ == "__main__":
    main()
