# SPDX-License-Identifier: Apache-2.0
"""Random text and meta requests, valid and not."""
import base64

from lines import KEY_MAX
from source import MARK, Source, put

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
        exp = self.expiry() if n > self.item_max else b"0"
        if name == b"ms":
            return (b"ms %s %d T%s\r\n" % (k, n, exp) + b"M" * n + b"\r\n",)
        return (b"%s %s 0 %s %d%s\r\n" % (name, k, exp, n, self.noreply()) + b"M" * n + r.choice([b"\r\n", b"\r\n", b"XX"]),)

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
