// What the JavaScript steps share: the daemon's facts, the options of a client, and the line that names it. DAEMON and CLIENT_LINES are set by daemon.py.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export const facts = JSON.parse(process.env.DAEMON);

/** The options of an SDK's client for one principal. */
export function options(role, changes = {}) {
  const { access_key_id, secret_access_key } = { ...facts.principals[role], ...changes };
  return { endpoint: facts.endpoint, region: facts.region, credentials: { accessKeyId: access_key_id, secretAccessKey: secret_access_key } };
}

/** Leaves the line that names a client, a package here. A client that made no call fails. */
export function report(name, calls) {
  assert.ok(calls > 0, `${name} made no call`);
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)));
  const line = `${name} ${version}: ${calls} calls`;
  mkdirSync(process.env.CLIENT_LINES, { recursive: true });
  writeFileSync(join(process.env.CLIENT_LINES, `npm-${name.replace(/\W+/g, "-")}`), `${line}\n`);
  console.log(line);
}
