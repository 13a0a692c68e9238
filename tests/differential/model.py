# SPDX-License-Identifier: Apache-2.0
"""
What both servers hold, as far as the test must know it: to say which entry of the table applies to a request and
what exactly each answers then. Everything else must be the same bytes, and is not predicted here.

A key is either in `items` (both hold the same value), in `apart` (memcached has something else, the entry is
valcached's item or None), or in neither (none of them has it). A request that meets a key in `apart`, or that does
what the model does not follow, raises Unknown: the generator leaves it out and makes another. What brings a key back is a
delete without an answer, or a set of what valcached holds.
"""
import xxhash

NOW = 62  # memcached's clock, which stands still (still.c): it starts 62 seconds late
DATE_LOW, DATE_HIGH = 2592000, 1500000000


class Unknown(Exception):
    pass


class Item:
    __slots__ = ("value", "flags", "count", "expires", "fetched", "token", "binary")

    def __init__(self, value, flags, count, expires=None, binary=False):
        self.value, self.flags, self.count = value, flags, count
        self.expires = expires  # seconds from now, None: never
        self.fetched = self.token = False
        self.binary = binary  # memcached remembers that the key came in base64

    def hash(self):
        return (xxhash.xxh3_128_intdigest(self.value) & 0xffffffffffffffff) or 1

    def same(self, value, flags):
        return self.value == value and self.flags == flags


class Expiry:
    """What an expiry time means: over for memcached, over for valcached, and the seconds until it is over."""
    __slots__ = ("theirs", "ours", "seconds")

    def __init__(self, number, started):
        low = (number + 0x80000000 & 0xffffffff) - 0x80000000  # memcached keeps 32 bits
        self._set(low, number, started)

    def _set(self, low, number, started):
        self.theirs = low < 0 or DATE_LOW < low <= started
        self.ours = number < 0 or DATE_LOW < number < DATE_HIGH
        if low <= 0:
            self.seconds = None
        else:
            self.seconds = low if low <= DATE_LOW else low - started
        if started < low < started + 200000 or started - 200000 < low <= started:
            raise Unknown("a date about now")


class BinaryExpiry(Expiry):
    """32 bits without a sign."""
    __slots__ = ()

    def __init__(self, number, started):
        self._set(number, number, started)


class Model:
    def __init__(self, entries, count, started, item_max):
        self.entries = entries
        self.count = count      # the last number memcached gave a stored item
        self.started = started  # the date at which memcached's clock stands
        self.item_max = item_max
        self.items = {}
        self.apart = {}
        self.lost = {}          # key -> (entry, our item): memcached has it no more
        self.gone = set()       # keys that memcached may not have, among those in apart
        self.stale = {}         # key -> memcached's item that it marked
        self.flushed = False
        self.step = False       # SASL: the login may go on
        self.known = False      # the client has said who it is

    # ---- what both hold ----

    def look(self, key):
        """The item that both hold, or None."""
        if key in self.apart:
            raise Unknown("they differ on %r" % key)
        return self.items.get(key)

    def next_count(self):
        self.count += 1
        return self.count

    def link(self, key, value, flags, expiry, binary=False):
        """memcached stores it. Both hold it then, unless it is over."""
        n = self.next_count()
        self.items.pop(key, None)
        if expiry is not None and expiry.theirs:
            return n
        self.items[key] = Item(value, flags, n, expiry.seconds if expiry else None, binary)
        return n

    def lose(self, key, entry):
        """memcached has it no more; ours stays, and a read of it shows the entry."""
        self.part(key)
        self.gone.add(key)
        self.lost[key] = (entry, self.apart[key])

    def part(self, key):
        """memcached's value changed, or is no more; ours stays."""
        self.apart[key] = self.items.pop(key, None)
        self.gone.discard(key)

    def drop(self, key):
        self.apart.pop(key, None)
        self.items.pop(key, None)
        self.stale.pop(key, None)

    def agree(self, key, value, flags, expiry, binary=False):
        """A set of a key on which they differ: they agree again, if ours takes it."""
        mine = self.apart[key]
        if expiry.theirs or expiry.ours or not (mine is None or mine.same(value, flags)):
            raise Unknown("a set that leaves them apart")
        del self.apart[key]
        self.stale.pop(key, None)
        return self.link(key, value, flags, expiry, binary)

    def flush(self):
        self.next_count()
        self.items.clear()
        self.apart.clear()
        self.stale.clear()

    # ---- sizes ----

    def size(self, key, flags, n):
        """Of an item in memcached: head, cas, key and NUL, client flags if there are, value and line end."""
        return 48 + 8 + len(key) + 1 + (4 if flags else 0) + n + 2

    def too_large(self, key, flags, n):
        """(for memcached, for valcached)"""
        return self.size(key, flags, n) > self.item_max, n > self.item_max

    def slab_class(self, size):
        chunk, n = 96, 1
        while size > chunk:
            chunk = int(chunk * 1.25)
            chunk += -chunk % 8
            n += 1
        return n
