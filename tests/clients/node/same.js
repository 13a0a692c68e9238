// SPDX-License-Identifier: Apache-2.0
// What the programs beside this share: counting cases, and waiting while the server is restarted.
"use strict";
const { isDeepStrictEqual } = require("util");

class Same {
  passed = 0;
  failed = 0;
  equal = isDeepStrictEqual;

  same(what, got, want) {
    if (isDeepStrictEqual(got, want)) {
      this.passed++;
      return;
    }
    this.failed++;
    const short = (x) => String(JSON.stringify(x)).slice(0, 200);
    console.log(`FAILED ${what}\n  want ${short(want)}\n  got  ${short(got)}`);
  }

  // Until it is so, or for half a minute; errors are not yet.
  async until(test) {
    for (let i = 0; i < 300; i++) {
      if (await test().catch(() => false)) return;
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  end() {
    console.log(`${this.passed} passed, ${this.failed} failed`);
    process.exit(this.failed > 0 ? 1 : 0);
  }
}

const restart = () =>
  new Promise((done) => {
    process.stdin.once("data", () => {
      process.stdin.pause();
      done();
    });
    console.log("restart");
  });

module.exports = { Same, restart, libraries: process.env.NODE_LIBRARIES };
