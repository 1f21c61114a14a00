// secrets.js and `keymill root`: another implementation of Shamir's scheme opens the shares that Keymill has made of a root key, and Keymill opens its.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import secrets from "secrets.js-grempe";
import { report } from "./client.mjs";

const dir = process.env.DAEMON_DIR;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "shares-"));
const keymill = (...words) => execFileSync(process.env.DAEMON_BINARY, ["root", ...words], { encoding: "utf8" });
const keyOf = (file) => fs.readFileSync(file, "utf8").trim().split(" ")[1];
// GF(2^8): its reducing polynomial for 8 bits is 0x11d.
secrets.init(8);
let calls = 0;

/** The subsets of so many elements. */
function* some(list, count) {
  if (count === 0) yield [];
  else for (const [at, first] of list.entries()) for (const rest of some(list.slice(at + 1), count - 1)) yield [first, ...rest];
}

const hex = (number) => number.toString(16).padStart(2, "0");
const sum = (text) => crypto.createHash("sha256").update(text).digest("hex").slice(0, 8);
const key = keyOf(path.join(dir, "root.key"));

try {
  for (const [needed, total] of [[2, 2], [3, 5], [5, 7]]) {
    // Ours: what it takes for a share is the number of bits in base 36, the place, and the values there.
    const out = path.join(folder, `${needed}-of-${total}`);
    keymill("export", "--dir", dir, "--shares", `${needed}/${total}`, "--out", out);
    const shares = fs.readdirSync(out).map((name) => fs.readFileSync(path.join(out, name), "utf8").trim().split(" "));
    assert.equal(shares.length, total);
    const points = shares.map((words) => `8${hex(Number(words[4]))}${words[5]}`);
    for (const chosen of some(points, needed)) {
      // It takes the mark before a root key for its own.
      assert.equal(secrets.combine(chosen), key);
      calls += 1;
    }
    for (const few of some(points, needed - 1)) assert.notEqual(secrets.combine(few), key);

    // Theirs, in a line of ours.
    const subkey = crypto.createHmac("sha256", Buffer.from(key, "hex")).update("keymill subkey v1 shares\x01").digest("hex");
    const theirs = secrets.share(key, total, needed, 8).map((share) => {
      const { id, data } = secrets.extractShareComponents(share);
      assert.equal(data.length, 66, share);
      const line = `keymill-root-share-v1 ${needed}/${total} 00c0ffee ${subkey.slice(0, 16)} ${id} ${data} `;
      const file = path.join(folder, `theirs-${needed}-${id}`);
      fs.writeFileSync(file, `${line}${sum(line)}\n`);
      return file;
    });
    for (const chosen of some(theirs, needed)) {
      const again = path.join(folder, `again-${calls}`);
      keymill("import", ...chosen, "--out", again);
      assert.equal(keyOf(again), key);
      calls += 1;
    }
  }
} finally {
  fs.rmSync(folder, { recursive: true });
}
report("secrets.js-grempe", calls);
