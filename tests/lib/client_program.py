# SPDX-License-Identifier: Apache-2.0
"""
Runs a client in a language of its own: a program that asks a daemon, prints `FAILED case ...` for what is not right and
`N passed, N failed` at its end.

    p = Programs()
    p.run("dalli", ["ruby", "tests/clients/dalli.rb"], d)          # ... 127.0.0.1:PORT, then what else is given
    p.end()

A program that prints `restart` and waits for a line has it when its daemon was killed and is there again: it must find
its way back to it alone, and the values still there.
"""
import os
import subprocess
import threading

from daemon import Tally

# Where tools/client-deps puts what Debian does not have.
CLIENTS = os.environ.get("VALCACHED_CLIENTS") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "valcached-clients")


def wanted(path):
    """What tools/client-deps has put at this place; without it the test skips itself."""
    path = os.path.join(CLIENTS, path)
    if not os.path.exists(path):
        print("%s is not there; make clients installs it" % path)
        raise SystemExit(77)
    return path


def node(name):
    """The command of a program of tests/clients/node, and what it must find in its environment."""
    wanted("node/node_modules/" + name)
    return (["node", "tests/clients/node/%s.js" % name],
            {"NODE_LIBRARIES": os.path.join(CLIENTS, "node/node_modules")})


class Programs:
    def __init__(self):
        self.tally = Tally()
        self.skipped = []

    def run(self, label, command, d, *args, restarts=1, seconds=90, env=None, others=()):
        """others: more daemons of one cluster; d is the one that is killed."""
        servers = ",".join("127.0.0.1:%d" % x.port for x in (d, *others))
        p = subprocess.Popen(command + [servers] + list(args), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, **(env or {})))
        timer = threading.Timer(seconds, p.kill)
        timer.start()
        said, done = [], 0
        for line in p.stdout:
            line = line.decode(errors="replace").rstrip("\n")
            if line != "restart":
                said.append(line)
                continue
            done += 1
            d.kill()
            d.start()
            try:
                p.stdin.write(b"go on\n")
                p.stdin.flush()
            except BrokenPipeError:
                pass
        status = p.wait()
        timer.cancel()
        count = next((x.split() for x in reversed(said) if x.endswith(" failed")), ["0"])
        good = status == 0 and said and said[-1] == "%s passed, 0 failed" % count[0] and int(count[0]) > 0
        if not good:
            print("\n".join(said[-60:]) + "\nthe daemon's log:\n" + d.log(), flush=True)
        with self.tally.lock:
            self.tally.passed += int(count[0]) if good else 0
        self.tally.same("%s: status, all right, restarts" % label, (status, bool(good), done), (0, True, restarts))

    def skip(self, case, reason):
        """A case that cannot be run here; tests/skips must list it."""
        self.skipped.append("skip: %s: %s" % (case, reason))

    def end(self):
        for x in self.skipped:
            print(x)
        if self.skipped:
            print("%d passed, %d failed, %d skipped" % (self.tally.passed, self.tally.failed, len(self.skipped)))
            raise SystemExit(1 if self.tally.failed else 0)
        self.tally.end()
