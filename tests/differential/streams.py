# SPDX-License-Identifier: Apache-2.0
"""
Random streams: pieces of requests, valid and not, over a handful of keys. The same seed gives the same streams.

A piece is a tuple of bytes and of Numbers: memcached's counter moves on between runs, so what names it is kept as a
distance from where the counter stood when the stream began.
"""
import base64
import copy
import random
import struct

import meta  # noqa: F401: adds its commands to Lines
from lines import KEY_MAX
from meta import Meta
from model import Unknown
from packets import Packets

MARK = b"~"  # stands in no key, value, or opaque: only in markers


LAST = 0x40000000  # opaque


class Number:
    """Of memcached's counter: `off` after the start of the stream, written as decimal digits or as 8 bytes."""
    __slots__ = ("off", "packed")

    def __init__(self, off, packed=False):
        self.off, self.packed = off, packed

    def put(self, base):
        return struct.pack(">Q", base + self.off) if self.packed else b"%d" % (base + self.off)


def put(piece, base):
    return b"".join(p if isinstance(p, bytes) else p.put(base) for p in piece)


class Snapshot:
    """What a request that could not be followed had changed already is undone."""

    def __init__(self, m):
        self.m = m
        self.kept = ({k: copy.copy(v) for k, v in m.items.items()}, dict(m.apart), dict(m.lost), dict(m.stale),
                     m.count, m.flushed, set(m.gone), m.known, m.step)

    def undo(self):
        m = self.m
        m.items, m.apart, m.lost, m.stale, m.count, m.flushed, m.gone, m.known, m.step = self.kept


class Stream:
    """Pieces of one connection, with what must come of each."""

    def __init__(self, protocol, base, reader):
        self.protocol, self.base, self.reader = protocol, base, reader
        self.pieces = []   # as generated
        self.sent = []     # bytes of each, markers included
        self.marks = 0
        self.groups = [[]]  # text: answers between two markers
        self.answers = {}   # binary: by opaque
        self.requests = 0
        self.closed = False
        self.slow = 0       # so many pieces are sent one by one, when the one before is answered by a line
        self.until = None   # the answer that is waited for before the last piece is sent

    def mark(self):
        self.marks += 1
        self.sent.append(b"mg - O%s%d\r\n" % (MARK, self.marks))
        self.groups.append([])

    def last_word(self, knew):
        """
        What ends the connection is sent when all before it is answered: a server that hangs up with bytes unread
        resets the connection, and answers under way are lost, here as there.
        """
        if self.protocol == "text":
            self.sent.append(b"mn\r\n")
            self.groups[-1].append(None)
            self.until = b"MN\r\n"
        else:
            opcode, said = (0x0a, b"") if knew else self.reader.ASKED
            self.sent.append(struct.pack(">BBHBBHIIQ", 0x80, opcode, 0, 0, 0, 0, 0, LAST, 0))
            self.until = struct.pack(">BBHBBHIIQ", 0x81, opcode, 0, 0, 0, 0, len(said), LAST, 0) + said

    def script(self):
        """As exchange() wants it."""
        steps, sent, last = [], self.sent[self.slow:], []
        for i, data in enumerate(self.sent[:self.slow]):
            steps.append(([data], i + 1))
        if self.until is not None:
            sent, last = sent[:-1], [sent[-1]]
        data = b"".join(sent)
        if self.cut == "bytes" and len(data) > 1:
            at = sorted(self.rng.sample(range(1, len(data)), min(12, len(data) - 1)))
            sent = [data[a:b] for a, b in zip([0] + at, at + [len(data)])]
        elif self.cut == "whole":
            sent = [data]
        if self.until is not None:
            steps.append((sent, self.until))
            sent = last
        return steps + [(sent, None)]

    def met(self):
        """Names of the entries, once for each request."""
        groups = self.groups if self.protocol == "text" else [self.answers.values()]
        return [a[0] for g in groups for a in g if a is not None]

    def add(self, piece, model):
        """True if the model could follow it; it is then part of the stream."""
        data = put(piece, self.base)
        before, knew = Snapshot(model), model.known
        reader = self.reader(model, not self.pieces)
        try:
            answers, n, closed = reader.read(data)
        except Unknown as why:
            before.undo()
            self.why = str(why)
            return False
        if reader.slow:
            self.slow = len(self.sent) + 1
        self.pieces.append(piece)
        self.requests += n
        self.closed = closed
        if closed and self.sent and not reader.slow:
            self.last_word(knew)
        self.sent.append(data)
        if self.protocol == "binary":
            self.answers.update(answers)
            return True
        self.groups[-1] += answers
        if any(a is not None for a in answers) and not closed and not reader.slow:
            self.mark()
        return True


# ---- what both generators use -------------------------------------------------------------------

class Source:
    def __init__(self, rng, model, base, item_max):
        self.rng, self.m, self.base, self.item_max = rng, model, base, item_max
        p = bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=12))  # no other stream's, nor by a change of it
        self.keys = [p + b"a", p + b"b", p + b"c", p + b"d" * 40, p + b"e" * (KEY_MAX - 12)]
        self.odd = p + b"\x01\xff\x80\t;"
        self.binary_keys = [p + b"\0 \n!", p + b"yz", p + b"\xff" * 3]
        self.values = [self.value() for _ in range(5)]

    def value(self):
        r = self.rng
        x = r.random()
        if x < 0.3:
            return b"%d" % r.choice([0, 1, 7, 99, 18446744073709551615, r.randrange(2**64)])
        if x < 0.38:
            return b""
        if x < 0.7:
            return bytes(r.choice(b"abcxyz \r\n\0\xff0179") for _ in range(r.randrange(1, 40)))
        if x < 0.8:
            return r.choice([b"\r\n", b"END\r\n", b"VALUE a 0 1\r\nx\r\n", b" 12", b"12 ", b"-1", b"\x80\x0a", b"get a\r\n"])
        if x < 0.975:
            return bytes([r.choice(b"pqrs")]) * r.choice([100, 500, 1400, 2045, 2046, 2047, 2048, 2049, 4096])
        return b"L" * r.choice([16383, 16384, 16385, 40000, self.item_max - 400])

    def any_value(self):
        return self.rng.choice(self.values) if self.rng.random() < 0.7 else self.value()

    def key(self):
        r = self.rng
        x = r.random()
        if x < 0.88:
            return r.choice(self.keys[:3])
        if x < 0.96:
            return r.choice(self.keys)
        return self.odd

    def flags(self):
        return self.rng.choice([0, 0, 0, 0, 1, 5, 4294967295])

    def cas_of(self, key, packed):
        """memcached's number, ours, or another."""
        it = self.m.items.get(key)
        x = self.rng.random()
        if it is not None and x < 0.4:
            return Number(it.count - self.base, packed)
        if it is not None and x < 0.6:
            n = it.hash()
        else:
            n = self.rng.choice([1, 5, 2**63, 2**64 - 1])
        return struct.pack(">Q", n) if packed else b"%d" % n


# ---- text and meta ------------------------------------------------------------------------------

BAD_NUMBERS = [b"", b"-", b"x", b"1x", b"0x1", b"-1", b"-2147483648", b"2147483646", b"2147483647", b"4294967295",
               b"99999999999999999999999999", b"1.5", b"+", b"\t5", b"5\t", b"+7", b"007", b"-0", b"9223372036854775808"]
EXPIRIES = [b"0"] * 12 + [b"-1", b"-100", b"1", b"100", b"2592000", b"2592001", b"1000000000", b"2000000000",
                          b"+60", b"-2147483648", b"2147483647"]
JUNK = [b"", b" ", b"\r", b"x", b"ERROR", b"GET a", b"getx a", b"ge a", b"mz a", b"m a", b"mnx", b"mn x y", b"misbehave",
        b"debugtime p", b"shutdown", b"shutdown x", b"lru_crawler", b"lru_crawler x", b"lru_crawler metadump",
        b"lru_crawler enable", b"lru_crawler sleep 1", b"lru_crawler sleep x", b"lru_crawler sleep 2000000",
        b"lru_crawler tocrawl 5", b"lru_crawler tocrawl", b"lru_crawler crawl x", b"cache_memlimit", b"cache_memlimit x",
        b"cache_memlimit 1", b"cache_memlimit 0 noreply", b"cache_memlimit 4000000000", b"verbosity", b"verbosity 0",
        b"verbosity x", b"verbosity 0 1", b"verbosity 0 noreply", b"verbosity 1 2 3", b"slabs", b"slabs x",
        b"slabs reassign", b"slabs reassign 99 98", b"slabs automove", b"slabs automove 0", b"slabs automove 1",
        b"slabs automove 2", b"slabs automove 3", b"slabs automove x", b"slabs automove 0 noreply", b"lru", b"lru x",
        b"lru x y", b"lru mode segmented", b"lru mode segmented noreply", b"lru temp_ttl -1", b"stats xxx", b"stats reset",
        b"flush_all x", b"flush_all x noreply", b"flush_all 1 2 3", b"version", b"version x", b"bget a", b"\x81\x0a\0",
        b"mg", b"ms", b"md", b"ma", b"me", b"get", b"gets", b"gat", b"gat 1", b"gat x a", b"touch", b"set", b"set a 0 0",
        b"delete", b"incr", b"incr a", b"a HTTP/1.1", b"gex / HTTP/1.1", b"set / HTTP/1.1", b"ms / HTTP/1.1"]
FLAG_LETTERS = b"kstcfvhluqbOTNRIPLCMFDJ"


class TextSource(Source):
    def line_key(self):
        r = self.rng
        if r.random() < 0.02:
            return self.keys[0][:-1] + b"K" * r.choice([239, 239, 300])
        return self.key()

    def block(self, value):
        r = self.rng
        x = r.random()
        if x < 0.93:
            return value + b"\r\n"
        return value + r.choice([b"xx", b"\nx", b"\r\r\n", b"x\r\n", b"xyz\r\n", b"\n\r\n", b"xversion\r\n"]) + \
            (b"" if x < 0.96 else b"\r\n")

    def noreply(self):
        return b" noreply" if self.rng.random() < 0.07 else b""

    def expiry(self):
        return self.rng.choice(EXPIRIES)

    def set(self, name=None):
        r = self.rng
        name = name or r.choice([b"set"] * 6 + [b"add"] * 3 + [b"replace", b"append", b"prepend"])
        v = self.any_value()
        n = b"%d" % len(v)
        if r.random() < 0.03:
            n = r.choice(BAD_NUMBERS + [b"%d" % (len(v) + 1), b"%d" % max(0, len(v) - 1)])
        flags = b"%d" % self.flags() if r.random() < 0.97 else r.choice(BAD_NUMBERS)
        exp = self.expiry() if r.random() < 0.97 else r.choice(BAD_NUMBERS)
        return (b" ".join([name, self.line_key(), flags, exp, n]) + self.noreply() + b"\r\n" + self.block(v),)

    def cas(self):
        k = self.key()
        v = self.any_value()
        return (b"cas %s %d 0 %d " % (k, self.flags(), len(v)), self.cas_of(k, False),
                self.noreply() + b"\r\n" + self.block(v))

    def same_again(self):
        """A set of what is there."""
        if not self.m.items:
            return self.set()
        k = self.rng.choice(sorted(self.m.items))
        it = self.m.items[k]
        if b" " in k or b"\n" in k or b"\0" in k:
            return self.set()
        return (b"set %s %d 0 %d%s\r\n%s\r\n" % (k, it.flags, len(it.value), self.noreply(), it.value),)

    def large(self):
        """Around the limit of a value, and of an item in memcached."""
        r = self.rng
        k = self.key()
        n = self.item_max + r.choice([1, 0, 2, -20, -80, -110, -400])
        name = r.choice([b"set", b"set", b"add", b"replace", b"append", b"ms"])
        if name == b"ms":
            return (b"ms %s %d\r\n" % (k, n) + b"M" * n + b"\r\n",)
        return (b"%s %s 0 0 %d%s\r\n" % (name, k, n, self.noreply()) + b"M" * n + r.choice([b"\r\n", b"\r\n", b"XX"]),)

    def get(self):
        r = self.rng
        name = r.choice([b"get"] * 5 + [b"gets"] * 2 + [b"gat", b"gats", b"bget"])
        keys = [self.line_key() for _ in range(r.choice([1, 1, 1, 2, 3, 8, 30]))]
        if r.random() < 0.01:
            keys = [self.key() for _ in range(1000)]
        if name in (b"gat", b"gats"):
            keys = [self.expiry()] + [k for k in keys[:8]]
        first = b"mn\r\n" if any(len(k) > KEY_MAX for k in keys) else b""
        return (first + name + b" " + b" ".join(keys) + r.choice([b"", b"", b"", b" "]) + self.end(),)

    def lost(self):
        """A get of what memcached has no more."""
        left = [k for k, v in self.m.apart.items() if v is not None and k in self.m.lost]
        if not left:
            return self.get()
        return (b"get %s\r\n" % self.rng.choice(sorted(left)),)

    def end(self):
        return self.rng.choice([b"\r\n"] * 20 + [b"\n", b"\r\r\n", b"  \r\n"])

    def touch(self):
        return (b"touch %s %s%s" % (self.line_key(), self.expiry(), self.noreply()) + self.end(),)

    def count(self):
        r = self.rng
        n = r.choice([b"0", b"1", b"10", b"18446744073709551615", b"18446744073709551616", b"x"])
        return (r.choice([b"incr", b"decr"]) + b" " + self.line_key() + b" " + n + self.noreply() + self.end(),)

    def delete(self):
        r = self.rng
        return (b"delete " + self.line_key() + r.choice([b""] * 8 + [b" 0", b" noreply", b" 0 noreply", b" 1", b" x y z"]) +
                self.end(),)

    def flush(self):
        return (b"flush_all" + self.rng.choice([b"", b"", b" 0", b" -1", b" 200000", b" 2592001", b" noreply"]) + b"\r\n",)

    def junk(self):
        return (self.rng.choice(JUNK) + self.end(),)

    def meta_flags(self, key, letters, most=5):
        """Words; the cas of a C may be a Number."""
        r = self.rng
        out = []
        for _ in range(r.randrange(0, most)):
            c = bytes([r.choice(letters)])
            if r.random() < 0.01:
                c = bytes([r.choice(b"!Vz1S\x7f\xff")])
            tok = b""
            if c == b"O":
                tok = b"o" * r.choice([0, 1, 5, 31, 31, 32])
            elif c in b"TNR":
                tok = r.choice([b"0", b"30", b"100", b"2592000", b"-1", b"60", b"", b"x"] if r.random() < 0.3 else [b"30", b"100"])
            elif c == b"C":
                tok = self.cas_of(key, False) if r.random() < 0.9 else b"x"
            elif c in b"DJF":
                tok = r.choice([b"0", b"1", b"5", b"5", b"10", b"18446744073709551615" if c != b"F" else b"4294967295", b"x", b""])
            elif c == b"M":
                tok = r.choice([b"S", b"E", b"A", b"P", b"R", b"I", b"D", b"+", b"-", b"X", b"", b"SS"])
            elif r.random() < 0.1:
                tok = b"zz"
            out.append((b" " + c, tok))
        return out

    def meta_key(self):
        r = self.rng
        if r.random() < 0.12:
            k = r.choice(self.binary_keys + [self.keys[0]])
            e = base64.b64encode(k)
            if r.random() < 0.15:
                e = r.choice([e[:-1], e + b"=", b"!" + e, e[:3] + b"." + e[3:], b"====", e + b"YQ=="])
            return k, e, [(b" b", b"")]
        k = self.line_key()
        return k, k, []

    def meta(self):
        r = self.rng
        op = r.choice([b"mg"] * 5 + [b"ms"] * 4 + [b"md"] * 2 + [b"ma", b"me"])
        k, word, more = self.meta_key()
        value = self.any_value()
        head = op + b" " + word
        letters = {b"mg": b"kstcfvhluqOkstcfvhluqOkstcfvhluqOTNRIPLCMFDJ", b"ms": b"kOqcFTIMkOqcFTIMCkOqcFTIMkstcfvhluNRPLDJ",
                   b"md": b"kOqkOqkOqCCIkstcfvhluTNRPLMFDJ", b"ma": b"kOqcvtkOqcvtkOqcvtNJDMNJDMCTsfhluRIPLF",
                   b"me": b"kst"}[op]
        flags = self.meta_flags(k, letters)
        if r.random() < 0.04:
            flags.append((b" " + r.choice([b"E7", b"x", b"s"]), b""))
        if r.random() < 0.01:
            flags += [(b" " + bytes([c]), b"1") for c in r.sample(sorted(set(FLAG_LETTERS)), r.choice([13, 16, 17, 18]))]
        at = r.randrange(0, len(flags) + 1) if op != b"me" else 0
        flags[at:at] = more
        piece = [head]
        if op == b"ms":
            n = b"%d" % len(value)
            if r.random() < 0.03:
                n = r.choice(BAD_NUMBERS[1:] + [b"S2"])
            piece.append(b" " + n)
        for letter, tok in flags:
            piece += [letter, tok]
        piece.append(self.end() if op != b"ms" else b"\r\n" + self.block(value))
        return tuple(piece)

    def won(self):
        """A value with a time, then an mg that asks for more."""
        k = self.key()
        v = self.any_value()
        n = self.rng.choice([b"20", b"100"])
        return (b"set %s 0 %s %d\r\n%s\r\n" % (k, n, len(v), v),)

    def ask_won(self):
        return (b"mg %s t R%s%s\r\n" % (self.key(), self.rng.choice([b"30", b"200"]), self.rng.choice([b"", b" v", b" c k"])),)

    def kept(self):
        """A value that is too large for a key that is there, then a get."""
        k = self.key()
        n = self.item_max + 1
        return (b"set %s 0 0 1\r\nx\r\nset %s 0 0 %d\r\n" % (k, k, n) + b"M" * n + b"\r\nget %s\r\n" % k,)

    def as_stored(self):
        """Stored with its key in base64, and asked for in both ways."""
        k = self.rng.choice(self.keys[:3])
        e = base64.b64encode(k)
        return (b"ms %s 2 b\r\nhi\r\nmg %s k v\r\nmg %s b k v\r\n" % (e, k, e),)

    def stale(self):
        k = self.key()
        if k not in self.m.items:
            return self.meta()
        return (b"md %s I\r\nmg %s%s\r\n" % (k, k, self.rng.choice([b"", b" v", b" k c f s", b" Oa v"])),)

    def far(self):
        """An expiry that memcached takes for over and we do not."""
        k = self.key()
        v = self.any_value()
        n = self.rng.choice([b"2147483648", b"4294967295", b"1600000000"])
        return (b"set %s %d %s %d\r\n%s\r\n" % (k, self.flags(), n, len(v), v),)

    def mutated(self):
        r = self.rng
        data = bytearray(put(r.choice([self.set, self.get, self.meta, self.delete, self.touch, self.count])(), self.base))
        if len(data) > 3000:
            return self.get()
        for _ in range(r.choice([1, 1, 2, 3])):
            at = r.randrange(len(data)) if r.random() < 0.5 else r.randrange(min(len(data), 40))
            x = r.random()
            if x < 0.3:
                data[at] = r.choice(b" \r\n0159-+abkqvOx\x00\t\xff")
            elif x < 0.55:
                del data[at]
            elif x < 0.8:
                data.insert(at, r.choice(b" \r0159-+abkqvO\x00\t\xff"))
            else:
                data[at:at] = data[max(0, at - 5):at]
            if not data:
                break
        data = bytes(data)
        if r.random() < 0.5:
            data += b"x" * r.choice([1, 10, 60]) + b"\r\n"
        elif not data.endswith(b"\n"):
            data += b"\r\n"
        return (data.replace(MARK, b"-"),)

    def mend(self):
        """Brings a key back on which they differ."""
        r = self.rng
        k = r.choice(sorted(self.m.apart))
        mine = self.m.apart[k]
        if b" " in k or b"\n" in k or b"\0" in k:
            e = base64.b64encode(k)
            v = mine.value if mine is not None else b"back"
            return (b"ms %s %d b q F%d\r\n%s\r\n" % (e, len(v), mine.flags if mine is not None else 0, v),)
        if r.random() < 0.6:
            return (b"delete %s noreply\r\n" % k,)
        v = mine.value if mine is not None else self.any_value()
        return (b"set %s %d 0 %d\r\n%s\r\n" % (k, mine.flags if mine is not None else 0, len(v), v),)

    WEIGHTS = [("set", 16), ("get", 18), ("meta", 30), ("delete", 5), ("touch", 3), ("count", 4), ("cas", 4),
               ("same_again", 4), ("junk", 7), ("mutated", 12), ("won", 2), ("ask_won", 2), ("stale", 1), ("far", 1),
               ("large", 0.25), ("kept", 0.15), ("as_stored", 0.3), ("flush", 0.3), ("quitting", 0.15),
               ("long_number", 0.5), ("nul", 0.5)]

    def long_number(self):
        r = self.rng
        v = b"%d" % r.randrange(10, 10**9)
        high = r.choice([2**32, 2**33, 2**62])
        a, b = r.choice([(high + 5, len(v)), (0, high + len(v)), (high, high + len(v))])
        return (b"set %s %d 0 %d\r\n%s\r\n" % (self.key(), a, b, v),)

    def nul(self):
        return (b"get " + self.key() + b"\0" + self.rng.choice([b"", b"x"]) + b"\r\n",)

    # what counts only as the first line of a connection
    FIRST = [b"\x16\x03\x01\2\0\n", b"\x16\x03\r\n", b"watch x\r\n", b"x" * 2049 + b"\r\n", b"x" * 3000 + b"\r\n", b"x" * 2047 + b"\n",
             b"get " + b"k" * 260 + b"\r\n"]

    def quitting(self):
        return (b"mn\r\n" + self.rng.choice([b"quit\r\n", b"quit x\r\n", b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.0\r\nHost: a\r\n",
                                 b"f HTTP/1.1\r\n", b"xx HTTP/\r\n"]),)

    def next(self):
        r = self.rng
        if self.m.apart and r.random() < 0.5:
            return self.lost() if r.random() < 0.35 else self.mend()
        return getattr(self, r.choices(self.NAMES, self.CUM)[0])()


TextSource.NAMES = [n for n, _ in TextSource.WEIGHTS]
TextSource.CUM = [w for _, w in TextSource.WEIGHTS]


# ---- packets ------------------------------------------------------------------------------------

class BinarySource(Source):
    """Packets whose opaque is set when they are added: self.opaque."""

    def packet(self, opcode, key=b"", value=b"", extras=b"", cas=None, magic=0x80, body=None):
        r = self.rng
        self.opaque += 1
        body = len(extras) + len(key) + len(value) if body is None else body
        head = struct.pack(">BBHBBHII", magic, opcode, len(key), len(extras), 0, r.choice([0, 0, 0, 7]), body,
                           self.opaque)
        return (head, cas if cas is not None else bytes(8), extras + key + value)

    def any_key(self):
        r = self.rng
        if r.random() < 0.05:
            return r.choice(self.binary_keys)
        return self.key()

    def expiry(self):
        return self.rng.choice([0] * 12 + [1, 100, 2592000, 2592001, 1000000000, 2000000000, 0x80000000, 0xffffffff])

    def get(self):
        r = self.rng
        return self.packet(r.choice([0, 0, 9, 0xc, 0xd]), self.any_key(), cas=r.choice([None] * 9 + [b"\0" * 7 + b"\5"]))

    def gat(self):
        return self.packet(self.rng.choice([0x1c, 0x1d, 0x1e, 0x23, 0x24]), self.any_key(),
                           extras=struct.pack(">I", self.expiry()))

    def set(self):
        r = self.rng
        k = self.any_key()
        return self.packet(r.choice([1, 1, 1, 0x11, 0x11, 2, 2, 0x12, 3, 0x13]), k, self.any_value(),
                           struct.pack(">II", self.flags(), self.expiry()),
                           self.cas_of(k, True) if r.random() < 0.12 else None)

    def same_again(self):
        if not self.m.items:
            return self.set()
        k = self.rng.choice(sorted(self.m.items))
        it = self.m.items[k]
        return self.packet(self.rng.choice([1, 0x11]), k, it.value, struct.pack(">II", it.flags, 0))

    def append(self):
        k = self.any_key()
        return self.packet(self.rng.choice([0xe, 0xf, 0x19, 0x1a]), k, self.any_value(),
                           cas=self.cas_of(k, True) if self.rng.random() < 0.2 else None)

    def count(self):
        r = self.rng
        k = self.any_key()
        return self.packet(r.choice([5, 6, 0x15, 0x16]), k, b"",
                           struct.pack(">QQI", r.choice([0, 1, 10, 2**64 - 1]), r.choice([0, 5, 2**63]),
                                       r.choice([0, 100, 0xffffffff, 0xffffffff])),
                           self.cas_of(k, True) if r.random() < 0.15 else None)

    def delete(self):
        k = self.any_key()
        return self.packet(self.rng.choice([4, 4, 0x14]), k, cas=self.cas_of(k, True) if self.rng.random() < 0.3 else None)

    def plain(self):
        r = self.rng
        op = r.choice([0xa, 0xa, 0xb, 0x10, 0x10, 0x20, 0x21, 0x22, 0x70, 0xff, 0x1b, 0x1f, 0x30, 0x40])
        if op == 0x10:
            return self.packet(op, r.choice([b"no such", b"reset"]))
        if op in (0x21, 0x22):
            return self.packet(op, b"PLAIN", r.choice([b"", b"\0u\0p"]))
        if op >= 0x70 or op in (0x1b, 0x1f, 0x30, 0x40):
            return self.packet(op, value=r.choice([b"", b"v" * 30]))
        return self.packet(op)

    def unknown_key(self):
        n = self.rng.choice([1, 2])
        piece = self.packet(self.rng.choice([0x70, 0x1b, 0xfe]), b"u" * (24 * n))
        for _ in range(n):
            piece += self.packet(0x0a)
        return piece

    def packet_value(self):
        self.opaque += 1
        noop = struct.pack(">BBHBBHIIQ", 0x80, 0x0a, 0, 0, 0, 0, 0, self.opaque + 1, 0)
        self.opaque -= 1
        piece = self.packet(0x1c, b"nobody has this", noop, struct.pack(">I", 0))
        self.opaque += 1
        return piece

    def flush(self):
        n = self.rng.choice([None, 0, 200000, 2592001])
        return self.packet(self.rng.choice([8, 0x18]), extras=b"" if n is None else struct.pack(">I", n))

    def large(self):
        n = self.item_max + self.rng.choice([1, 2, -400])
        return self.packet(self.rng.choice([1, 0x11, 2, 0xe]), self.any_key(), b"M" * n,
                           struct.pack(">II", 0, 0)) if self.rng.random() < 0.7 else \
            self.packet(self.rng.choice([0xe, 0x19]), self.any_key(), b"M" * n)

    def wrong(self):
        """What ends the connection, mostly."""
        r = self.rng
        op = r.choice([0, 1, 2, 3, 4, 5, 7, 8, 9, 0xa, 0xb, 0xc, 0xe, 0x10, 0x11, 0x14, 0x1c, 0x1d, 0x20, 0x21, 0x23, 0x70])
        x = r.random()
        k = self.any_key()
        if x < 0.15:
            return self.packet(0x0a) + self.packet(op, k, magic=r.choice([0x81, 0, 0x0d, 0x67]))
        if x < 0.3:
            return self.packet(op, k, b"abcd", bytes(r.choice([0, 4, 8])), body=r.choice([0, 1, 5]))
        if x < 0.45:
            return self.packet(op, b"k" * r.choice([251, 300, 1000]), b"", bytes(r.choice([0, 4, 8, 20])))
        return self.packet(op, r.choice([b"", k]), r.choice([b"", b"x"]), bytes(r.choice([0, 1, 4, 8, 12, 20, 24, 255])))

    def mutated(self):
        r = self.rng
        piece = r.choice([self.set, self.get, self.gat, self.count, self.delete, self.append, self.plain])()
        head = bytearray(piece[0])
        at = r.choice([1, 2, 3, 4, 8, 9, 10, 11]) if r.random() < 0.9 else 0
        head[at] = r.choice([0, 1, 4, 8, 0x80, 0xff, head[at] ^ 1, r.randrange(256)])
        return (bytes(head),) + piece[1:]

    def mend(self):
        r = self.rng
        k = r.choice(sorted(self.m.apart))
        mine = self.m.apart[k]
        if r.random() < 0.3:
            return self.packet(0x14, k)
        v = mine.value if mine is not None else self.any_value()
        return self.packet(r.choice([1, 0x11]), k, v, struct.pack(">II", mine.flags if mine is not None else 0, 0))

    def lost(self):
        left = [k for k, v in self.m.apart.items() if v is not None and k in self.m.lost]
        if not left:
            return self.get()
        return self.packet(self.rng.choice([0, 9]), self.rng.choice(sorted(left)))

    WEIGHTS = [("get", 22), ("set", 22), ("gat", 10), ("same_again", 5), ("append", 5), ("count", 6), ("delete", 8),
               ("plain", 6), ("flush", 0.3), ("large", 0.12), ("wrong", 1), ("mutated", 3), ("unknown_key", 0.5),
               ("packet_value", 0.1)]

    def next(self):
        r = self.rng
        if self.m.apart and r.random() < 0.5:
            return self.lost() if r.random() < 0.35 else self.mend()
        return getattr(self, r.choices(self.NAMES, self.CUM)[0])()


BinarySource.NAMES = [n for n, _ in BinarySource.WEIGHTS]
BinarySource.CUM = [w for _, w in BinarySource.WEIGHTS]


def make(seed, number, model, item_max, login=None):
    """Stream `number` of `seed`, with the way it is cut. login: (reader, source) of clients that must log in."""
    rng = random.Random("%s/%d" % (seed, number))
    protocol, reader, maker = ("binary", Packets, BinarySource) if rng.random() < 0.4 else ("text", Meta, TextSource)
    if login is not None:
        reader, maker = login
        protocol = "binary" if issubclass(maker, BinarySource) else "text"
    s = Stream(protocol, model.count, reader)
    source = maker(rng, model, s.base, item_max)
    source.opaque = 0
    want = rng.choice([20, 100, 100, 200]) if login is None else rng.choice([3, 10, 30])
    if maker is TextSource and number % 12 == 5:
        s.add((TextSource.FIRST[number // 12 % len(TextSource.FIRST)],), model)
    tries = 0
    while len(s.pieces) < want and not s.closed and tries < 20 * want:
        tries += 1
        s.add(source.next(), model)
    s.cut = rng.choice(["whole", "pieces", "bytes"])
    if s.closed and len(s.pieces) == 1:
        s.cut = "whole"  # a long line is judged by how it arrives
    s.rng = rng
    return s
