// @aws-sdk/client-kms against a running daemon, as its users write it. DAEMON holds the daemon's facts; see daemon.py.

import assert from "node:assert/strict";
import {
  CreateAliasCommand,
  CreateKeyCommand,
  DecryptCommand,
  DescribeKeyCommand,
  DisabledException,
  DisableKeyCommand,
  EnableKeyCommand,
  GenerateDataKeyCommand,
  GenerateDataKeyWithoutPlaintextCommand,
  InvalidCiphertextException,
  KMSClient,
  ListAliasesCommand,
  NotFoundException,
} from "@aws-sdk/client-kms";
import { facts, options, report } from "./client.mjs";

const ALIAS = "alias/sdk-js";
const BLOB_BYTES = 96;
let calls = 0;

/** A client of one principal, whose calls are counted. */
function connect(role, changes = {}) {
  const client = new KMSClient(options(role, changes));
  client.middlewareStack.add(
    (next) => (args) => {
      calls += 1;
      return next(args);
    },
    { step: "finalizeRequest", name: "count", priority: "low" },
  );
  return client;
}

/** Holds a refusal to its code and message, and to its class where the SDK has one. */
async function refused(code, message, promise, type = Error) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.name, code, error.message);
    assert.ok(error instanceof type, `${code} is no ${type.name}`);
    assert.equal(error.$metadata.httpStatusCode, 400);
    if (message !== undefined) assert.equal(error.message, message);
    return true;
  });
}

const [admin, provisioner, consumer] = ["admin", "provisioner", "consumer"].map((role) => connect(role));

const { KeyMetadata: key } = await admin.send(new CreateKeyCommand({ Description: "made by the JavaScript SDK" }));
await admin.send(new CreateAliasCommand({ AliasName: ALIAS, TargetKeyId: key.KeyId }));
const arn = key.Arn;
const names = [key.KeyId, arn, ALIAS, arn.replace(/key\/.*/, ALIAS)];

const seen = new Set();
let last;
for (let round = 0; round < 25; round += 1) {
  for (const KeyId of names) {
    for (const EncryptionContext of [undefined, { container: `container-${round}`, tenant: "Zoë" }]) {
      const input = { KeyId, KeySpec: "AES_256", EncryptionContext };
      const command = new GenerateDataKeyWithoutPlaintextCommand(input);
      const made = await provisioner.send(command);
      assert.equal(made.KeyId, arn);
      assert.equal(made.CiphertextBlob.length, BLOB_BYTES);
      assert.equal(made.Plaintext, undefined);
      const opened = await consumer.send(new DecryptCommand({ CiphertextBlob: made.CiphertextBlob, EncryptionContext }));
      assert.equal(opened.KeyId, arn);
      assert.equal(opened.Plaintext.length, 32);
      assert.equal(opened.KeyMaterialId, made.KeyMaterialId);
      seen.add(Buffer.from(made.CiphertextBlob).toString("hex"));
      last = made.CiphertextBlob;
    }
  }
}
assert.equal(seen.size, 200, "a data key came twice");

const ask = (input) => provisioner.send(new GenerateDataKeyWithoutPlaintextCommand(input));
const open = (client, input) => client.send(new DecryptCommand({ CiphertextBlob: last, ...input }));

await refused(
  "AccessDeniedException",
  "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
  open(provisioner, {}),
);
await refused(
  "AccessDeniedException",
  `User: ${facts.principals.provisioner.arn} is not authorized to perform: kms:Decrypt on resource: ${arn} because no identity-based policy allows the kms:Decrypt action`,
  open(provisioner, { KeyId: ALIAS }),
);
await refused("AccessDeniedException", undefined, provisioner.send(new GenerateDataKeyCommand({ KeyId: arn, KeySpec: "AES_256" })));
await refused("InvalidCiphertextException", undefined, open(consumer, { EncryptionContext: { container: "another" } }), InvalidCiphertextException);
await refused(
  "NotFoundException",
  `Alias ${arn.replace(/key\/.*/, "alias/nobody")} is not found.`,
  admin.send(new DescribeKeyCommand({ KeyId: "alias/nobody" })),
  NotFoundException,
);
await refused("ValidationException", "Please specify either number of bytes or key spec.", ask({ KeyId: arn }));
await refused(
  "ValidationException",
  "1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
  ask({ KeyId: arn, NumberOfBytes: 0 }),
);
await refused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.", ask({ KeyId: arn, KeySpec: "AES_256", DryRun: true }));
await admin.send(new DisableKeyCommand({ KeyId: arn }));
await refused("DisabledException", `${arn} is disabled.`, ask({ KeyId: ALIAS, KeySpec: "AES_256" }), DisabledException);
await admin.send(new EnableKeyCommand({ KeyId: arn }));
await ask({ KeyId: ALIAS, KeySpec: "AES_128" });
const { Aliases } = await admin.send(new ListAliasesCommand({}));
assert.ok(Aliases.some(({ AliasName, TargetKeyId }) => AliasName === ALIAS && TargetKeyId === key.KeyId));
const forger = connect("provisioner", { secret_access_key: "not the secret" });
await refused("InvalidSignatureException", undefined, forger.send(new DescribeKeyCommand({ KeyId: arn })));

report("@aws-sdk/client-kms", calls);
for (const client of [admin, provisioner, consumer, forger]) client.destroy();
