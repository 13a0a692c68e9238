# SPDX-License-Identifier: Apache-2.0
"""The meta commands, as lines.py reads the others."""
import base64

from lines import BODY_MAX, KEY_MAX, Lines, decode, signed, unsigned
from model import NOW, Expiry, Item, Unknown

PLAIN = b"bNTRlOPLkstcfvhuqFCMJDI"
LATER = b"Ex"


class Flags:
    """What the flags of a request say; `error`: both refuse it."""

    def __init__(self, m, key, words, op):
        self.order = []        # (letter, token) of those that may be answered
        self.error = False
        self.later = False     # flags of later versions, which memcached does not know
        self.key, self.binary = key, False
        self.foreign = False   # base64 that only memcached takes
        self.quiet = self.value = self.opaque_long = self.stale = self.no_update = False
        self.vivify = self.expiry = self.recache = self.unique = None
        self.delta, self.initial, self.client, self.mode = 1, 0, 0, b""
        self.remove = False
        seen = set()
        for w in words:
            c, tok = w[:1], w[1:]
            if c[0] >= 127 or c in seen or c not in PLAIN + LATER:
                if self.later or self.foreign:
                    raise Unknown("errors of two kinds")
                self.error = True
                return
            seen.add(c)
            if c in LATER:
                self.later = True
                if c == b"x":
                    self.remove = True
                elif unsigned(tok) is None:
                    raise Unknown("errors of two kinds")
                continue
            if c == b"b":
                theirs, ours = decode(key)
                self.binary = True
                if theirs != ours:
                    self.foreign = True
                    self.key = theirs
                elif ours is None:
                    self.error = True
                else:
                    self.key = ours
            elif c in b"NTR":
                n = signed(tok)
                if n is None:
                    self.error = True
                    continue
                expiry = Expiry(n, m.started)
                if c == b"N":
                    self.vivify = expiry
                elif c == b"T":
                    self.expiry = expiry
                else:
                    self.recache = expiry
            elif c in b"CJD":
                n = unsigned(tok)
                if n is None:
                    self.error = True
                elif c == b"C":
                    self.unique = n
                elif c == b"J":
                    self.initial = n
                else:
                    self.delta = n
            elif c == b"F":
                n = unsigned(tok)
                if n is None:
                    self.error = True
                elif n >= 2**32:
                    raise Unknown("flags of more than 32 bits")
                else:
                    self.client = n
            elif c == b"M":
                if len(w) != 2:
                    self.error = True
                self.mode = tok
            elif c == b"O":
                self.opaque_long = len(tok) > 31
            elif c == b"q":
                self.quiet = True
            elif c == b"v":
                self.value = True
            elif c == b"I":
                self.stale = True
            elif c == b"u":
                self.no_update = True
            if c in b"OkstcfhlTNR":
                self.order.append((c, tok))
        if (self.later or self.foreign) and self.error:
            raise Unknown("errors of two kinds")
        if self.later and self.foreign:
            raise Unknown("errors of two kinds")


def spelled(key, binary):
    """What flag k gives."""
    return b" k" + (base64.b64encode(key) + b" b" if binary else key)


def echo(flags, key, binary, letters=b"Ok", **more):
    """The flags of an answer, from the left; more: letter -> what follows it."""
    out = b""
    for c, tok in flags.order:
        if c == b"O" and c in letters:
            out += b" O" + tok
        elif c == b"k":
            out += spelled(key, binary)
        elif c.decode() in more:
            out += b" " + c + more[c.decode()]
    return out


class Meta(Lines):
    def meta(self, words):
        op = words[0]
        if len(words) < 2 or len(words[1]) > KEY_MAX:
            return self.same()
        if op == b"me":
            return self.me(words)
        n = None
        if op == b"ms":
            if len(words) == 2 or len(words) > 19:
                return self.same()
            n = signed(words[2])
            if n is not None and not -2**31 <= n < 2**31:
                raise Unknown("a length of more than 31 bits")
            if n is None or n < 0 or n > BODY_MAX:
                return self.same()
        elif len(words) > 19:
            return self.same()
        f = Flags(self.m, words[1], words[3 if op == b"ms" else 2:], op)
        if op == b"ms":
            value, good = self.body(n)
            if f.error:
                return self.same()
            return self.ms(f, value, good)
        if f.error:
            return self.same()
        if op == b"mg":
            return self.mg(f)
        if op == b"md":
            return self.md(f)
        return self.ma(f)

    # ---- mg ----

    def mg(self, f):
        m = self.m
        key = f.key
        if f.foreign:
            if key is None or m.look(key) is not None or f.vivify:
                raise Unknown("base64 that only memcached takes, of a key that is there")
            if f.opaque_long:
                raise Unknown("errors of two kinds")
            if f.quiet:
                raise Unknown("a miss that memcached hides")
            return self.differ("base64", "meta", echo=echo(f, key, True))
        if f.later:
            return self.later_get(f)
        if key in m.stale and m.apart.get(key, m) is None:
            return self.stale(f, m.stale[key])
        it = m.look(key)
        if f.opaque_long:
            if f.expiry or f.vivify or it is not None and f.recache:
                raise Unknown("refused after it was done")
            # where memcached looks under a lock, it marks the item when the answer is made
            if it is not None and not f.no_update and not any(c in b"hlR" for c, _ in f.order):
                it.fetched = True
            return self.same()
        if it is None:
            if f.vivify is not None:
                return self.vivify(f)
            return self.same()
        theirs, ours = self.hit(f, it)
        self.say_hit(f, it, theirs, ours)
        return None

    def hit(self, f, it):
        """What an mg that finds it answers on both sides, and what it does."""
        start = b"VA %d" % len(it.value) if f.value else b"HD"
        theirs, ours = start, start
        held = won = False
        for c, tok in f.order:
            a = b = None
            if c == b"T":
                if f.expiry.theirs != f.expiry.ours:
                    raise Unknown("an expiry that only one takes for over")
                it.expires = f.expiry.seconds
                if f.expiry.theirs:
                    it.expires = "over"
            elif c == b"R":
                if not it.token and it.expires is not None and it.expires != "over":
                    soon = f.recache.seconds
                    if f.recache.theirs:
                        soon = 1 - NOW
                    elif soon is None:
                        soon = -NOW
                    if it.expires < soon:
                        won = True
                elif it.expires == "over":
                    raise Unknown("won when over")
            elif c == b"s":
                a = b = b"%d" % len(it.value)
            elif c == b"f":
                a = b = b"%d" % it.flags
            elif c == b"c":
                a, b = b"%d" % it.count, b"%d" % it.hash()
            elif c == b"t":
                if it.expires == "over":
                    raise Unknown("seconds of what is over")
                a = b"%d" % it.expires if it.expires is not None else b"-1"
                b = b"-1"
                held = held or a != b
            elif c == b"l":
                a = b = b"0"
            elif c == b"h":
                a, b = b"%d" % it.fetched, b"0"
                held = held or a != b
            elif c == b"O":
                theirs, ours = theirs + b" O" + tok, ours + b" O" + tok
            elif c == b"k":
                theirs, ours = theirs + spelled(f.key, it.binary), ours + spelled(f.key, f.binary)
            if a is not None:
                theirs, ours = theirs + b" " + c + a, ours + b" " + c + b
        self.kinds = [n for n, yes in (("won", won or it.token), ("key-as-stored", it.binary != f.binary and any(
            c == b"k" for c, _ in f.order)), ("held", held), ("cas", any(c == b"c" for c, _ in f.order))) if yes]
        if it.token:
            theirs += b" Z"
        if won:
            theirs += b" W"
            it.token = True
        if f.expiry is not None and f.expiry.ours:
            self.m.drop(f.key)
        if not f.no_update:
            it.fetched = True
        tail = b"\r\n" + it.value if f.value else b""
        return theirs + tail, ours + tail

    def say_hit(self, f, it, theirs, ours):
        if theirs == ours:
            return self.same()
        return self.differ(self.kinds[0], "meta", theirs=theirs, ours=ours)

    def vivify(self, f):
        m = self.m
        if f.recache is not None or f.expiry is not None:
            raise Unknown("a new item with other times")
        start = b"VA 0" if f.value else b"HD"
        n = m.next_count()
        over = f.vivify.theirs
        it = Item(b"", 0, n, None)
        # in the order of the flags: N sets the time
        theirs = start
        for c, tok in f.order:
            if c == b"N":
                it.expires = "over" if over else f.vivify.seconds
            elif c == b"s":
                theirs += b" s0"
            elif c == b"f":
                theirs += b" f0"
            elif c == b"c":
                theirs += b" c%d" % n
            elif c == b"t":
                if it.expires == "over":
                    raise Unknown("seconds of what is over")
                theirs += b" t" + (b"%d" % it.expires if it.expires is not None else b"-1")
            elif c == b"l":
                theirs += b" l0"
            elif c == b"h":
                theirs += b" h0"
            elif c == b"O":
                theirs += b" O" + tok
            elif c == b"k":
                theirs += b" k" + f.key  # memcached forgets that it came in base64
        theirs += b" W"
        if f.value:
            theirs += b"\r\n"
        if not over:
            m.apart[f.key] = None
        ours = b"EN" + echo(f, f.key, f.binary)
        if f.quiet:
            raise Unknown("a miss that only we hide")
        return self.differ("vivify", "meta", theirs=theirs, ours=ours)

    def stale(self, f, it):
        """memcached keeps it as stale and asks for another; here it is gone."""
        if f.vivify or f.recache or f.expiry or f.quiet or f.opaque_long or any(c in b"thl" for c, _ in f.order):
            raise Unknown("more of what is stale")
        it.token = False
        theirs, _ = self.hit(f, it)
        del self.m.stale[f.key]  # what it answers the next time is not followed
        head, line, value = theirs.partition(b"\r\n")
        return self.differ("stale", "meta", theirs=head + b" X W" + line + value,
                           ours=b"EN" + echo(f, f.key, f.binary))

    def later_get(self, f):
        it = self.m.look(f.key)
        if f.opaque_long or f.expiry or f.vivify or f.recache:
            raise Unknown("errors of two kinds")
        if it is None:
            if f.quiet:
                raise Unknown("a miss that only we hide")
            return self.differ("later-flags", "meta", error=b"invalid flag", answer=b"EN" + echo(f, f.key, f.binary))
        kept = it.fetched
        _, ours = self.hit(f, it)
        it.fetched = kept
        return self.differ("later-flags", "meta", error=b"invalid flag", answer=ours)

    # ---- me ----

    def me(self, words):
        m = self.m
        key, binary = words[1], False
        if len(words) > 2 and words[2] == b"b":
            theirs, ours = decode(key)
            if theirs != ours:
                raise Unknown("base64 that only memcached takes")
            if ours is None:
                return self.same()
            key, binary = ours, True
        it = m.look(key)
        if it is None:
            return self.same()
        if len(it.value) > 2000:
            raise Unknown("chunks")
        size = m.size(key, it.flags, len(it.value))
        return self.differ(
            "me", "meta",
            key=base64.b64encode(key) if it.binary else key, ourkey=base64.b64encode(key) if binary else key,
            expires=b"-1" if it.expires is None else b"%d" % -it.expires, count=b"%d" % it.count,
            hash=b"%d" % it.hash(), fetched=b"yes" if it.fetched else b"no", bytes=b"%d" % len(it.value),
            size=b"%d" % size, slab=b"%d" % m.slab_class(size))

    # ---- ms ----

    def ms(self, f, value, good):
        m = self.m
        key = f.key
        if f.foreign:
            raise Unknown("base64 that only memcached takes")
        if f.mode not in (b"", b"E", b"A", b"P", b"R", b"S") or f.opaque_long:
            if f.later:
                raise Unknown("errors of two kinds")
            return self.same()
        flags = f.client
        expiry = f.expiry or Expiry(0, m.started)
        changes = f.mode in (b"A", b"P", b"R") or f.unique is not None and f.mode != b"E"
        if f.later:
            return self.later_set(f, value, good, changes)
        theirs_large, ours_large = m.too_large(key, flags, len(value))
        if changes:
            return self.ms_change(f, value, good, theirs_large)
        if theirs_large or ours_large:
            if not ours_large:
                raise Unknown("too large for memcached alone")
            it = m.look(key)
            if it is not None:
                m.lose(key, "too-large-kept")
            return self.same()
        if not good:
            return self.same()
        return self.store_meta(f, key, value, flags, expiry)

    def store_meta(self, f, key, value, flags, expiry):
        m = self.m
        add = f.mode == b"E"
        it = m.items.get(key) if key not in m.apart else None
        if key in m.apart:
            if add:
                raise Unknown("an add where they differ")
            m.agree(key, value, flags, expiry, f.binary)
            return self.stored_meta(f, m.items[key])
        if it is not None and add:
            return self.same()  # NS, c0
        if expiry.theirs != expiry.ours:
            raise Unknown("an expiry that only one takes for over")
        if expiry.theirs:
            n = m.link(key, value, flags, expiry)
            if f.quiet or not any(c == b"c" for c, _ in f.order):
                return self.same()
            return self.differ("over-cas", "meta", echo=b"", count=b"%d" % n,
                               theirs=b"HD" + echo(f, key, f.binary, c=b"%d" % n),
                               ours=b"HD" + echo(f, key, f.binary, c=b"0"))
        if it is not None and not it.same(value, flags):
            n = m.next_count()
            m.part(key)
            theirs = b"HD" + echo(f, key, f.binary, c=b"%d" % n)
            if f.quiet:
                return self.silent("set-other", b"NS" + echo(f, key, f.binary, c=b"0"))
            return self.differ("set-other", "meta", theirs=theirs, ours=b"NS" + echo(f, key, f.binary, c=b"0"))
        m.link(key, value, flags, expiry, f.binary)
        return self.stored_meta(f, m.items[key])

    def silent(self, name, ours):
        """memcached says nothing because of q; we say what we refuse."""
        self.answers.append((name, b"", ours + b"\r\n"))

    def stored_meta(self, f, it):
        letters = [c for c, _ in f.order]
        if f.quiet or not (b"c" in letters or b"s" in letters):
            return self.same()
        return self.differ("set-size" if b"s" in letters else "cas", "meta",
                           theirs=b"HD" + echo(f, f.key, f.binary, c=b"%d" % it.count),
                           ours=b"HD" + echo(f, f.key, f.binary, c=b"%d" % it.hash(), s=b"%d" % len(it.value)))

    def ms_change(self, f, value, good, theirs_large):
        m = self.m
        key = f.key
        it = m.look(key)
        if theirs_large:
            if not good:
                raise Unknown("too large and a bad end")
            if it is not None:
                m.lose(key, "too-large-kept")
            return self.differ("change-large", "text")
        if not good:
            return self.same()
        if f.expiry is not None and f.expiry.theirs:
            raise Unknown("a change to what is over")
        cas = f.unique is not None and f.mode in (b"", b"S", b"R")
        unique = f.unique or 0
        if cas:
            if it is None:
                return self.no(f, "cas-missing", b"NF")
            if unique and it.count == unique:
                n = m.next_count()
                m.part(key)
                return self.yes(f, "cas-right", n)
            if f.stale and unique < it.count:
                if unique:
                    raise Unknown("a stale value may be set")
            return self.no(f, "cas-wrong", b"EX")
        if it is None:
            return self.no(f, "change-missing", b"NS")
        if f.mode != b"R":
            if unique and unique != it.count:
                return self.no(f, "cas-wrong", b"EX")
            if m.size(key, it.flags, len(it.value) + len(value)) > m.item_max:
                return self.no(f, "change-missing", b"NS")
        n = m.next_count()
        m.part(key)
        return self.yes(f, "change", n)

    def no(self, f, name, code):
        return self.differ(name, "meta", echo=echo(f, f.key, f.binary, c=b"0"))

    def yes(self, f, name, n):
        if f.quiet:
            e = self.m.entries[name]
            return self.silent(name, e.answer(1, "text", {}))
        return self.differ(name, "meta", echo=echo(f, f.key, f.binary, c=b"%d" % n))

    def later_set(self, f, value, good, changes):
        """memcached swallows the block; we take it."""
        m = self.m
        key = f.key
        if changes or not good or f.mode == b"E" or f.expiry is not None or m.look(key) is not None or f.quiet:
            raise Unknown("errors of two kinds")
        if m.too_large(key, f.client, len(value))[0]:
            raise Unknown("too large")
        m.apart[key] = it = Item(value, f.client, 0)
        return self.differ("later-flags", "meta", error=b"invalid flag",
                           answer=b"HD" + echo(f, key, f.binary, c=b"%d" % it.hash(), s=b"%d" % len(value)))

    # ---- md ----

    def md(self, f):
        m = self.m
        key = f.key
        if f.foreign:
            raise Unknown("base64 that only memcached takes")
        if f.later:
            if f.opaque_long or not f.remove:
                raise Unknown("errors of two kinds")
            return self.differ("later-flags", "meta", error=b"invalid or duplicate flag",
                               answer=m.entries["change"].answer(1, "text", {}))
        if f.opaque_long:
            return self.same()
        if f.quiet and f.unique is None and not f.stale and key in m.apart:
            raise Unknown("only one may find it")
        it = m.look(key)
        if it is None:
            return self.same()
        tail = echo(f, key, f.binary)
        if f.unique is not None and f.unique != it.count:
            if f.unique == it.hash():
                m.apart[key] = None
                m.items.pop(key)
                if f.quiet:
                    self.answers.append(("by-hash", b"EX" + tail + b"\r\n", b""))
                    return None
                return self.differ("by-hash", "meta", echo=tail)
            return self.same()
        if f.unique is not None:
            if f.stale:
                raise Unknown("marked stale by memcached's number")
            m.part(key)
            if f.quiet:
                self.answers.append(("by-count", b"", b"EX" + tail + b"\r\n"))
                return None
            return self.differ("by-count", "meta", echo=tail)
        if f.stale:
            if f.expiry is not None:
                raise Unknown("stale with a time")
            n = m.next_count()
            m.drop(key)
            it.count = n
            m.stale[key] = it
            m.apart[key] = None
            return self.same()
        m.drop(key)
        return self.same()

    # ---- ma ----

    def ma(self, f):
        m = self.m
        key = f.key
        if f.foreign or f.later:
            raise Unknown("errors of two kinds")
        if f.mode not in (b"", b"I", b"+", b"D", b"-"):
            return self.same()
        if f.opaque_long or f.expiry is not None:
            raise Unknown("done, and refused or given a time")
        up = f.mode in (b"", b"I", b"+")
        it = m.look(key)
        if it is None and f.vivify is not None:
            if f.vivify.theirs != f.vivify.ours or f.vivify.theirs:
                raise Unknown("new and over")
            n = m.next_count()
            text = b"%d" % f.initial
            m.apart[key] = None
            # in the order of the flags: N sets the time
            return self.counted_meta(f, "count-new", text, n, None, True)
        binary = f.binary
        expires = it.expires if it is not None else None
        name, n = self.arithmetic(key, f.delta, up, f.unique or 0)
        if name == "count":
            return self.counted_meta(f, name, b"%d" % n, m.count, expires, False)
        if name == "count-text":
            return self.differ(name, "text")
        return self.differ(name, "meta", echo=echo(f, key, binary))

    def counted_meta(self, f, name, text, count, expires, new):
        out = b"VA %d" % len(text) if f.value else b"HD"
        for c, tok in f.order:
            if c == b"N" and new:
                expires = f.vivify.seconds
            elif c == b"t":
                out += b" t" + (b"%d" % expires if expires is not None else b"-1")
            elif c == b"c":
                out += b" c%d" % count
            elif c == b"O":
                out += b" O" + tok
            elif c == b"k":
                out += spelled(f.key, f.binary)
        if f.value:
            out += b"\r\n" + text
        ours = self.m.entries[name].answer(1, "text", {})
        if f.quiet and not new:
            return self.silent(name, ours)
        return self.differ(name, "meta", theirs=out, ours=ours)


for _c in (b"mg", b"ms", b"md", b"ma", b"me"):
    Lines.COMMANDS[_c] = Meta.meta
