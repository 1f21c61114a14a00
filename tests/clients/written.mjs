// A table of the types that hyparquet-writer has, for public_files.py.
//
//     node tests/clients/written.mjs FILE

import { writeFileSync } from "node:fs";
import { parquetWriteBuffer } from "hyparquet-writer";

const rows = Array.from({ length: 2500 }, (_, row) => row);
const given = (value) => rows.map((row) => (row % 11 ? value(row) : null));
const columnData = [
  { name: "flag", data: given((row) => row % 3 === 0), type: "BOOLEAN" },
  { name: "small", data: given((row) => row), type: "INT32" },
  { name: "big", data: given((row) => 2n ** 62n + BigInt(row)), type: "INT64" },
  { name: "ratio", data: given((row) => row / 7), type: "DOUBLE" },
  { name: "text", data: given((row) => `größe ${row % 90}`), type: "STRING" },
  { name: "document", data: given((row) => ({ row, list: [1, null] })), type: "JSON" },
  { name: "id", data: given((row) => `00000000-0000-4000-8000-${String(row).padStart(12, "0")}`), type: "UUID" },
  { name: "made", data: given((row) => new Date(1715000000000 + row)), type: "TIMESTAMP" },
  { name: "bytes", data: given((row) => Uint8Array.of(row % 256, 255)), type: "BYTE_ARRAY" },
];
writeFileSync(process.argv[2], Buffer.from(parquetWriteBuffer({ columnData, rowGroupSize: 1000, kvMetadata: [{ key: "owner", value: "storage" }] })));
