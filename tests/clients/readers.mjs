// The rows of Parquet files as hyparquet gives them, a JSON array a file, for readers.py. What JSON
// has not is an object with one member: $big, $bytes (hexadecimal) or $date (milliseconds).
//
//     node tests/clients/readers.mjs PART...

import assert from "node:assert/strict";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

function plain(value) {
  if (typeof value === "bigint") return { $big: value.toString() };
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString("hex") };
  if (value instanceof Date) return { $date: value.getTime() };
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  return value ?? null;
}

for (const path of process.argv.slice(2)) {
  const file = await asyncBufferFromFile(path);
  // By default bytes come as text, and what is not UTF-8 in them is lost.
  const [first] = await parquetReadObjects({ file, compressors, columns: ["ciphertext_blob"], rowEnd: 1 });
  assert.match(first.ciphertext_blob, /\ufffd/);
  const rows = await parquetReadObjects({ file, compressors, utf8: false });
  console.log(JSON.stringify(rows.map(plain)));
}
