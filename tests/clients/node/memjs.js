// SPDX-License-Identifier: Apache-2.0
// What tests/clients/memjs runs: memjs, which speaks the binary protocol, against a server.
//     node memjs.js HOST:PORT [USER PASSWORD]
// Requests wait for nothing: what is asked at once is pipelined on the one connection that it has.
"use strict";
const { createHash, randomBytes } = require("crypto");
const { Same, libraries, restart } = require("./same.js");
const memjs = require(libraries + "/memjs");

const t = new Same();
const [server, user, password] = process.argv.slice(2);
const c = memjs.Client.create(server, { username: user, password, timeout: 10, logger: { log() {} } });
const get = async (key) => {
  const { value } = await c.get(key);
  return value === null ? null : value.toString("latin1");
};
const error = (promise) => promise.then((x) => `done: ${x}`, (e) => String(e.message || e).replace(/^MemJS [A-Z]+: /, ""));

async function all() {
  t.same("a miss", await get("none"), null);
  t.same("set", await c.set("k", "value"), true);
  t.same("get", await get("k"), "value");
  t.same("set of the same", await c.set("k", "value"), true);
  t.same("set of another", await error(c.set("k", "other")), "Key exists");
  t.same("is what it was", await get("k"), "value");
  t.same("add of what is there", await c.add("k", "value"), false);
  t.same("add", await c.add("new", "1"), true);
  t.same("get of what was added", await get("new"), "1");
  t.same("delete", await c.delete("k"), true);
  t.same("delete again", await c.delete("k"), false);
  t.same("gone", await get("k"), null);
  t.same("set anew", await c.set("k", "other"), true);
  t.same("touch", await c.touch("k", 3600), true);
  t.same("touch of a miss", await c.touch("none", 3600), false);

  t.same("an expiry of 30 days", await c.set("month", "v", { expires: 2592000 }), true);
  t.same("is there", await get("month"), "v");
  t.same("a date of 1970", await c.set("past", "v", { expires: 2592001 }), true);
  t.same("is over", await get("past"), null);

  const large = Buffer.alloc(960000, createHash("sha512").update("large").digest());
  t.same("a large value", await c.set("large", large), true);
  t.same("comes back", large.equals((await c.get("large")).value), true);

  const keys = [...Array(3000).keys()].map((i) => `m${i}`);
  const there = keys.map((k, i) => (i % 3 === 0 ? `${k} is there` : null));
  const sets = await Promise.all(keys.filter((_, i) => i % 3 === 0).map((k) => c.set(k, `${k} is there`)));
  t.same("sets, pipelined", sets.filter((x) => x === true).length, 1000);
  t.same("gets, pipelined, of many", await Promise.all(keys.map(get)), there);

  t.same("increment is refused", (await error(c.increment("new", 1))).startsWith("done"), false);
  t.same("append is refused", (await error(c.append("new", "x"))).startsWith("done"), false);
  t.same("replace is refused", (await error(c.replace("new", "2"))).startsWith("done"), false);
  t.same("too large", await error(c.set("huge", randomBytes(1100000))), "Value too large");
  t.same("in step", await get("new"), "1");
  const stats = await new Promise((done) => c.stats((e, s, x) => done(x)));
  t.same("stats", "curr_items" in stats, true);

  await restart();
  await t.until(async () => (await get("k")) === "other");
  t.same("after a restart of the server", await get("k"), "other");
  t.same("the large one", large.equals((await c.get("large")).value), true);
}

async function main() {
  if (password === "wrong") t.same("a wrong password", (await error(c.set("k", "v"))).startsWith("done"), false);
  else await all();
  c.close();
  t.end();
}

main();
