# SPDX-License-Identifier: Apache-2.0
"""
Tables of exchanges: (name, bytes to send, bytes that come back). In both, {a} to {e} stand for keys
that nobody used before, so that a case may run again and again on a store of immutable values.

run() sends each case whole, byte by byte, and cut in two at every position; the pieces are
read by the daemon one by one (a unix socket tells when). A marker after each case finds answers
that are late, missing or too many.
"""
import itertools
import re

_n = itertools.count(1)


def fill(text, keys):
    return re.sub(rb"\{([a-e])\}", lambda m: keys[m.group(1)], text)


def fresh():
    return {c: b"k%07d%c" % (next(_n), c[0]) for c in (b"a", b"b", b"c", b"d", b"e")}


def exchange(conn, pieces):
    for p in pieces[:-1]:
        conn.send(p)
        conn.taken()
    return conn.exchange(pieces[-1])


def run(tally, connect, name, send, want, cuts=True):
    size = len(fill(send, fresh()))
    how = [("whole", lambda b: [b]), ("byte by byte", lambda b: [b[i:i + 1] for i in range(len(b))])]
    if cuts:
        step = max(1, size // 200)
        how += [("cut at %d" % i, lambda b, i=i: [b[:i], b[i:]]) for i in range(1, size, step)]
    conn = connect()
    for label, cut in how:
        keys = fresh()
        try:
            got = exchange(conn, cut(fill(send, keys)))
        except (EOFError, OSError) as e:
            got = "%s: %s" % (type(e).__name__, e)
        if not tally.same("%s, %s" % (name, label), got, fill(want, keys)):
            conn.close()
            conn = connect()
            break
    conn.close()
