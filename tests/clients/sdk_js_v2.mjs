// AWS SDK for JavaScript v2 and aws4fetch against a running daemon. Both leave the content type out of their signatures; neither is changed here.

import assert from "node:assert/strict";
import { AwsClient } from "aws4fetch";
import { facts, options, report } from "./client.mjs";

process.env.AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE = "1";
const { default: AWS } = await import("aws-sdk");

const ALIAS = "alias/sdk-js-v2";
const context = { container: "container-000000000042", tenant: "Zoë" };
let calls = 0;

/** The names that an Authorization header says are signed. */
function signed(authorization) {
  return authorization.match(/SignedHeaders=([^,]*)/)[1].split(";");
}

/** A client of the SDK, whose calls are counted and whose signatures are looked at. */
function connect(role, changes) {
  const { credentials, ...where } = options(role, changes);
  const client = new AWS.KMS({ ...where, ...credentials, apiVersion: "2014-11-01", maxRetries: 0 });
  client.customizeRequests((request) => {
    request.on("send", ({ request: { httpRequest } }) => {
      calls += 1;
      assert.ok(httpRequest.headers["Content-Type"]);
      assert.ok(!signed(httpRequest.headers.Authorization).includes("content-type"), "the SDK signs the content type now");
    });
  });
  return client;
}

async function refused(code, request) {
  await assert.rejects(request.promise(), (error) => error.code === code && error.statusCode === 400, code);
}

const [admin, provisioner, consumer] = ["admin", "provisioner", "consumer"].map((role) => connect(role));
const { KeyMetadata: key } = await admin.createKey({ Description: "made by the JavaScript SDK v2" }).promise();
await admin.createAlias({ AliasName: ALIAS, TargetKeyId: key.KeyId }).promise();
for (let round = 0; round < 20; round += 1) {
  const made = await provisioner.generateDataKeyWithoutPlaintext({ KeyId: ALIAS, KeySpec: "AES_256", EncryptionContext: context }).promise();
  const opened = await consumer.decrypt({ CiphertextBlob: made.CiphertextBlob, EncryptionContext: context }).promise();
  assert.equal(made.KeyId, key.Arn);
  assert.equal(opened.Plaintext.length, 32);
  await refused("InvalidCiphertextException", consumer.decrypt({ CiphertextBlob: made.CiphertextBlob }));
  await refused("AccessDeniedException", provisioner.decrypt({ CiphertextBlob: made.CiphertextBlob, EncryptionContext: context }));
}
const pages = [];
await new Promise((resolve, reject) => {
  admin.listAliases({ Limit: 1 }).eachPage((error, page) => {
    if (error) reject(error);
    else if (page) pages.push(...page.Aliases.map(({ AliasName }) => AliasName));
    else resolve();
    return true;
  });
});
assert.ok(pages.length >= 2 && pages.includes(ALIAS), pages);
await refused("NotFoundException", admin.describeKey({ KeyId: "alias/nobody" }));
await refused("InvalidSignatureException", connect("admin", { secret_access_key: "not the secret" }).listKeys());
report("aws-sdk", calls);

/** A call with aws4fetch, as its users write it. */
calls = 0;
async function fetched(role, operation, members, changes) {
  const { credentials, region } = options(role, changes);
  const client = new AwsClient({ ...credentials, region, service: "kms", retries: 0 });
  const request = await client.sign(facts.endpoint, {
    method: "POST",
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": `TrentService.${operation}` },
    body: JSON.stringify(members),
  });
  assert.ok(!signed(request.headers.get("authorization")).includes("content-type"), "aws4fetch signs the content type now");
  calls += 1;
  const answer = await fetch(request);
  return { status: answer.status, ...(await answer.json()) };
}

for (let round = 0; round < 20; round += 1) {
  const made = await fetched("provisioner", "GenerateDataKeyWithoutPlaintext", { KeyId: ALIAS, KeySpec: "AES_256", EncryptionContext: context });
  assert.equal(made.status, 200, JSON.stringify(made));
  const opened = await fetched("consumer", "Decrypt", { CiphertextBlob: made.CiphertextBlob, EncryptionContext: context });
  assert.equal(Buffer.from(opened.Plaintext, "base64").length, 32);
}
const { status, __type } = await fetched("consumer", "ListKeys", {}, { secret_access_key: "not the secret" });
assert.deepEqual([status, __type], [400, "InvalidSignatureException"]);
report("aws4fetch", calls);
