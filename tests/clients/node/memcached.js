// SPDX-License-Identifier: Apache-2.0
// What tests/clients/npm-memcached runs: the package `memcached` of npm, which speaks text, against a server.
//     node memcached.js HOST:PORT
"use strict";
const { randomBytes } = require("crypto");
const { Same, libraries, restart } = require("./same.js");
const Memcached = require(libraries + "/memcached");

const t = new Same();
const kinds = { timeout: 10000, retries: 2, retry: 100, reconnect: 100, failures: 1000, maxValue: 2000000 };
const c = new Memcached(process.argv[2], kinds);
const call = (what, ...args) =>
  new Promise((done) => c[what](...args, (e, x) => done(e ? `error: ${e.notStored ? "not stored" : e.message}` : x)));
const get = (key) => call("get", key);
const set = (key, value, expiry = 0) => call("set", key, value, expiry);

async function all() {
  t.same("a miss", await get("none"), undefined);
  t.same("set", await set("k", "value"), true);
  t.same("get", await get("k"), "value");
  t.same("set of the same", await set("k", "value"), true);
  t.same("set of another", await set("k", "other"), "error: not stored");
  t.same("is what it was", await get("k"), "value");
  t.same("add of what is there", await call("add", "k", "value", 0), "error: not stored");
  t.same("add", await call("add", "new", "1", 0), true);
  t.same("get of what was added", await get("new"), "1");
  const cas = (await call("gets", "k")).cas;
  t.same("a cas", /^[1-9][0-9]*$/.test(cas) && (await call("gets", "k")).cas === cas, true);
  t.same("delete", await call("del", "k"), true);
  t.same("delete again", await call("del", "k"), false);
  t.same("gone", await get("k"), undefined);
  t.same("set anew", await set("k", "other"), true);
  t.same("an object", [await set("o", { a: [1, null] }), await get("o")], [true, { a: [1, null] }]);
  t.same("touch", await call("touch", "k", 3600), true);

  t.same("an expiry of 30 days", await set("month", "v", 2592000), true);
  t.same("is there", await get("month"), "v");
  t.same("a date of 1970", await set("past", "v", 2592001), true);
  t.same("is over", await get("past"), undefined);

  const large = "large value ".repeat(80000);
  t.same("a large value", await set("large", large), true);
  t.same("comes back", (await get("large")) === large, true);

  const keys = [...Array(300).keys()].map((i) => `m${i}`);
  const there = Object.fromEntries(keys.filter((_, i) => i % 3 === 0).map((k) => [k, `${k} is there`]));
  const sets = await Promise.all(Object.entries(there).map(([k, v]) => set(k, v)));
  t.same("sets at the same time", sets.every((x) => x === true), true);
  t.same("a multi-get", await call("getMulti", keys), there);
  // written to its connections without waiting for answers between them
  const many = [...Array(20).keys()].map(() => Promise.all(keys.map(get)));
  const want = keys.map((k) => there[k]);
  t.same("gets, pipelined", (await Promise.all(many)).every((got) => t.equal(got, want)), true);

  // an error of the server is to this library a server that failed: the call fails, then it connects anew
  for (const [what, ...args] of [["incr", "new", 1], ["append", "new", "x"], ["replace", "new", "2", 0],
    ["set", "huge", randomBytes(1100000).toString("hex").slice(0, 1100000), 0]]) {
    const got = await Promise.race([call(what, ...args), new Promise((r) => setTimeout(r, 1000, "error: no answer"))]);
    t.same(`${what} is refused`, got === undefined || got === false || /^error/.test(got), true);
    await t.until(async () => (await get("new")) === "1");
    t.same(`in step after ${what}`, await get("new"), "1");
  }

  await restart();
  await t.until(async () => (await get("k")) === "other");
  t.same("after a restart of the server", await get("k"), "other");
  t.same("the large one", (await get("large")) === large, true);
}

all().then(() => {
  c.end();
  t.end();
});
