// sm-crypto and the AWS SDK on a running daemon of a China Region: a private key of sm-crypto goes in, wrapped by sm-crypto, and what each side signs and encrypts the other takes.

import assert from "node:assert/strict";
import {
  CreateKeyCommand, DecryptCommand, EncryptCommand, GetParametersForImportCommand, ImportKeyMaterialCommand, KMSClient, SignCommand, VerifyCommand,
} from "@aws-sdk/client-kms";
import crypto from "sm-crypto";
import { options, report } from "./client.mjs";

const { sm2 } = crypto;
const ROUNDS = 5;
const client = new KMSClient(options("admin"));
let calls = 0;
const send = (command) => {
  calls += 1;
  return client.send(command);
};

/** An INTEGER of DER, of hex digits. */
function integer(hex) {
  const digits = hex.replace(/^(00)+/, "");
  const body = Buffer.from(parseInt(digits.slice(0, 2), 16) > 0x7f ? `00${digits}` : digits, "hex");
  return Buffer.concat([Buffer.from([2, body.length]), body]);
}

function value(tag, body) {
  const length = body.length < 0x80 ? [body.length] : [0x82, body.length >> 8, body.length & 0xff];
  if (body.length >= 0x80 && body.length < 0x100) length.splice(0, 3, 0x81, body.length);
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

/** What sm-crypto makes, C1 C3 C2 in hex, as AWS has it. */
function sequence(hex) {
  const [hash, text] = [hex.slice(128, 192), hex.slice(192)].map((part) => value(4, Buffer.from(part, "hex")));
  return value(0x30, Buffer.concat([integer(hex.slice(0, 64)), integer(hex.slice(64, 128)), hash, text]));
}

/** The other way round. */
function joined(der) {
  const parts = [];
  let at = der[1] > 0x80 ? 2 + (der[1] & 0x7f) : 2;
  while (at < der.length) {
    const long = der[at + 1] > 0x80 ? der[at + 1] & 0x7f : 0;
    const length = long ? parseInt(der.subarray(at + 2, at + 2 + long).toString("hex"), 16) : der[at + 1];
    const start = at + 2 + long;
    parts.push(der.subarray(start, start + length).toString("hex"));
    at = start + length;
  }
  const [x, y] = parts.slice(0, 2).map((number) => number.padStart(64, "0").slice(-64));
  return x + y + parts[2] + parts[3];
}

const pair = sm2.generateKeyPairHex();
const spki = (der) => Buffer.from(der).subarray(26).toString("hex");
// PKCS #8 without the public key.
const pkcs8 = Buffer.from(`3041020100301306072a8648ce3d020106082a811ccf5501822d042730250201010420${pair.privateKey.padStart(64, "0")}`, "hex");

/** A KMS key of this usage with the pair's private key. */
async function brought(usage) {
  const { KeyMetadata: key } = await send(new CreateKeyCommand({ KeySpec: "SM2", KeyUsage: usage, Origin: "EXTERNAL" }));
  const asked = { KeyId: key.KeyId, WrappingAlgorithm: "SM2PKE", WrappingKeySpec: "SM2" };
  const parameters = await send(new GetParametersForImportCommand(asked));
  const wrapped = sequence(sm2.doEncrypt(pkcs8, spki(parameters.PublicKey), 1));
  await send(new ImportKeyMaterialCommand({
    KeyId: key.KeyId, ImportToken: parameters.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE",
  }));
  return key.KeyId;
}

const signer = { KeyId: await brought("SIGN_VERIFY"), SigningAlgorithm: "SM2DSA" };
const sealer = { KeyId: await brought("ENCRYPT_DECRYPT"), EncryptionAlgorithm: "SM2PKE" };
const forms = { der: true, hash: true, publicKey: pair.publicKey };
for (let number = 0; number < ROUNDS; number += 1) {
  const text = `container-${number}, Zoë`;
  const message = Buffer.from(text);
  const { Signature: signature } = await send(new SignCommand({ ...signer, Message: message }));
  const hex = Buffer.from(signature).toString("hex");
  assert.ok(sm2.doVerifySignature(text, hex, pair.publicKey, forms));
  assert.ok(!sm2.doVerifySignature(`${text}.`, hex, pair.publicKey, forms));
  const theirs = Buffer.from(sm2.doSignature(text, pair.privateKey, forms), "hex");
  assert.ok((await send(new VerifyCommand({ ...signer, Message: message, Signature: theirs }))).SignatureValid);

  const { CiphertextBlob: sealed } = await send(new EncryptCommand({ ...sealer, Plaintext: message }));
  assert.equal(sm2.doDecrypt(joined(Buffer.from(sealed)), pair.privateKey, 1), text);
  const ciphertext = sequence(sm2.doEncrypt(text, pair.publicKey, 1));
  const { Plaintext: opened } = await send(new DecryptCommand({ ...sealer, CiphertextBlob: ciphertext }));
  assert.equal(Buffer.from(opened).toString(), text);
}
report("sm-crypto", calls);
