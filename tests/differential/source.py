# SPDX-License-Identifier: Apache-2.0
"""
What random requests are made of: a handful of keys and values of the stream's own.

A piece is a tuple of bytes and of Numbers: memcached's counter moves on between runs, so what names it is kept as a
distance from where the counter stood when the stream began.
"""
import struct

from lines import KEY_MAX

MARK = b"~"  # stands in no key, value, or opaque: only in markers
LAST = 0x40000000  # opaque of what is asked before a last piece


class Number:
    """Of memcached's counter: `off` after the start of the stream, written as decimal digits or as 8 bytes."""
    __slots__ = ("off", "packed")

    def __init__(self, off, packed=False):
        self.off, self.packed = off, packed

    def put(self, base):
        return struct.pack(">Q", base + self.off) if self.packed else b"%d" % (base + self.off)


def put(piece, base):
    return b"".join(p if isinstance(p, bytes) else p.put(base) for p in piece)


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
