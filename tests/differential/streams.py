# SPDX-License-Identifier: Apache-2.0
"""
Random streams of requests, over a handful of keys. The same seed gives the same streams.
"""
import copy
import random
import struct

from ask_lines import TextSource
from ask_packets import BinarySource
from meta import Meta
from model import Unknown
from packets import Packets
from source import LAST, MARK, put


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
