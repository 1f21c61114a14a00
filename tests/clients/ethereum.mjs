// Two signers of Ethereum on a running daemon: each takes an ECC_SECG_P256K1 key, and what it signs is recovered to the address of that key by ethers.

import assert from "node:assert/strict";
import { CreateKeyCommand, KMSClient } from "@aws-sdk/client-kms";
import { KMSSigner } from "@rumblefishdev/eth-signer-kms";
import { KmsEthersSigner } from "aws-kms-ethers-signer";
import { Transaction, verifyMessage, verifyTypedData } from "ethers";
import { options, report } from "./client.mjs";

// AWS makes no signature with a low s, and half of ours have a high one: so many show that the signers set them right.
const SIGNATURES = 20;
const domain = { name: "Keymill", version: "1", chainId: 1 };
const types = { Container: [{ name: "id", type: "string" }] };
const calls = {};

function connect(role, name) {
  const client = new KMSClient(options(role));
  const count = (next) => (args) => {
    calls[name] = (calls[name] ?? 0) + 1;
    return next(args);
  };
  client.middlewareStack.add(count, { step: "finalizeRequest", name: "count", priority: "low" });
  return client;
}

const admin = connect("admin", "setup");
const { KeyMetadata: key } = await admin.send(new CreateKeyCommand({ KeySpec: "ECC_SECG_P256K1", KeyUsage: "SIGN_VERIFY" }));

const rumblefish = "@rumblefishdev/eth-signer-kms";
const signer = await KMSSigner.create(null, key.KeyId, connect("admin", rumblefish));
const address = await signer.getAddress();
for (let number = 0; number < SIGNATURES; number += 1) {
  const message = `container-${number}, Zoë`;
  assert.equal(verifyMessage(message, await signer.signMessage(message)), address);
  const value = { id: message };
  assert.equal(verifyTypedData(domain, types, value, await signer.signTypedData(domain, types, value)), address);
}
const unsigned = { to: "0x000000000000000000000000000000000000dEaD", value: 1n, nonce: 0, gasLimit: 21000n, gasPrice: 1n, chainId: 1 };
assert.equal(Transaction.from(await signer.signTransaction(unsigned)).from, address);
await assert.rejects(KMSSigner.create(null, key.KeyId, connect("provisioner", rumblefish)), { name: "AccessDeniedException" });
report(rumblefish, calls[rumblefish]);

const ethers = new KmsEthersSigner({ keyId: key.Arn, kmsClientConfig: options("admin") });
assert.equal(await ethers.getAddress(), address);
for (let number = 0; number < SIGNATURES; number += 1) {
  const message = `container-${number}, Zoë`;
  // Its signatures of messages begin without the 0x that ethers asks for.
  assert.equal(verifyMessage(message, `0x${(await ethers.signMessage(message)).replace(/^0x/, "")}`), address);
}
const legacy = { to: unsigned.to, value: 1, nonce: 0, gasLimit: 21000, gasPrice: 1, chainId: 1 };
assert.equal(Transaction.from(await ethers.signTransaction(legacy)).from, address);
// A public key, and a signature for each message and the transaction.
report("aws-kms-ethers-signer", SIGNATURES + 2);
