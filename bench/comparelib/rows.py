# SPDX-License-Identifier: Apache-2.0
"""
The rows of the comparison. A row prepares its servers, measures each contestant once per round
(so that a change of the machine's mood hits all), and states its goals as ratios of medians.

Keys are numbers. The cold store is written with keys that only ever grow (`--key-dist recent`), as
immutable caches are; `cold.next_key` says where it stands.
"""
import statistics

from . import tools

VALUE = 32 << 10
HOT_KEYS_32K = 1000
HOT_KEYS_100 = 10000
FIRST_COLD_KEY = 1 << 32
FIRST_EXT_KEY = 1 << 33
ABSENT_KEY = 1 << 40


class Goal:
    """value against limit; met is None when there is no value."""

    def __init__(self, text, value, limit, at_most=True, digits=3):
        self.text, self.value, self.limit, self.at_most = text, value, limit, at_most
        self.digits = digits

    @property
    def met(self):
        if self.value is None or self.limit is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def ratio(a, b):
    return a / b if a is not None and b else None


class Row:
    """name, title, contestants in order, and what they were measured with."""

    name = title = ""
    needs_valcached = False
    peers = ("fio", "memcached")    # programs of others that it runs
    HITS_MIN = 0.97

    def __init__(self, cfg, lot, state):
        self.cfg, self.lot, self.state = cfg, lot, state
        self.samples = {}   # contestant -> [Sample]
        self.notes = []
        self.valid = True   # False: the goals are not to be judged by these samples

    def prepare_own(self):
        """What valcached needs before the first round; the peers have theirs."""

    def prepare_peers(self):
        pass

    def contestants(self):
        """[(name, function of the raw name)]"""
        raise NotImplementedError

    def in_round(self, number):
        """contestants(), in the order in which they take their turns in this round."""
        return self.contestants()

    def goals(self):
        return []

    def check_hits(self):
        """
        A miss costs less than a read: figures that rest on misses are no figures. And a disk that
        others use shows in its counters, but not in those of the server's process.
        """
        for who, samples in self.samples.items():
            own = sum(s.get("server_read_bytes") or 0 for s in samples)
            device = sum(s.get("disk_read_bytes") or 0 for s in samples)
            if device > own * 1.1 + (16 << 20):
                self.notes.append("%s: the device read %d MiB while the server read %d MiB: "
                                  "others use the disk" % (who, device >> 20, own >> 20))
        for who in self.samples:
            hits = self.median(who, "hit_ratio")
            if self.median(who, "reads_per_get") is None or hits >= self.HITS_MIN:
                continue
            self.notes.append("%s: hit ratio %.3f, so its figures are of misses" % (who, hits))
            if who.startswith("valcached"):
                self.valid = False

    def median(self, who, field):
        values = [s[field] for s in self.samples.get(who, []) if s.get(field) is not None]
        return statistics.median(values) if values else None

    def measured(self, who):
        return bool(self.samples.get(who))

    # --- building blocks ---

    def bench(self, server, raw, op, *flags, check=True):
        result = tools.valbench(self.cfg, server, raw, *flags, check=check)
        sample = tools.sample_of(result, op)
        if "next_key" in result:
            sample["next_key"] = result["next_key"]
        return sample

    def counted(self, server, raw, op, *flags):
        """bench(), with the growth of the server's own counters over the gets it counted."""
        before = server.stats()
        sample = self.bench(server, raw, op, *flags)
        after = server.stats()

        def grown(name):
            return int(after.get(name, 0)) - int(before.get(name, 0))
        if grown("cmd_get") > 0:
            sample["enters_per_get"] = grown("io_enters") / grown("cmd_get")
            sample["own_reads_per_get"] = grown("disk_reads") / grown("cmd_get")
        return sample

    def timed(self):
        return ("--warmup", self.cfg.warmup, "--duration", self.cfg.seconds)

    def load_hot(self, server, keys, size):
        done = self.state.setdefault("hot", set())
        if (server.name, size) in done:
            return
        tools.valbench(self.cfg, server, "load-%s-%d" % (server.name, size), "--load-only",
                       "--keys", keys, "--size", size, "--first-key", size)
        done.add((server.name, size))

    def write_cold(self, raw, keys, op="set", connections=8):
        """Writes `keys` new keys to the cold store."""
        first = self.state.get("cold_next", FIRST_COLD_KEY)
        s = self.bench(self.lot.get("cold"), raw, op, "--key-dist", "recent", "--keys", 1,
                       "--first-key", first, "--mix", "0:100", "--ops", keys, "--size", VALUE,
                       "--connections", connections)
        self.state["cold_next"] = s["next_key"]
        return s

    def lap_keys(self):
        return self.cfg.store_bytes // VALUE

    def resident_keys(self):
        return int(self.lap_keys() * 0.75)

    def fill_cold(self):
        """A first lap, so that no part of the file is unwritten; then warms the host's cache."""
        if "cold_filled" not in self.state:
            self.write_cold("fill-cold", int(self.lap_keys() * 1.05))
            self.state["cold_filled"] = True

    def warm_file(self, path):
        """Virtual disks are cached by their host: every range is read once before it is timed."""
        warmed = self.state.setdefault("warmed", set())
        if path not in warmed:
            tools.fio(self.cfg, "warm-" + path.rsplit("/", 1)[-1], path, "read", 1 << 20, 8,
                      range_bytes=self.cfg.store_bytes)
            warmed.add(path)

    def refill(self, server, first, rate=0):
        """
        Reads the cold keys through until nearly all are there: each store keeps what its own
        policy says, and after laps of writing that need not be the keys that are to be read.
        Without pipelines: memcached 1.6.18 with extstore leaves some of them without an answer.
        """
        for again in range(6):
            s = self.bench(server, "refill-%s-%d" % (server.name, again), "get_hit", "--key-dist",
                           "seq", "--keys", self.resident_keys(), "--first-key", first, "--ops",
                           self.resident_keys(), "--size", VALUE, "--connections", 4, "--fill",
                           "--rate", rate, "--tolerate-server-errors")
            if s["hit_ratio"] > 0.985:
                return

    def refill_cold(self):
        if "cold_refilled" not in self.state:
            self.refill(self.lot.get("cold"), FIRST_COLD_KEY)
            self.state["cold_refilled"] = True

    def fill_extstore(self):
        """
        Every key, slowly and again where it was lost: extstore evicts what its writer cannot flush
        in time, and a store with holes would flatter its reads. Small items come first, to take
        RAM for the slab class of the item headers, which else gets one page and evicts headers;
        in production the page mover does that within hours.
        """
        if "ext_filled" in self.state:
            return
        server, rate = self.lot.get("extstore"), self.cfg.extstore_fill_rate
        for attempts_left in 2, 1, 0:
            try:
                tools.valbench(self.cfg, server, "slabs-extstore", "--load-only", "--size", 12,
                               "--depth", 8, "--keys", int(self.resident_keys() * 1.3),
                               "--first-key", ABSENT_KEY * 2)
                self.refill(server, FIRST_EXT_KEY, rate)
                break
            except tools.WrongAnswer:
                # 1.6.18 now and then leaves a connection without an answer under memory pressure
                if attempts_left == 0:
                    raise
        self.state["ext_filled"] = True

    def fio_file(self):
        """A fully written file of the store's size for fio's own writes."""
        path = self.lot.file("fio")
        if "fio_file" not in self.state:
            tools.fio(self.cfg, "fill-fio", path, "write", 1 << 20, 8,
                      range_bytes=self.cfg.store_bytes)
            self.state["fio_file"] = True
        return path


class SetRow(Row):
    name, title = "set-32k", "SET 32 KiB, one lap of the store per round, 8 connections"

    def prepare_own(self):
        self.fill_cold()

    def prepare_peers(self):
        self.fio_file()

    def contestants(self):
        everyone = [
            ("null sink", lambda raw: self.bench(
                self.lot.get("sink"), raw, "set", "--verify", "frame", "--mix", "0:100", "--size",
                VALUE, *self.timed())),
            ("fio seq 1m", self._fio),
            ("memcached RAM", lambda raw: self.bench(
                self.lot.get("memcached"), raw, "set", "--mix", "0:100", "--size", VALUE, "--keys",
                HOT_KEYS_32K, "--first-key", VALUE, *self.timed())),
        ]
        if self.cfg.have_valcached:
            everyone.insert(0, ("valcached", lambda raw: self.write_cold(raw, self.lap_keys())))
        return everyone

    def _fio(self, raw):
        s = tools.fio(self.cfg, raw, self.fio_file(), "write", 1 << 20, 8,
                      range_bytes=self.cfg.store_bytes)
        s["rate"] = s["bytes_per_s"] / VALUE  # in values, like the others
        s["cpu"] = None
        return s

    def goals(self):
        bounds = [b for b in (self.median("null sink", "rate"), self.median("fio seq 1m", "rate"))
                  if b]
        return [
            Goal("rate / min(null sink, fio seq)",
                 ratio(self.median("valcached", "rate"), min(bounds) if bounds else None), 0.9,
                 at_most=False),
            Goal("CPU per SET / null sink",
                 ratio(self.median("valcached", "cpu"), self.median("null sink", "cpu")), 1.5),
        ]


class ColdRow(Row):
    connections = 0

    def prepare_own(self):
        self.fill_cold()
        self.refill_cold()
        self.load_hot(self.lot.get("hot"), HOT_KEYS_32K, VALUE)
        self.warm_file(self._fio_path())

    def prepare_peers(self):
        self.fill_extstore()
        self.warm_file(self.lot.file("extstore"))
        self.warm_file(self._fio_path())

    def _fio_path(self):
        return self.lot.file("valcached.cold") if self.cfg.have_valcached else self.fio_file()

    def contestants(self):
        n = ("--connections", self.connections, "--size", VALUE)
        keys = self.resident_keys()
        everyone = [
            ("extstore", lambda raw: self.bench(
                self.lot.get("extstore"), raw, "get_hit", "--keys", keys, "--first-key",
                FIRST_EXT_KEY, *n, *self.timed())),
            ("fio", lambda raw: tools.fio(
                self.cfg, raw, self._fio_path(), "randread", VALUE, self.connections,
                seconds=self.cfg.seconds, range_bytes=self.cfg.store_bytes)),
        ]
        if self.cfg.have_valcached:
            everyone[0:0] = [
                ("valcached", lambda raw: self.counted(
                    self.lot.get("cold"), raw, "get_hit", "--keys", keys, "--first-key",
                    FIRST_COLD_KEY, *n, *self.timed())),
                ("valcached hot", lambda raw: self.bench(
                    self.lot.get("hot"), raw, "get_hit", "--keys", HOT_KEYS_32K, "--first-key",
                    VALUE, *n, *self.timed())),
            ]
        return everyone

    def goals(self):
        bounds = [b for b in (self.median("fio", "rate"), self.median("valcached hot", "rate"))
                  if b]
        m = self.median
        goals = [
            Goal("rate / min(fio, own hot)",
                 ratio(m("valcached", "rate"), min(bounds) if bounds else None), 0.9,
                 at_most=False),
            Goal("device reads per GET", m("valcached", "reads_per_get"), 0.99, at_most=False,
                 digits=3),
            Goal("CPU per GET / extstore", ratio(m("valcached", "cpu"), m("extstore", "cpu")),
                 0.33),
            Goal("p99 / extstore", ratio(m("valcached", "p99"), m("extstore", "p99")), 0.5),
        ]
        return goals


class Cold8(ColdRow):
    name, title, connections = "cold-8", "cold GET 32 KiB, 8 connections", 8


class Cold32(ColdRow):
    name, title, connections = "cold-32", "cold GET 32 KiB, 32 connections", 32


class Cold1(ColdRow):
    """
    The request wakes the server, the answer wakes the client; the disk's own wake-up is in fio's
    figure too. So two wake-ups are added.
    """
    name, title, connections = "cold-1", "cold GET 32 KiB, 1 connection", 1
    ADDED_WAKEUPS = 2

    def contestants(self):
        return super().contestants() + [("wake-up", self._wakeup)]

    def _wakeup(self, raw):
        r = tools.wakeup(self.cfg, raw)
        return tools.Sample(rate=None, p50=r["wakeup_p50_us"], p99=r["wakeup_p99_us"], cpu=None)

    def goals(self):
        m = self.median
        added = limit = None
        if m("valcached", "p50") is not None and m("fio", "p50") is not None:
            added = m("valcached", "p50") - m("fio", "p50")
        if m("wake-up", "p50") is not None:
            limit = m("wake-up", "p50") * self.ADDED_WAKEUPS + 20
        return [
            Goal("added p50 over fio QD1, us (%d wake-ups + 20 us)" % self.ADDED_WAKEUPS, added,
                 limit, digits=1),
            Goal("io_uring_enter calls per GET, by the server's counters",
                 m("valcached", "enters_per_get"), 2),
        ]


class HotRow(Row):
    peers = ("memcached",)
    keys, size, connections, depth = 0, 0, 0, 1
    goal_memcached, goal_null = None, None

    def null(self):
        return self.lot.get("null", self.size, self.keys * (self.size + 80))

    def prepare_own(self):
        self.load_hot(self.lot.get("hot"), self.keys, self.size)

    def prepare_peers(self):
        self.load_hot(self.lot.get("memcached"), self.keys, self.size)
        self.null()

    def contestants(self):
        flags = ("--keys", self.keys, "--first-key", self.size, "--size", self.size,
                 "--connections", self.connections, "--depth", self.depth) + self.timed()
        everyone = [
            ("memcached RAM", lambda raw: self.bench(
                self.lot.get("memcached"), raw, "get_hit", *flags)),
            ("nullserver", lambda raw: self.bench(
                self.null(), raw, "get_hit", "--verify", "frame", *flags)),
        ]
        if self.cfg.have_valcached:
            everyone.insert(0, ("valcached", lambda raw: self.bench(
                self.lot.get("hot"), raw, "get_hit", *flags)))
        return everyone

    def goals(self):
        mine = self.median("valcached", "cpu")
        goals = []
        if self.goal_memcached is not None:
            goals.append(Goal("CPU per GET / memcached",
                              ratio(mine, self.median("memcached RAM", "cpu")),
                              self.goal_memcached))
        goals.append(Goal("CPU per GET / nullserver",
                          ratio(mine, self.median("nullserver", "cpu")), self.goal_null))
        return goals


class Hot32k(HotRow):
    name, title = "hot-32k", "hot GET 32 KiB, 8 connections, hot set of 32 MB"
    keys, size, connections = HOT_KEYS_32K, VALUE, 8
    goal_memcached, goal_null = 0.75, 1.15


class Hot100(HotRow):
    name, title = "hot-100", "hot GET 100 B, 50 connections, depth 1"
    keys, size, connections = HOT_KEYS_100, 100, 50
    goal_memcached, goal_null = 0.7, 1.2


class Hot100Deep(HotRow):
    name, title = "hot-100-d16", "hot GET 100 B, 50 connections, depth 16"
    keys, size, connections, depth = HOT_KEYS_100, 100, 50, 16
    goal_null = 1.2


class MixedRow(Row):
    """
    Every SET writes a new key, so the store recycles as fast as it fills; GETs ask for a set of
    half the store's size, and what eviction took of it is set again. Latencies are of hits.
    valcached scrubs meanwhile, 64 times as fast as it does by default; for other rows it is started
    again without that.
    """
    name, title = "mixed", "70 % GET, 30 % SET of new keys, 32 KiB, 8 connections, store full"
    HITS_MIN = 0.5
    SCRUB = "64m"

    def prepare_own(self):
        self.fill_cold()
        self.refill_cold()

    def prepare_peers(self):
        self.fill_extstore()
        self.state.setdefault("ext_next", FIRST_EXT_KEY + self.lap_keys())
        self.fio_file()

    def contestants(self):
        everyone = [
            ("extstore", lambda raw: self._mixed("extstore", FIRST_EXT_KEY, "ext_next", raw)),
            ("fio", lambda raw: tools.fio(
                self.cfg, raw, self.fio_file(), "randrw", VALUE, 8, seconds=self.cfg.seconds,
                range_bytes=self.cfg.store_bytes, extra=("--rwmixread=70",))),
        ]
        if self.cfg.have_valcached:
            everyone.insert(0, ("valcached", self._scrubbed))
        return everyone

    def _scrubbed(self, raw):
        server = self.lot.restart("cold", "--scrub=" + self.SCRUB)
        try:
            s = self._mixed("cold", FIRST_COLD_KEY, "cold_next", raw)
            s["scrub_bytes"] = int(server.stats("store").get("scrub_bytes", 0))
            if s["scrub_bytes"] == 0:
                self.notes.append("valcached: it has not scrubbed anything meanwhile")
            return s
        finally:
            self.lot.restart("cold")

    def _mixed(self, server, first, counter, raw):
        s = self.bench(self.lot.get(server), raw, "get_hit", "--key-dist", "churn", "--keys",
                       self.lap_keys() // 2, "--first-key", first, "--new-from",
                       self.state[counter], "--mix", "70:30", "--fill", "--size", VALUE,
                       "--connections", 8, "--tolerate-server-errors", *self.timed())
        self.state[counter] = s["next_key"]
        return s

    def goals(self):
        p99 = self.median("valcached", "p99")
        return [
            Goal("GET p99 / extstore", ratio(p99, self.median("extstore", "p99")), 0.5),
            Goal("GET p99 / fio on the same mix", ratio(p99, self.median("fio", "p99")), 1.5),
        ]


class AbsentRow(Row):
    name, title = "absent", "GET of absent keys, store full, 8 connections"
    needs_valcached = True
    peers = ()

    def prepare_own(self):
        self.fill_cold()

    def contestants(self):
        return [("valcached", self._absent)]

    def _absent(self, raw):
        s = self.counted(self.lot.get("cold"), raw, "get_miss", "--keys", 1 << 30, "--first-key",
                       ABSENT_KEY, "--size", VALUE, *self.timed())
        s["reads_per_op"] = ratio(s["disk_reads"], s["ops"])
        s["wrong_hits"] = s["hit_ratio"]
        return s

    def goals(self):
        return [Goal("device reads per absent GET", self.median("valcached", "reads_per_op"),
                     0.0003, digits=6),
                Goal("the same by the server's counters",
                     self.median("valcached", "own_reads_per_get"), 0.0003, digits=6),
                Goal("hits", self.median("valcached", "wrong_hits"), 0, digits=6)]


class IdleRow(Row):
    name, title = "idle", "idle connections"
    peers = ("memcached",)

    def contestants(self):
        everyone = [("memcached RAM", lambda raw: self._idle("memcached", raw))]
        if self.cfg.have_valcached:
            everyone.insert(0, ("valcached", lambda raw: self._idle("hot", raw)))
            everyone.append(("valcached libevent", lambda raw: self._idle("libevent", raw)))
        return everyone

    def _idle(self, server, raw):
        r = tools.idle(self.cfg, self.lot.get(server), raw, self.cfg.idle_connections)
        return tools.Sample(
            rate=None, p50=None, p99=None, cpu=None, connections=r["idle"],
            cpu_percent=r["cpu_held_s"] / r["held_s"] * 100,
            bytes_per_connection=r["rss_per_connection"], switches_held=r["switches_held"])

    def goals(self):
        goals = []
        for who, said in (("valcached", ""), ("valcached libevent", " under libevent")):
            # 0 % as a tool prints it: what is left is the slow worker's look around once a second
            goals.append(Goal("CPU %% while %d are held%s" % (self.cfg.idle_connections, said),
                              self.median(who, "cpu_percent"), 0.05, digits=3))
            # the first round pays for memory that later rounds reuse: the largest is the truth
            goals.append(Goal("bytes of the process per connection%s (largest round)" % said,
                              max((s["bytes_per_connection"] for s in self.samples.get(who, [])),
                                  default=None), 1024, digits=0))
        return goals


# SET comes first: it leaves the store file written all over.
ALL = [SetRow, Cold1, Cold8, Cold32, Hot32k, Hot100, Hot100Deep, MixedRow, AbsentRow, IdleRow]
