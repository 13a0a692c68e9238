# SPDX-License-Identifier: Apache-2.0
"""
Streams of clients that must say who they are first, in text (-Y) or by SASL PLAIN (-S): right and wrong logins, requests
of strangers, and what follows. memcached's users are in a file of Cyrus SASL then, which saslpasswd2 makes.
"""
import os
import socket
import subprocess

from ask_lines import TextSource
from ask_packets import BinarySource
from meta import Meta
from model import Unknown
from packets import HEAD, Packets

USERS = {b"user": b"pass", b"other": b"a:word", b"u": b"p"}
FILE = b"".join(b"%s:%s\n" % x for x in USERS.items())


class Logins(Meta):
    """Reads as a stranger's until a login was right; `known` is kept by the model, as it lasts for the connection."""

    def request(self):
        if self.m.known:
            return Meta.request(self)
        self.slow = True
        self.stranger()
        if self.at < len(self.data):
            raise Unknown("of several lines of strangers memcached answers the last alone")
        return None

    def stranger(self):
        nl = self.data.find(b"\n", self.at)
        if nl < 0 or nl - self.at > 1000:
            raise Unknown("a line without an end, or a long one")
        line = self.data[self.at:nl].rstrip(b"\r")
        if b"\0" in line or line[:2] == b"\x16\x03" or line[:1] == b"\x80":
            raise Unknown("a NUL, or another protocol")
        self.at = nl + 1
        words = [w for w in line.split(b" ") if w]
        if line in (b"version", b"mn"):
            said = b"MN" if line == b"mn" else b"VERSION " + self.m.version
            return self.differ("stranger", "meta", answer=said)
        if words and words[0] in (b"version", b"mn", b"quit"):
            raise Unknown("more words of a stranger")
        if len(words) < 5 or words[0] != b"set":
            return self.same()
        if not words[4].isdigit():
            if words[4][:1] in b"+-" or words[4].strip() != words[4]:
                raise Unknown("a number of another form")
            return self.same()
        n = int(words[4])
        if n > 500:
            raise Unknown("a long login")
        value, good = self.body(n)
        if not good:
            return self.same()
        if b"\0" in value or value.startswith(b" "):
            raise Unknown("a login of other words")
        words = [w for w in value.split(b" ") if w]
        if len(words) < 2:
            if value.endswith(b" ") or not words:
                raise Unknown("a login of other words")
            return self.same()
        theirs = USERS.get(words[0]) == words[1]
        name, _, word = value.partition(b" ")
        ours = USERS.get(name) == word
        if theirs and not ours:
            self.closed = True  # only one is in
            return self.differ("login-words", "text")
        if ours and not theirs:
            raise Unknown("a password of several words")
        self.m.known = ours
        return self.same()


class LoginSource(TextSource):
    def login(self):
        r = self.rng
        name, word = r.choice(sorted(USERS.items()))
        if r.random() < 0.6:
            name, word = r.choice([(name, b"wrong"), (b"nobody", word), (name.upper(), word), (name, word + b"x"), (word, name),
                                   (name, b""), (b"x" * 300, b"y")])
        block = name + r.choice([b" "] * 20 + [b"  ", b"", b":"]) + word + r.choice([b""] * 20 + [b" x", b" "])
        n = r.choice([len(block)] * 20 + [len(block) + 1, max(0, len(block) - 1)])
        return (b"set %s 0 0 %d%s\r\n%s\r\n" % (r.choice([b"x", b"k" * 300]), n, r.choice([b"", b" noreply"]), block),)

    def stranger(self):
        return (self.rng.choice([b"version", b"mn", b"get a", b"set a 0 0", b"add a 0 0 1", b"mg a v", b"", b"set x 0 0 x",
                                 b"stats", b"flush_all", b"GET / HTTP/1.1", b"verbosity 1", b"ms x 2", b"x y z"]) + b"\r\n",)

    def next(self):
        r = self.rng
        if not self.m.known:
            return self.login() if r.random() < 0.5 else self.stranger() if r.random() < 0.7 else TextSource.next(self)
        return TextSource.next(self)


class SaslPackets(Packets):
    """A stranger's packets: SASL, version; all else is refused, and the connection closed."""
    ASKED = 0x20, b"PLAIN"

    def packet(self):
        d, at = self.data, self.at
        if len(d) - at < 24:
            raise Unknown("half a packet")
        magic, opcode, key_n, extras_n, _, _, body, opaque, _ = HEAD.unpack(d[at:at + 24])
        if self.m.known:
            if opcode in (0x20, 0x21, 0x22):
                raise Unknown("a second login")
            return Packets.packet(self)
        if magic != 0x80 or len(d) - at < 24 + body or key_n + extras_n > body or extras_n:
            raise Unknown("no packet")
        key = d[at + 24:at + 24 + key_n]
        value = d[at + 24 + key_n:at + 24 + body]
        self.at = at + 24 + body
        self.opcode, self.opaque, self.quiet = opcode, opaque, False
        if opcode == 0x0a and not body:
            self.differ("stranger", {}, {})
            return self.end()
        if opcode in (0x20, 0x0b):
            if body:
                return self.end()
            return self.differ("version", {"value": b"1.6.18"}, {"value": self.m.version}) if opcode == 0x0b else None
        if opcode not in (0x21, 0x22):
            if opcode in (7, 0x17):
                raise Unknown("a stranger's quit")
            return self.end()
        if not key_n:
            return self.end()
        if key_n > 32:
            return None
        if len(value) > 2000 or key != b"PLAIN" and opcode == 0x22:
            raise Unknown("a long login, or a step of something else")
        if key != b"PLAIN":
            self.m.step = False
            return None
        if opcode == 0x22 and not self.m.step:
            return None
        if opcode == 0x21:
            self.m.step = not value
        words = value.split(b"\0")
        if len(words) == 3 and words[0] in (b"", words[1]) and USERS.get(words[1]) == words[2]:
            self.m.known = True
        elif len(words) == 3 and words[0]:
            raise Unknown("a login for somebody else")
        return None


class SaslSource(BinarySource):
    def login(self):
        r = self.rng
        name, word = r.choice(sorted(USERS.items()))
        if r.random() < 0.6:
            name, word = r.choice([(name, b"wrong"), (b"nobody", word), (name, word + b"x"), (word, name), (name, b"")])
        op, mech = r.choice([(0x21, b"PLAIN")] * 8 + [(0x22, b"PLAIN"), (0x21, b"CRAM-MD5"), (0x21, b"P" * 33), (0x21, b"")])
        value = r.choice([b"", b"", b"", name]) + b"\0" + name + b"\0" + word
        return self.packet(op, mech, r.choice([value] * 8 + [b"", name, b"\0", b"\0" + name]))

    def stranger(self):
        r = self.rng
        if r.random() < 0.9:
            return self.packet(r.choice([0x20, 0x0b]))
        return self.packet(0x0a) if r.random() < 0.5 else BinarySource.next(self)

    def next(self):
        if not self.m.known:
            return self.login() if self.rng.random() < 0.6 else self.stranger()
        return BinarySource.next(self)


class Plain:
    """No login at all."""
    kind, reader, theirs, ours, env = None, None, [], [], {}
    hello = b""

    def __init__(self, folder):
        pass


class Text(Plain):
    kind, reader, hello = "text", (Logins, LoginSource), b"set x 0 0 3\r\nu p\r\n"

    def __init__(self, folder):
        users = os.path.join(folder, "users")
        with open(users, "wb") as f:
            f.write(FILE)
        self.theirs = self.ours = ["-Y", users]


class Sasl(Text):
    kind, reader, hello = "sasl", (SaslPackets, SaslSource), None

    def __init__(self, folder):
        Text.__init__(self, folder)
        self.theirs, self.ours = ["-S"], ["-S"] + self.ours
        self.env = {"SASL_CONF_PATH": folder}
        base = os.path.join(folder, "sasldb")
        with open(os.path.join(folder, "memcached.conf"), "w") as f:
            f.write("mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: %s\n" % base)
        for name, word in USERS.items():
            subprocess.run(["/usr/sbin/saslpasswd2", "-p", "-c", "-u", socket.gethostname(), "-f", base, name], input=word,
                           check=True)


LOGINS = {None: Plain, "text": Text, "sasl": Sasl}
