// noble on a running daemon: it verifies ML-DSA and Ed25519ph, and shares secrets with ML-KEM keys and data key pairs of every size.

import assert from "node:assert/strict";
import {
  CreateKeyCommand, DecapsulateCommand, EncapsulateCommand, GenerateDataKeyPairCommand, GetPublicKeyCommand, KMSClient, SignCommand, VerifyCommand,
} from "@aws-sdk/client-kms";
import { createHash } from "node:crypto";
import { ed25519, ed25519ph } from "@noble/curves/ed25519";
import { ml_dsa44, ml_dsa65, ml_dsa87 } from "@noble/post-quantum/ml-dsa.js";
import { ml_kem512, ml_kem768, ml_kem1024 } from "@noble/post-quantum/ml-kem.js";
import { options, report } from "./client.mjs";

// A SubjectPublicKeyInfo before the key, of ML-DSA and ML-KEM, and of Ed25519.
const HEADER_BYTES = 22;
const EDWARDS_HEADER_BYTES = 12;
const message = new TextEncoder().encode("a message");
let calls = 0;

const client = new KMSClient(options("admin"));
const send = (command) => {
  calls += 1;
  return client.send(command);
};
const create = async (KeySpec, KeyUsage) => (await send(new CreateKeyCommand({ KeySpec, KeyUsage }))).KeyMetadata.Arn;
const publicKey = async (KeyId, header) => (await send(new GetPublicKeyCommand({ KeyId }))).PublicKey.slice(header);
const shake256 = (bytes) => createHash("shake256", { outputLength: 64 }).update(bytes).digest();

for (const [spec, noble] of [["ML_DSA_44", ml_dsa44], ["ML_DSA_65", ml_dsa65], ["ML_DSA_87", ml_dsa87]]) {
  const KeyId = await create(spec, "SIGN_VERIFY");
  const key = await publicKey(KeyId, HEADER_BYTES);
  const mu = shake256(Buffer.concat([shake256(key), Buffer.from([0, 0]), message]));
  for (const form of [{ Message: message }, { Message: mu, MessageType: "EXTERNAL_MU" }]) {
    const { Signature } = await send(new SignCommand({ KeyId, SigningAlgorithm: "ML_DSA_SHAKE_256", ...form }));
    assert.ok(noble.verify(Signature, message, key), spec);
    assert.ok(noble.internal.verify(Signature, mu, key, { externalMu: true }), spec);
    assert.ok(!noble.verify(Signature, message.slice(1), key), spec);
  }
}

for (const [spec, noble] of [["ML_KEM_512", ml_kem512], ["ML_KEM_768", ml_kem768], ["ML_KEM_1024", ml_kem1024]]) {
  const asked = { KeyId: await create(spec, "ENCAPSULATE_DECAPSULATE"), EncapsulationAlgorithm: "ML_KEM" };
  const { cipherText, sharedSecret } = noble.encapsulate(await publicKey(asked.KeyId, HEADER_BYTES));
  const opened = await send(new DecapsulateCommand({ ...asked, SharedSecretCiphertextBlob: cipherText }));
  assert.deepEqual(Buffer.from(opened.SharedSecret), Buffer.from(sharedSecret), spec);
  assert.equal((await send(new EncapsulateCommand(asked))).SharedSecretCiphertextBlob.length, cipherText.length);
  const short = new DecapsulateCommand({ ...asked, SharedSecretCiphertextBlob: cipherText.slice(1) });
  await assert.rejects(send(short), { name: "InvalidCiphertextException" });

  const pair = await send(new GenerateDataKeyPairCommand({ KeyId: "alias/containers", KeyPairSpec: spec }));
  const made = noble.keygen(pair.PrivateKeyPlaintext.slice(-64));
  assert.deepEqual(Buffer.from(made.publicKey), Buffer.from(pair.PublicKey.slice(HEADER_BYTES)), spec);
}
report("@noble/post-quantum", calls);

// AWS KMS hashes once more what is given as a digest: the signature is one of the digest.
calls = 0;
const KeyId = await create("ECC_NIST_EDWARDS25519", "SIGN_VERIFY");
const key = await publicKey(KeyId, EDWARDS_HEADER_BYTES);
const digest = createHash("sha512").update(message).digest();
const asked = { KeyId, Message: digest, MessageType: "DIGEST", SigningAlgorithm: "ED25519_PH_SHA_512" };
const { Signature } = await send(new SignCommand(asked));
assert.ok(ed25519ph.verify(Signature, digest, key));
assert.ok(!ed25519ph.verify(Signature, message, key));
assert.ok((await send(new VerifyCommand({ ...asked, Signature }))).SignatureValid);
const raw = await send(new SignCommand({ KeyId, Message: message, SigningAlgorithm: "ED25519_SHA_512" }));
assert.ok(ed25519.verify(raw.Signature, message, key));
const typed = new SignCommand({ ...asked, MessageType: "RAW" });
await assert.rejects(send(typed), { message: "Message type RAW is incompatible with algorithm ED25519_PH_SHA_512." });
report("@noble/curves", calls);
