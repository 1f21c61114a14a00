// The multi-Region-aware keyrings of the AWS Encryption SDK for JavaScript: opens in one Region what Python wrote in another, and writes a message for it. Run by multi_region.py.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  AwsKmsMrkAwareSymmetricDiscoveryKeyringNode,
  AwsKmsMrkAwareSymmetricKeyringNode,
  buildClient,
  CommitmentPolicy,
  getClient,
  KMS,
} from "@aws-crypto/client-node";
import { facts, options } from "./client.mjs";

const { MESSAGES, HERE, THERE } = process.env;
const text = readFileSync(join(MESSAGES, "text"));
const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);

/** A client of a principal in the Region of an ARN. */
function client(role, arn) {
  const region = arn.split(":")[3];
  const { region: home, ...others } = options(role);
  assert.notEqual(home, undefined);
  return getClient(KMS, others)(region);
}

const aware = (role, keyId) => new AwsKmsMrkAwareSymmetricKeyringNode({ client: client(role, keyId), keyId });
const discoveryFilter = { accountIDs: [facts.account], partition: "aws" };
const discovery = new AwsKmsMrkAwareSymmetricDiscoveryKeyringNode({ client: client("consumer", THERE), discoveryFilter });

const message = readFileSync(join(MESSAGES, "python"));
for (const ring of [aware("consumer", HERE), aware("consumer", THERE), discovery]) {
  assert.deepEqual((await decrypt(ring, message)).plaintext, text);
}
const { result } = await encrypt(aware("admin", THERE), text, { encryptionContext: { container: "container-000000000042" } });
writeFileSync(join(MESSAGES, "javascript"), result);
