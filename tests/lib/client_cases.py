# SPDX-License-Identifier: Apache-2.0
"""
What every client library must be able to do, in words of its own: a test gives functions, this asks them.

    run(tally, label, dict(get=, set=, add=, delete=, many=, reconnect=, ...), daemon)

set(key, value, expiry=0) and add() are true if stored, delete() if it was there, get() is None for a miss, many(keys)
is a dict of those that are there, set_many(dict) sets without waiting for each. What is left out is not asked. Keys are
fresh for each run. At the end the daemon, if one is given, is killed and started again, and the client has to find its
way back.
"""
import hashlib
import itertools
import os
import time

_run = itertools.count(1)


def found_again(get, key, want, seconds=30):
    """What get(key) says once the connection is there again; errors are not yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            got = get(key)
        except Exception as e:  # of any library
            got = e
        if got == want or time.monotonic() > end:
            return got
        time.sleep(0.05)


def run(t, label, c, daemon=None):
    pre = "c%d-" % next(_run)

    def same(name, got, want):
        t.same("%s: %s" % (label, name), got, want)

    k = pre + "key"
    same("a miss", c["get"](k), None)
    same("set", bool(c["set"](k, b"value")), True)
    same("get", c["get"](k), b"value")
    same("set of the same", bool(c["set"](k, b"value")), True)
    same("set of another", bool(c["set"](k, b"other")), False)
    same("is what it was", c["get"](k), b"value")
    same("add of what is there", bool(c["add"](k, b"value")), False)
    same("add", bool(c["add"](pre + "new", b"1")), True)
    same("get of what was added", c["get"](pre + "new"), b"1")
    same("delete", bool(c["delete"](k)), True)
    same("gone", c["get"](k), None)
    same("set anew", bool(c["set"](k, b"other")), True)
    same("get of the new", c["get"](k), b"other")
    same("an expiry of 30 days", bool(c["set"](pre + "month", b"v", 2592000)), True)
    same("is there", c["get"](pre + "month"), b"v")
    same("an expiry that is a date of 1970", bool(c["set"](pre + "past", b"v", 2592001)), True)
    same("is over", c["get"](pre + "past"), None)
    large = hashlib.sha512(pre.encode()).digest() * (1000000 // 64)
    same("a large value", bool(c["set"](pre + "large", large)), True)
    t.check("%s: comes back" % label, c["get"](pre + "large") == large)
    keys = [pre + "m%d" % i for i in range(300)]
    there = {x: x.encode() * (1 + i % 50) for i, x in enumerate(keys) if i % 3 == 0}
    if "set_many" in c:
        c["set_many"](there)
    else:
        for x, v in there.items():
            c["set"](x, v)
    same("a multi-get", c["many"](keys), there)
    if "huge" in c:
        same("too large is refused", bool(c["huge"](pre + "huge", os.urandom(1100000))), False)
        same("in step after it", c["get"](k), b"other")
    if "incr" in c:
        same("increment is refused", c["incr"](pre + "new"), "refused")
        same("in step after it", c["get"](pre + "new"), b"1")
    if "cas" in c:
        value, cas = c["cas"](pre + "month")
        same("gets", (value, cas != 0, cas), (b"v", True, c["cas"](pre + "month")[1]))
    c["reconnect"]()
    same("after a new connection", c["get"](k), b"other")
    if daemon is not None:
        daemon.kill()
        daemon.start()
        same("after a restart of the server", found_again(c["get"], k, b"other"), b"other")
        t.check("%s: the large one" % label, c["get"](pre + "large") == large)


def of_pylibmc(m):
    """The functions of a pylibmc.Client."""
    import pylibmc

    def no_if(error, fn):
        def call(*args):
            try:
                return fn(*args)
            except error:
                return False
        return call

    def incr(key):
        try:
            m.incr(key)
            return "done"
        except pylibmc.Error:
            return "refused"
    return {
        "get": m.get, "delete": m.delete, "many": m.get_multi, "reconnect": m.disconnect_all,
        # gets of a str asks, in pylibmc 1.6.3, for what lies where the key's bytes were before they were freed
        "cas": lambda k: m.gets(k.encode()),
        "set": no_if(pylibmc.DataExists, lambda k, v, e=0: m.set(k, v, time=e)),
        "add": no_if(pylibmc.DataExists, lambda k, v: m.add(k, v)),
        "set_many": m.set_multi, "incr": incr,
        "huge": no_if(pylibmc.Error, m.set),
    }
