# SPDX-License-Identifier: Apache-2.0
"""Random packets, valid and not."""
import struct

from source import Source

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
                           struct.pack(">II", 0, self.expiry() if n > self.item_max else 0)) if self.rng.random() < 0.7 else \
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
