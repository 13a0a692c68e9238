# SPDX-License-Identifier: Apache-2.0
"""
Text and meta requests, read as memcached reads them, as far as the model must know: what changes, and
where an entry of the table says what each side answers. read() takes whole requests from a piece of a stream.
"""
import base64
import re

from model import Expiry, Item, Unknown

SAME = None  # an answer that must be the same on both sides
SPACE = rb"[ \t\n\v\f\r]"
_NUMBER = re.compile(rb"^[ \t\n\v\f\r]*([+-]?)([0-9]+)(?:$|[ \t\n\v\f\r])")
BODY_MAX = 2147483645
KEY_MAX = 250
LINE_MAX = 2048
END = b"END\r\n"
IMMUTABLE = "SERVER_ERROR immutable: a stored value never changes"


def number(word):
    m = _NUMBER.match(word)
    if m is None:
        return None
    return -int(m.group(2)) if m.group(1) == b"-" else int(m.group(2))


def signed(word):
    """64 bits with a sign, or None."""
    n = number(word)
    return n if n is not None and -2**63 <= n < 2**63 else None


def unsigned(word):
    n = number(word)
    if n is not None and n < 0:
        raise Unknown("a negative number")
    if n is None or n >= 2**64 or n >= 2**63 and b"-" in word:
        return None
    return n


def value_number(value):
    """The number that memcached reads in a value, or None; it goes by C strings, beyond the value's end."""
    if not value.strip(b" \t\n\v\f\r"):
        raise Unknown("memcached looks for a number behind the value")
    n = number(value.partition(b"\0")[0] + b"\r\n")
    if n is not None and (n < 0 or 2**63 <= n < 2**64):
        raise Unknown("memcached looks for a sign, also behind the value")
    return n if n is not None and n < 2**64 else None


def decode(word):
    """(what memcached makes of base64, what we do); None: refused."""
    table = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    seen = [c for c in word if c in table or c == 61]
    theirs = None
    if seen and len(seen) % 4 == 0:
        out, pad = bytearray(), 0
        for i in range(0, len(seen), 4):
            block = [0 if c == 61 else table.index(c) for c in seen[i:i + 4]]
            pad += sum(c == 61 for c in seen[i:i + 4])
            v = block[0] << 18 | block[1] << 12 | block[2] << 6 | block[3]
            out += v.to_bytes(3, "big")
            if pad:
                out = None if pad > 2 else out[:-pad]
                break
        theirs = bytes(out) if out else None
    ours = None
    if len(word) % 4 == 0 and re.match(rb"^[A-Za-z0-9+/]+={0,2}$", word):
        ours = base64.b64decode(word)
    return theirs, ours or None


class Lines:
    """Reads requests; `answers` grows by SAME or (entry, memcached's bytes, ours)."""

    def __init__(self, model, first=False):
        self.m = model
        self.first = first  # of its connection
        self.slow = False   # nothing else may be sent until it is answered

    def read(self, data):
        """(answers, number of requests, closed). Unknown: this piece cannot be followed."""
        self.data, self.at = data, 0
        self.answers = []
        self.closed = False
        n = 0
        while self.at < len(data) and not self.closed:
            self.request()
            n += 1
        return self.answers, n, self.closed

    # ---- answers ----

    def same(self):
        self.answers.append(SAME)

    def differ(self, name, form, quiet=False, theirs=None, ours=None, **words):
        """quiet: nobody answers. theirs, ours: instead of what the table says, if it says <answer>."""
        if quiet:
            return self.same()
        e = self.m.entries[name]
        sides = []
        for side, whole in ((0, theirs), (1, ours)):
            if whole is not None:
                words["answer"] = whole
            said = e.answer(side, form, words)
            sides.append(said + b"\r\n" if said else b"")
        self.answers.append((name, sides[0], sides[1]))

    # ---- lines ----

    def request(self):
        nl = self.data.find(b"\n", self.at)
        if nl < 0:
            raise Unknown("a line without an end")
        start, end = self.at, nl
        if end - start > 1 and self.data[end - 1] == 13:
            end -= 1
        line = self.data[start:end]
        self.at, self.start = nl + 1, start
        if self.first and self.at == len(self.data):
            if line[:2] == b"\x16\x03":
                return self.last("tls-hello")
            if nl - start > LINE_MAX and line[:4] == b"xxxx":
                return self.last("line-long")
            if line == b"watch x":
                return self.last("watch")
        if line[:2] == b"\x16\x03" and start == 0:
            raise Unknown("a hello of TLS")
        if b"\0" in line:
            return self.nul(line)
        if nl - start > LINE_MAX and line.lstrip(b" ")[:4] != b"get " and line.lstrip(b" ")[:5] != b"gets ":
            raise Unknown("a long line")
        words = [w for w in line.split(b" ") if w]
        if not words or len(words[0]) < 2:
            return self.same()
        do = self.COMMANDS.get(words[0])
        if do is not None:
            return do(self, words)
        if words[min(len(words), 23) - 1][:5] == b"HTTP/" and words[0][:1] not in b"gsacidt" and not (
                words[0][:1] == b"m" and len(words[0]) == 2):
            if not self.flushed(start):
                raise Unknown("memcached drops the answers before it")
            self.closed = True
            return None
        return self.same()

    def flushed(self, start):
        """An mn before: what was asked until then was answered."""
        return self.data[:start].endswith(b"mn\r\n") and (start == 4 or self.data[start - 5] == 10)

    def last(self, name):
        self.differ(name, "text")
        self.closed = True

    def nul(self, line):
        words = line.split(b" ")
        if len(words) != 2 or words[0] != b"get" or len(words[1]) > KEY_MAX or self.m.look(words[1]) is not None:
            raise Unknown("a NUL")
        key = words[1].partition(b"\0")[0]
        it = self.m.look(key)
        if it is None:
            raise Unknown("a NUL")
        it.fetched = True
        e = self.m.entries["nul"]
        words = {"key": key, "flags": b"%d" % it.flags, "bytes": b"%d" % len(it.value)}
        self.answers.append(("nul", e.answer(0, "text", words) + b"\r\n" + it.value + b"\r\n" + END,
                             e.answer(1, "text", words) + b"\r\n"))

    def body(self, n):
        """The block and whether it ends well."""
        end = self.at + n + 2
        if end > len(self.data):
            raise Unknown("a block that goes on")
        value, tail = self.data[self.at:self.at + n], self.data[self.at + n:end]
        self.at = end
        return value, tail == b"\r\n"

    # ---- reading ----

    def get(self, words):
        cas = words[0] in (b"gets", b"gats")
        touch = words[0] in (b"gat", b"gats")
        keys = words[1:]
        expiry = None
        if not keys:
            return self.same()
        if touch:
            n = signed(keys[0])
            if n is None:
                return self.same()
            expiry = Expiry(n, self.m.started)
            if expiry.theirs != expiry.ours:
                raise Unknown("an expiry that only one takes for over")
            keys = keys[1:]
        bad = any(len(k) > KEY_MAX for k in keys)
        if bad and not self.flushed(self.start):
            raise Unknown("memcached drops the answers before it")
        if bad and sum(len(k) + 1 for k in words) > LINE_MAX - 100:
            raise Unknown("a bad key far behind")
        sides = [[], []]
        for k in keys:
            if len(k) > KEY_MAX:
                break  # what stands before it was looked at, and touched
            if k in self.m.apart and len(keys) == 1 and words[0] == b"get":
                return self.lost(k)
            it = self.m.look(k)
            if it is None:
                continue
            it.fetched = True
            if expiry is not None:
                if bad:
                    raise Unknown("touched before a bad key")
                it.expires = expiry.seconds
                if expiry.ours:
                    self.m.drop(k)
            if cas and not bad:
                fill = {"key": k, "flags": b"%d" % it.flags, "bytes": b"%d" % len(it.value), "count": b"%d" % it.count,
                        "hash": b"%d" % it.hash()}
                for side in (0, 1):
                    sides[side].append(self.m.entries["cas"].answer(side, "text", fill) + b"\r\n" + it.value + b"\r\n")
        if bad or not sides[0]:
            return self.same()
        self.answers.append(("cas", b"".join(sides[0]) + END, b"".join(sides[1]) + END))
        return None

    def lost(self, key):
        """A get of what only we still have."""
        name, mine = self.m.lost.get(key, (None, None))
        if name is None or self.m.apart[key] is not mine or mine is None:
            raise Unknown("not known what memcached has")
        words = {"key": key, "flags": b"%d" % mine.flags, "bytes": b"%d" % len(mine.value)}
        e = self.m.entries[name]
        self.answers.append((name, e.answer(0, "text", words) + b"\r\n",
                             e.answer(1, "text", words) + b"\r\n" + mine.value + b"\r\n" + END))

    def touch(self, words):
        if len(words) not in (3, 4) or len(words[1]) > KEY_MAX:
            return self.same()
        n = signed(words[2])
        if n is None:
            return self.same()
        expiry = Expiry(n, self.m.started)
        if expiry.theirs != expiry.ours:
            raise Unknown("an expiry that only one takes for over")
        it = self.m.look(words[1])
        if it is not None:
            it.fetched = True
            it.expires = expiry.seconds
            if expiry.ours:
                self.m.drop(words[1])
        return self.same()

    # ---- writing ----

    def update(self, words):
        op = words[0]
        want = 6 if op == b"cas" else 5
        if len(words) not in (want, want + 1):
            return self.same()
        quiet = words[-1] == b"noreply"
        key = words[1]
        flags, exptime, n = number(words[2]), signed(words[3]), signed(words[4])
        unique = unsigned(words[5]) if op == b"cas" else 0
        if len(key) > KEY_MAX or flags is None or not -2**63 < flags < 2**64 or exptime is None or n is None or unique is None:
            return self.same()
        if flags < 0:
            if flags > -2**63 + 1:
                return self.same()
            raise Unknown("a negative number of 64 bits")
        if n >= 2**31 or n < -2**31:
            return self.long_number(words, flags, n)
        if n < 0 or n > BODY_MAX:
            return self.same()
        if flags >= 2**32:
            return self.long_number(words, flags, n)
        expiry = Expiry(exptime, self.m.started)
        theirs_large, ours_large = self.m.too_large(key, flags, n)
        value, good = self.body(n)
        if op not in (b"set", b"add"):
            return self.change(op, key, value, flags, unique, good, quiet, theirs_large, expiry)
        if theirs_large or ours_large:
            return self.large(op, key, value, flags, good, quiet, theirs_large, ours_large)
        if not good:
            return self.same()
        return self.store(op == b"add", key, value, flags, expiry, quiet)

    def store(self, add, key, value, flags, expiry, quiet):
        m = self.m
        if key in m.apart:
            if add:
                raise Unknown("an add where they differ")
            m.agree(key, value, flags, expiry)
            return self.same()
        it = m.items.get(key)
        if it is not None and add:
            return self.same()
        if expiry.theirs != expiry.ours:
            if it is not None or add or expiry.ours:
                raise Unknown("an expiry that only one takes for over")
            m.next_count()
            m.apart[key] = Item(value, flags, 0)
            m.gone.add(key)
            m.lost[key] = ("expiry", m.apart[key])
            return self.same()
        if not expiry.theirs and it is not None and not it.same(value, flags):
            m.next_count()
            m.part(key)
            return self.differ("set-other", "text", quiet)
        m.link(key, value, flags, expiry)
        return self.same()

    def large(self, op, key, value, flags, good, quiet, theirs, ours):
        m = self.m
        if ours:
            it = m.look(key)
            if op == b"set" and it is not None:
                m.lose(key, "too-large-kept")
            return self.same()
        # only for memcached, whose limit holds its head and the key, too
        if not good or m.look(key) is not None:
            raise Unknown("too large for memcached alone")
        m.apart[key] = Item(value, flags, 0)
        return self.differ("too-large-edge", "text", quiet)

    def change(self, op, key, value, flags, unique, good, quiet, theirs_large, expiry):
        m = self.m
        if theirs_large:
            m.look(key)
            if not good:
                raise Unknown("too large and a bad end")
            return self.differ("change-large", "text", quiet)
        if not good:
            return self.same()
        it = m.look(key)
        if op == b"cas":
            if it is None:
                return self.differ("cas-missing", "text", quiet)
            if unique != it.count:
                return self.differ("cas-wrong", "text", quiet)
            m.next_count()
            m.part(key)
            return self.differ("cas-right", "text", quiet)
        if it is None:
            return self.differ("change-missing", "text", quiet)
        if op != b"replace" and m.size(key, it.flags, len(it.value) + len(value)) > m.item_max:
            return self.differ("change-missing", "text", quiet)  # does not fit: NOT_STORED as well
        m.next_count()
        m.part(key)
        return self.differ("change", "text", quiet)

    def long_number(self, words, flags, n):
        """memcached keeps 32 bits of flags or length; we refuse, and read the block as a line."""
        m, key = self.m, words[1]
        low = (n + 2**31 & 0xffffffff) - 2**31
        if words[0] != b"set" or len(words) != 5 or low < 2 or signed(words[3]) != 0 or m.look(key) is not None:
            raise Unknown("a number of more than 32 bits")
        value, good = self.body(low)
        flags &= 0xffffffff
        if not good or not value.isdigit() or m.too_large(key, flags, low)[0]:
            raise Unknown("a number of more than 32 bits")
        m.next_count()
        m.apart[key] = None
        return self.differ("number-32", "text")

    def counted(self, words):
        if len(words) not in (3, 4) or len(words[1]) > KEY_MAX:
            return self.same()
        delta = unsigned(words[2])
        if delta is None:
            return self.same()
        quiet = words[-1] == b"noreply"
        name, n = self.arithmetic(words[1], delta, words[0] == b"incr", 0)
        return self.differ(name, "text", quiet, number=b"%d" % n)

    def arithmetic(self, key, delta, up, unique):
        """(entry, the number that memcached has then)"""
        m = self.m
        it = m.look(key)
        if it is None:
            return "count-missing", 0
        if not it.value or m.size(key, it.flags, len(it.value)) > m.item_max // 2:
            return "count-text", 0
        if unique and it.count != unique:
            return "cas-wrong", 0
        n = value_number(it.value)
        if n is None:
            return "count-text", 0
        n = (n + delta) % 2**64 if up else max(0, n - delta)
        m.next_count()
        m.part(key)
        return "count", n

    def delete(self, words):
        if len(words) < 2 or len(words) > 4:
            return self.same()
        quiet = len(words) > 2 and words[-1] == b"noreply"
        zero = len(words) > 2 and words[2] == b"0"
        if len(words) == 3 and not (zero or quiet) or len(words) == 4 and not (zero and quiet):
            return self.same()
        key = words[1]
        if len(key) > KEY_MAX:
            return self.same()
        if quiet:
            self.m.drop(key)
        else:
            if self.m.look(key) is not None:
                self.m.drop(key)
        return self.same()

    def flush_all(self, words):
        if len(words) > 3:
            return self.same()
        quiet = words[-1] == b"noreply"
        n = 0
        if len(words) != (2 if quiet else 1):
            n = signed(words[1])
            if n is None:
                return self.same()
            if not -2**31 <= n < 2**31 or 0 < n < 100000:
                raise Unknown("a delay of more than 31 bits, or a short one")
        if n <= 0:
            self.m.flush()
            self.m.flushed = True
        else:
            if self.m.flushed:
                raise Unknown("memcached forgets the flush before")
            if n > 2592000:
                if n > self.m.started - 200000:
                    raise Unknown("a date about now")
                self.m.next_count()
        return self.same()

    def version(self, words):
        self.differ("version", "text", version=self.m.version)

    def quit(self, words):
        self.closed = True

    def unfollowed(self, words):
        raise Unknown("not compared here")

    # ---- steering ----

    def slabs(self, words):
        if len(words) == 4 and words[1] == b"reassign":
            a, b = signed(words[2]), signed(words[3])
            if a is None or b is None or not (a > 63 and b > 63):
                raise Unknown("a class that may exist")
            return self.differ("slabs-reassign", "text")
        return self.same()

    def lru(self, words):
        if len(words) < 3:
            return self.same()
        if words[1] == b"mode" and words[2] in (b"segmented",) or words[1] == b"temp_ttl" and words[2] == b"-1":
            return self.differ("lru", "text", words[-1] == b"noreply")
        if words[1] in (b"tune", b"mode", b"temp_ttl"):
            raise Unknown("how memcached's lists are tuned")
        return self.same()

    def crawler(self, words):
        if len(words) == 3 and words[1] == b"crawl":
            if words[2] != b"x":
                raise Unknown("crawls take time")
            return self.differ("crawl", "text")
        if len(words) == 3 and words[1] == b"metadump" or len(words) == 2 and words[1] == b"disable":
            raise Unknown("not compared here")
        if len(words) == 2 and words[1] == b"enable":
            return self.same()
        if len(words) == 3 and words[1] in (b"sleep", b"tocrawl") and (number(words[2]) or 0) >= 2**32:
            raise Unknown("a long number")
        return self.same()

    def verbosity(self, words):
        if len(words) in (2, 3) and (number(words[1]) or 0) != 0:
            raise Unknown("a log that is long, or a long number")
        return self.same()

    def memlimit(self, words):
        if len(words) in (2, 3) and (number(words[1]) or 0) >= 8 and (number(words[1]) or 0) <= 1000000000:
            raise Unknown("sets something")
        if len(words) in (2, 3) and (number(words[1]) or 0) >= 2**32:
            raise Unknown("a long number")
        return self.same()

    def stats(self, words):
        if len(words) >= 2 and words[1] in (b"reset", b"xxx"):
            return self.same()
        raise Unknown("its own on each side")


Lines.COMMANDS = {
    b"get": Lines.get, b"gets": Lines.get, b"gat": Lines.get, b"gats": Lines.get, b"bget": Lines.get,
    b"touch": Lines.touch, b"set": Lines.update, b"add": Lines.update, b"replace": Lines.update,
    b"append": Lines.update, b"prepend": Lines.update, b"cas": Lines.update, b"incr": Lines.counted,
    b"decr": Lines.counted, b"delete": Lines.delete, b"flush_all": Lines.flush_all, b"version": Lines.version,
    b"quit": Lines.quit, b"slabs": Lines.slabs, b"lru": Lines.lru, b"lru_crawler": Lines.crawler,
    b"verbosity": Lines.verbosity, b"cache_memlimit": Lines.memlimit, b"stats": Lines.stats,
    b"watch": Lines.unfollowed, b"path": Lines.unfollowed, b"extstore": Lines.unfollowed,
    b"refresh_certs": Lines.unfollowed,
}
