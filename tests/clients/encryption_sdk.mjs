// The AWS Encryption SDK for JavaScript against a running daemon: opens what the one for Python wrote, and writes messages for it. Run by encryption_sdk.py.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  BranchKeyStoreNode,
  buildClient,
  CommitmentPolicy,
  getClient,
  getLocalCryptographicMaterialsCache,
  KMS,
  KmsHierarchicalKeyRingNode,
  KmsKeyringNode,
  NodeCachingMaterialsManager,
} from "@aws-crypto/client-node";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { KMSClient } from "@aws-sdk/client-kms";
import { options, report } from "./client.mjs";

const { MESSAGES, KEY_ARN, BRANCH_KEY, BRANCH_KEY_TABLE, DYNAMODB } = process.env;
const text = readFileSync(join(MESSAGES, "text"));
const context = JSON.parse(readFileSync(join(MESSAGES, "context")));
const CACHED_MESSAGES = 50;
const TTL_SECONDS = 600;
const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
const calls = {};
let refusal;

/** A client whose calls are counted by operation, and whose last refusal is kept. */
function counted(client) {
  client.middlewareStack.add(
    (next, { commandName }) => async (args) => {
      const operation = commandName.replace(/Command$/, "");
      calls[operation] = (calls[operation] ?? 0) + 1;
      try {
        return await next(args);
      } catch (error) {
        refusal = error.name;
        throw error;
      }
    },
    { step: "initialize", name: "count", priority: "low" },
  );
  return client;
}

/** What was called since. */
function since(before) {
  return Object.fromEntries(Object.entries(calls).map(([name, count]) => [name, count - (before[name] ?? 0)]).filter(([, count]) => count));
}

/** Holds a failure to the refusal that was its cause. */
async function fails(code, call) {
  refusal = undefined;
  await assert.rejects(call);
  assert.equal(refusal, code);
}

function keyring(role) {
  const clientProvider = (region) => counted(getClient(KMS, options(role))(region));
  return new KmsKeyringNode({ clientProvider, generatorKeyId: KEY_ARN });
}

function hierarchicalKeyring(role) {
  const keyStore = new BranchKeyStoreNode({
    logicalKeyStoreName: BRANCH_KEY_TABLE,
    storage: { ddbTableName: BRANCH_KEY_TABLE, ddbClient: new DynamoDBClient({ ...options(role), endpoint: DYNAMODB }) },
    keyManagement: { kmsClient: counted(new KMSClient(options(role))) },
    kmsConfiguration: { identifier: KEY_ARN },
  });
  return new KmsHierarchicalKeyRingNode({ branchKeyId: BRANCH_KEY, keyStore, cacheLimitTtl: TTL_SECONDS });
}

async function opened(message, ring) {
  const { plaintext, messageHeader } = await decrypt(ring, message);
  for (const [name, value] of Object.entries(context)) assert.equal(messageHeader.encryptionContext[name], value);
  assert.deepEqual(plaintext, text);
}

const written = async (materials) => (await encrypt(materials, text, { encryptionContext: context })).result;
const keep = (kind, message) => writeFileSync(join(MESSAGES, `javascript-${kind}`), message);

const readers = { kms: keyring("consumer"), caching: keyring("consumer"), hierarchical: hierarchicalKeyring("consumer") };
const messages = readdirSync(MESSAGES).filter((name) => name.startsWith("python-"));
assert.equal(messages.length, 4);
for (const name of messages) await opened(readFileSync(join(MESSAGES, name)), readers[name.split("-")[1]]);

let before = { ...calls };
const message = await written(keyring("admin"));
assert.deepEqual(since(before), { GenerateDataKey: 1 });
await opened(message, readers.kms);
keep("kms", message);
await fails("AccessDeniedException", () => opened(message, keyring("provisioner")));
await fails("AccessDeniedException", () => written(keyring("consumer")));

const cached = new NodeCachingMaterialsManager({
  backingMaterials: keyring("admin"),
  cache: getLocalCryptographicMaterialsCache(10),
  maxAge: TTL_SECONDS * 1000,
  maxMessagesEncrypted: CACHED_MESSAGES,
});
before = { ...calls };
for (let number = 0; number < CACHED_MESSAGES; number++) keep("caching", await written(cached));
assert.deepEqual(since(before), { GenerateDataKey: 1 });

before = { ...calls };
const writer = hierarchicalKeyring("consumer");
for (let number = 0; number < 10; number++) keep("hierarchical", await written(writer));
assert.deepEqual(since(before), { Decrypt: 1 });
await fails("AccessDeniedException", () => written(hierarchicalKeyring("provisioner")));

report("@aws-crypto/client-node", Object.values(calls).reduce((sum, count) => sum + count));
