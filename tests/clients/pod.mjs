// @aws-sdk/client-kms in a pod: it finds its credentials, its region and its endpoint by itself, in the environment. Standard input has the environments, one
// after the other; what came of each goes to standard output.

import { DecryptCommand, GenerateDataKeyWithoutPlaintextCommand, KMSClient } from "@aws-sdk/client-kms";
import { readFileSync } from "node:fs";

const KEY = process.argv[2];
const ROUNDS = 3;

async function told(environment) {
  Object.assign(process.env, environment);
  const client = new KMSClient({});
  const opened = [];
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      const { CiphertextBlob } = await client.send(new GenerateDataKeyWithoutPlaintextCommand({ KeyId: KEY, KeySpec: "AES_256" }));
      const { Plaintext } = await client.send(new DecryptCommand({ CiphertextBlob }));
      opened.push(Plaintext.length);
    }
    return { opened };
  } catch (error) {
    return { error: error.name, message: error.message, class: error.constructor.name };
  } finally {
    client.destroy();
  }
}

const answers = [];
for (const environment of JSON.parse(readFileSync(0, "utf8"))) answers.push(await told(environment));
const { version } = JSON.parse(readFileSync(new URL("node_modules/@aws-sdk/client-kms/package.json", import.meta.url)));
console.log(JSON.stringify({ version, answers }));
