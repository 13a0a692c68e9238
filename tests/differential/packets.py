# SPDX-License-Identifier: Apache-2.0
"""
Packets of the binary protocol, read as memcached reads them, as far as the model must know. An answer is
known by its opaque, which is the number of the request in its stream.
"""
import struct

from lines import KEY_MAX, value_number
from model import BinaryExpiry, Unknown

SAME = None
HEAD = struct.Struct(">BBHBBHIIQ")
QUIET = {0x11: 1, 0x12: 2, 0x13: 3, 0x14: 4, 0x15: 5, 0x16: 6, 0x17: 7, 0x18: 8, 0x19: 0xe, 0x1a: 0xf,
         0x09: 0, 0x0d: 0xc, 0x1e: 0x1d, 0x24: 0x23}
IMMUTABLE = (0x83, b"immutable: a stored value never changes")


def answer(opcode, opaque, status=0, cas=0, extras=b"", key=b"", value=b""):
    return HEAD.pack(0x81, opcode, len(key), len(extras), 0, status, len(extras) + len(key) + len(value), opaque,
                     cas) + extras + key + value


class Packets:
    """Reads packets; `answers`: opaque -> SAME or (entry, memcached's bytes, ours)."""

    ASKED = 0x0a, b""  # what a stranger may ask, and the answer's value

    def __init__(self, model, first=False):
        self.m = model
        self.slow = False

    def read(self, data):
        self.answers = {}
        self.closed = False
        self.data, self.at = data, 0
        n = 0
        self.flushed = False  # a noop before: what was asked until then was answered
        while self.at < len(data) and not self.closed:
            self.packet()
            n += 1
        return self.answers, n, self.closed

    def end(self):
        self.closed = True

    def differ(self, name, theirs=(), ours=(), **words):
        """
        theirs, ours: what the answer holds besides its status: a dict for answer(). The status and its text are the
        table's; None: no answer.
        """
        e = self.m.entries[name]
        sides = []
        for word, more in (("count", theirs), ("hash", ours)):
            words.setdefault(word, b"%d" % dict(more or {}).get("cas", 0))
        words.setdefault("number", b"")
        words.setdefault("version", self.m.version)
        for side, more in ((0, theirs), (1, ours)):
            if more is None:
                sides.append(b"")
                continue
            text = e.answer(side, "binary", words)
            status, _, rest = text.partition(b" ")
            more = dict(more)
            if int(status, 16) != 0:
                more["value"] = rest
            sides.append(answer(self.opcode, self.opaque, int(status, 16), **more))
        self.answers[self.opaque] = (name, sides[0], sides[1])

    def immutable(self, name, theirs, **words):
        self.differ(name, theirs, {}, **words)

    def packet(self):
        d, at = self.data, self.at
        if d[at] != 0x80 and not self.flushed:
            raise Unknown("memcached drops the answers before it")
        if len(d) - at < 24:
            if d[at] != 0x80:
                return self.end()
            raise Unknown("half a packet")
        magic, self.opcode, key_n, extras_n, _, _, body, self.opaque, cas = HEAD.unpack(d[at:at + 24])
        if magic != 0x80:
            return self.end()
        op = QUIET.get(self.opcode, self.opcode)
        self.flushed = op == 0x0a
        self.quiet = self.opcode in QUIET
        if len(d) - at < 24 + key_n + extras_n or key_n > 10000:
            raise Unknown("memcached waits for the key first, and its buffer may be too small")
        if key_n + extras_n > body or key_n > KEY_MAX:
            return self.end()
        if len(d) - at < 24 + body:
            raise Unknown("half a packet")
        extras = d[at + 24:at + 24 + extras_n]
        key = d[at + 24 + extras_n:at + 24 + extras_n + key_n]
        value = d[at + 24 + extras_n + key_n:at + 24 + body]
        self.at = at + 24 + body
        self.after = d[self.at:]
        if op in (0x00, 0x0c):
            if extras_n or not key_n or value:
                return self.end()
            return self.get(op, key, None)
        if op in (0x1c, 0x1d, 0x23):
            if extras_n != 4 or not key_n:
                return self.end()
            return self.get(op, key, BinaryExpiry(struct.unpack(">I", extras)[0], self.m.started), value)
        if op in (1, 2, 3):
            if extras_n != 8 or not key_n:
                return self.end()
            flags, exptime = struct.unpack(">II", extras)
            return self.update(op, key, value, flags, BinaryExpiry(exptime, self.m.started), cas)
        if op == 4:
            if extras_n or not key_n or value:
                return self.end()
            return self.delete(key, cas)
        if op in (5, 6):
            if extras_n != 20 or not key_n or value:
                return self.end()
            delta, initial, exptime = struct.unpack(">QQI", extras)
            return self.count(op, key, delta, initial, exptime, cas)
        if op in (0xe, 0xf):
            if extras_n or not key_n:
                return self.end()
            return self.append(op, key, value, cas)
        if op == 8:
            if key_n or value or extras_n not in (0, 4):
                return self.end()
            n = struct.unpack(">I", extras)[0] if extras_n else 0
            if 0 < n < 100000 or n >= 2**31:
                raise Unknown("a short delay, or more than 31 bits")
            if n == 0:
                self.m.flush()
                self.m.flushed = True
            elif self.m.flushed:
                raise Unknown("memcached forgets the flush before")
            elif n > 2592000:
                if n > self.m.started - 200000:
                    raise Unknown("a date about now")
                self.m.next_count()
            return None
        if op == 7:
            return self.end()
        if op == 0x0a:
            return self.end() if body else None
        if op == 0x0b:
            if body:
                return self.end()
            return self.differ("version", {"value": b"1.6.18"}, {"value": self.m.version})
        if op == 0x10:
            if extras_n:
                return self.end()
            if value:
                raise Unknown("stat with a value")
            if key not in (b"reset", b"no such"):
                raise Unknown("its own on each side")
            return None
        if op in (0x20, 0x21, 0x22):
            if op == 0x20 and body or op != 0x20 and (extras_n or not key_n):
                return self.end()
            return None
        # what memcached does not know either
        if not key_n + extras_n:
            return None
        return self.unknown(key_n + extras_n)

    def unknown(self, n):
        """memcached drops extras and key twice: whole packets without a body are lost if it is their length."""
        if n % 24:
            raise Unknown("out of step")
        lost = self.after[:n]
        if len(lost) < n:
            raise Unknown("out of step")
        for i in range(0, n, 24):
            magic, opcode, k, e, _, _, body, opaque, _ = HEAD.unpack(lost[i:i + 24])
            if magic != 0x80 or opcode != 0x0a or body or k or e:
                raise Unknown("out of step")
            whole = self.opcode, self.opaque
            self.opcode, self.opaque = opcode, opaque
            self.differ("unknown-key", None, {})
            self.opcode, self.opaque = whole
        self.at += n
        return None

    def hit(self, op, it, key):
        return {"extras": struct.pack(">I", it.flags), "key": key if op in (0xc, 0x23) else b"",
                "value": b"" if op == 0x1c else it.value}

    def get(self, op, key, expiry, value=b""):
        m = self.m
        if expiry is not None and expiry.theirs != expiry.ours:
            raise Unknown("an expiry that only one takes for over")
        if value:
            return self.value_after(op, key, expiry, value)
        if op == 0 and key in m.apart and m.apart[key] is not None:
            name, mine = m.lost.get(key, (None, None))
            if mine is m.apart[key]:
                more = self.hit(op, mine, key)
                return self.differ(name, None if self.quiet else {}, dict(more, cas=mine.hash()))
        it = m.look(key)
        if it is None:
            return None
        it.fetched = True
        more = self.hit(op, it, key)
        if expiry is not None:
            it.expires = expiry.seconds
            if expiry.ours:
                m.drop(key)
        return self.differ("cas", dict(more, cas=it.count), dict(more, cas=it.hash()))

    def value_after(self, op, key, expiry, value):
        """memcached takes the value for the next packet; we refuse and hang up."""
        if len(value) != 24 or op != 0x1c or self.m.look(key) is not None:
            raise Unknown("a value of something else")
        magic, opcode, k, e, _, _, body, opaque, _ = HEAD.unpack(value)
        if magic != 0x80 or opcode != 0x0a or body or k or e or self.after:
            raise Unknown("a value of something else")
        self.differ("packet-value", {}, {})
        self.opcode, self.opaque = opcode, opaque
        self.answers[opaque] = ("packet-value", answer(0x0a, opaque), b"")
        self.end()

    def stored(self, n, it):
        if self.quiet:
            return None
        return self.differ("cas", {"cas": n}, {"cas": it.hash()})

    def update(self, op, key, value, flags, expiry, cas):
        m = self.m
        theirs_large, ours_large = m.too_large(key, flags, len(value))
        if op == 3:
            return self.replace(op, key, value, flags, expiry, cas, theirs_large)
        if cas:
            return self.compared(op, key, value, flags, expiry, cas, theirs_large, ours_large)
        if theirs_large or ours_large:
            if not ours_large:
                raise Unknown("too large for memcached alone")
            it = m.look(key)
            if op == 1 and it is not None:
                m.lose(key, "too-large-kept")
            return None
        if key in m.apart:
            if op == 2:
                raise Unknown("an add where they differ")
            n = m.agree(key, value, flags, expiry)
            return self.stored(n, m.items[key])
        it = m.items.get(key)
        if it is not None and op == 2:
            return None
        if expiry.theirs != expiry.ours:
            raise Unknown("an expiry that only one takes for over")
        if expiry.theirs:
            n = m.link(key, value, flags, expiry)
            if not self.quiet:
                self.differ("over-cas", {"cas": n}, {})
            return None
        if it is not None and not it.same(value, flags):
            n = m.next_count()
            m.part(key)
            return self.differ("set-other", None if self.quiet else {"cas": n}, {})
        n = m.link(key, value, flags, expiry)
        return self.stored(n, m.items[key])

    def compared(self, op, key, value, flags, expiry, cas, theirs_large, ours_large):
        """A set with a cas: ours takes what is there already, if the cas is ours."""
        m = self.m
        it = m.look(key)
        if expiry.theirs or theirs_large and not ours_large:
            raise Unknown("a comparison with what is over, or too large for memcached alone")
        if theirs_large:
            if op == 1 and it is not None:
                m.lose(key, "too-large-kept")
            return None
        if it is None:
            return None
        if cas == it.count:
            n = m.next_count()
            m.part(key)
            return self.differ("by-count", None if self.quiet else {"cas": n}, {})
        if cas != it.hash():
            return None
        if it.same(value, flags):
            return self.differ("by-hash", {}, None if self.quiet else {"cas": cas})
        return self.immutable("cas-wrong", {})

    def replace(self, op, key, value, flags, expiry, cas, theirs_large):
        m = self.m
        it = m.look(key)
        if expiry.theirs:
            raise Unknown("a change to what is over")
        if theirs_large:
            if op == 1 and it is not None:
                m.lose(key, "too-large-kept")
            return self.immutable("change-large", {})
        if cas:
            if it is None:
                return self.immutable("cas-missing", {})
            if it.count != cas:
                return self.immutable("cas-wrong", {})
            n = m.next_count()
            m.part(key)
            return self.immutable("cas-right", None if self.quiet else {"cas": n})
        if it is None:
            return self.immutable("cas-missing", {})
        n = m.next_count()
        m.part(key)
        return self.immutable("change", None if self.quiet else {"cas": n})

    def append(self, op, key, value, cas):
        m = self.m
        it = m.look(key)
        if m.too_large(key, 0, len(value))[0]:
            return self.immutable("change-large", {})
        if it is None or m.size(key, it.flags, len(it.value) + len(value)) > m.item_max:
            if it is not None and cas and cas != it.count:
                return self.immutable("cas-wrong", {})
            return self.immutable("change-missing", {})
        if cas and cas != it.count:
            return self.immutable("cas-wrong", {})
        n = m.next_count()
        m.part(key)
        return self.immutable("change", None if self.quiet else {"cas": n})

    def count(self, op, key, delta, initial, exptime, cas):
        m = self.m
        it = m.look(key)
        if it is None:
            if exptime == 0xffffffff:
                return self.immutable("count-missing", {})
            if BinaryExpiry(exptime, m.started).theirs:
                raise Unknown("new and over")
            n = m.next_count()
            m.apart[key] = None
            return self.immutable("count-new", None if self.quiet else {"cas": n, "value": struct.pack(">Q", initial)})
        if not it.value or m.size(key, it.flags, len(it.value)) > m.item_max // 2:
            return self.immutable("count-text", {})
        if cas and it.count != cas:
            return self.immutable("cas-wrong", {})
        n = value_number(it.value)
        if n is None:
            return self.immutable("count-text", {})
        if op == 5:
            n = (n + delta) % 2**64
        else:
            n = 0 if delta > n else n - delta
        c = m.next_count()
        m.part(key)
        return self.immutable("count", None if self.quiet else {"cas": c, "value": struct.pack(">Q", n)})

    def delete(self, key, cas):
        m = self.m
        if not cas and self.quiet and m.apart.get(key) is not None and key not in m.gone:
            m.drop(key)  # both have something
            return None
        it = m.look(key)
        if it is None:
            return None
        if cas and cas != it.count:
            if cas == it.hash():
                m.apart[key] = None
                m.items.pop(key)
                self.differ("by-hash", {}, None if self.quiet else {})
            return None
        if cas:
            m.part(key)
            m.gone.add(key)
            return self.differ("by-count", None if self.quiet else {}, {})
        m.drop(key)
        return None
