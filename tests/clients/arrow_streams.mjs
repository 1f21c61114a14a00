// apache-arrow, which sends dictionaries that grow as deltas, against a running daemon: its streams are bound, and it reads what comes back.

import assert from "node:assert/strict";
import { request } from "node:http";
import { CreateAliasCommand, CreateKeyCommand, KMSClient } from "@aws-sdk/client-kms";
import { Dictionary, Field, Int32, RecordBatch, RecordBatchStreamWriter, Schema, Struct, Table, Utf8, makeData, tableFromIPC, vectorFromArray } from "apache-arrow";
import { facts, options, report } from "./client.mjs";

const ALIAS = "alias/arrow-js";
const ADDED = ["ciphertext_blob", "key_arn", "key_material_id"];
const END = Buffer.from("ffffffff00000000", "hex");
let calls = 0;

/** The answer to a stream, over the Unix socket. */
function bound(body) {
  calls += 1;
  const path = `/v1/data-keys/bind?key=${encodeURIComponent(ALIAS)}&spec=AES_256&context=tenant`;
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: facts.socket, path, method: "POST" }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(pieces) }));
      answer.on("error", reject);
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

async function rowsOf(body) {
  const answer = await bound(body);
  assert.equal(answer.status, 200, answer.body.toString());
  assert.deepEqual(answer.body.subarray(-8), END);
  const table = tableFromIPC(answer.body);
  assert.deepEqual(table.schema.fields.slice(-3).map((field) => field.name), ADDED);
  const blobs = new Set(Array.from(table.getChild("ciphertext_blob"), (blob) => Buffer.from(blob).toString("base64")));
  assert.equal(blobs.size, table.numRows);
  return table;
}

/** A batch whose columns are keys of dictionaries. */
function batch(schema, columns) {
  const children = columns.map(({ keys, dictionary, type }) => makeData({ type, length: keys.length, nullCount: 0, data: Int32Array.from(keys), dictionary }));
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length: columns[0].keys.length, nullCount: 0, children }));
}

function written(batches) {
  const writer = new RecordBatchStreamWriter();
  for (const one of batches) writer.write(one);
  writer.finish();
  return Buffer.from(writer.toUint8Array(true));
}

const admin = new KMSClient(options("admin"));
const { KeyMetadata: key } = await admin.send(new CreateKeyCommand({ Description: "made for apache-arrow" }));
await admin.send(new CreateAliasCommand({ AliasName: ALIAS, TargetKeyId: key.KeyId }));

// A dictionary that has more values with each batch, which leaves as deltas.
const type = new Dictionary(new Utf8(), new Int32(), 7);
const schema = new Schema([new Field("tenant", type, true)]);
const names = ["a", "b", "c", "d", "e"];
let dictionary = vectorFromArray(names.slice(0, 2), new Utf8());
const batches = [batch(schema, [{ keys: [0, 1, 0], dictionary, type }])];
for (const name of names.slice(2)) {
  dictionary = dictionary.concat(vectorFromArray([name], new Utf8()));
  batches.push(batch(schema, [{ keys: [dictionary.length - 1, 0], dictionary, type }]));
}
const sent = written(batches);
const expected = ["a", "b", "a", "c", "a", "d", "a", "e", "a"];
assert.deepEqual(Array.from(tableFromIPC(sent).getChild("tenant")), expected);
const grown = await rowsOf(sent);
assert.deepEqual(Array.from(grown.getChild("tenant")), expected);

// One dictionary of two columns.
const both = new Schema([new Field("tenant", type, true), new Field("other", type, true)]);
const values = vectorFromArray(names, new Utf8());
const shared = await rowsOf(written([batch(both, [{ keys: [0, 1, 2], dictionary: values, type }, { keys: [4, 3, 2], dictionary: values, type }])]));
assert.deepEqual(Array.from(shared.getChild("tenant")), ["a", "b", "c"]);
assert.deepEqual(Array.from(shared.getChild("other")), ["e", "d", "c"]);

// What is written without a thought.
const plain = new Table({ tenant: vectorFromArray(["x", "y", "x"]), n: vectorFromArray([1, 2, 3], new Int32()) });
const writer = new RecordBatchStreamWriter();
writer.write(plain);
writer.finish();
const read = await rowsOf(Buffer.from(writer.toUint8Array(true)));
assert.deepEqual(Array.from(read.getChild("tenant")), ["x", "y", "x"]);

report("apache-arrow", calls);
