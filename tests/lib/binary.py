# SPDX-License-Identifier: Apache-2.0
"""
Packets of memcached's binary protocol, made and taken apart, byte by byte, by no library.

    with Binary(daemon.connect()) as b:
        b.exchange(SET(b"k", b"value") + GET(b"k"))     # [Answer(0x01, OK, ...), Answer(0x00, OK, ...)]
"""
import collections
import itertools
import struct

OK, MISSING, EXISTS, TOO_BIG, INVALID, AUTH = 0x0, 0x1, 0x2, 0x3, 0x4, 0x20
UNKNOWN, IMMUTABLE, NO_PATH = 0x81, 0x83, 0x86

# cas: the number; in comparisons between servers see masked()
Answer = collections.namedtuple("Answer", "opcode status opaque cas extras key value")
_opaque = itertools.count(0x10000)


def packet(opcode, key=b"", value=b"", extras=b"", cas=0, opaque=None, magic=0x80, body=None):
    body = len(extras) + len(key) + len(value) if body is None else body
    opaque = next(_opaque) if opaque is None else opaque
    return struct.pack(">BBHBBHIIQ", magic, opcode, len(key), len(extras), 0, 0, body, opaque,
                       cas) + extras + key + value


def SET(key, value=b"", flags=0, expiry=0, opcode=0x01, cas=0, opaque=None):
    return packet(opcode, key, value, struct.pack(">II", flags, expiry), cas, opaque)


def ADD(key, value=b"", flags=0, opaque=None):
    return SET(key, value, flags, opcode=0x02, opaque=opaque)


def GET(key, opcode=0x00, opaque=None):
    return packet(opcode, key, opaque=opaque)


def TOUCH(key, expiry=0, opcode=0x1c, opaque=None):
    return packet(opcode, key, extras=struct.pack(">I", expiry), opaque=opaque)


def NUMBER(key, opcode, by=1, initial=0, expiry=0, opaque=None):
    return packet(opcode, key, extras=struct.pack(">QQI", by, initial, expiry), opaque=opaque)


def NOOP(opaque=None):
    return packet(0x0a, opaque=opaque)


def parse(data):
    """(answers, what is left of the bytes)"""
    out = []
    while len(data) >= 24:
        magic, opcode, key, extras, kind, status, body, opaque, cas = struct.unpack(">BBHBBHIIQ", data[:24])
        assert magic == 0x81 and kind == 0 and key + extras <= body, data[:24]
        if len(data) < 24 + body:
            break
        b = data[24:24 + body]
        out.append(Answer(opcode, status, opaque, cas, b[:extras], b[extras:extras + key], b[extras + key:]))
        data = data[24 + body:]
    return out, data


def masked(answers):
    """A cas is a number of its server's: only whether there is one can be the same."""
    return [a._replace(cas=bool(a.cas)) for a in answers]


class Binary:
    def __init__(self, conn):
        self.c = conn

    def one(self):
        head = self.c.read(24)
        body = self.c.read(struct.unpack(">I", head[8:12])[0])
        got, rest = parse(head + body)
        assert len(got) == 1 and rest == b""
        return got[0]

    def until_noop(self, opaque):
        out = []
        while True:
            a = self.one()
            if a.opaque == opaque:
                assert a == Answer(0x0a, OK, opaque, 0, b"", b"", b""), a
                return out
            out.append(a)

    def exchange(self, *pieces):
        """Sends the pieces one by one, then a noop, and returns what came before its answer."""
        for p in pieces[:-1]:
            self.c.send(p)
            self.c.taken()
        mark = next(_opaque)
        self.c.send(pieces[-1] + NOOP(mark))
        return self.until_noop(mark)

    def ask(self, data):
        """One answer."""
        got = self.exchange(data)
        assert len(got) == 1, got
        return got[0]

    def rest(self):
        """All answers until the other side closes."""
        got, left = parse(self.c.rest())
        assert left == b"", left
        return got

    def stats(self, group=b""):
        self.c.send(packet(0x10, group))
        out = {}
        while True:
            a = self.one()
            if a.status != OK:
                return a.status
            if not a.key:
                return out
            out[a.key.decode()] = a.value.decode()

    def close(self):
        self.c.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
