# SPDX-License-Identifier: Apache-2.0
"""Printing: the machine, a table per row with medians and ratios, goals with met or missed."""
import os
import sys

COLUMNS = [("rate", "per s", 0), ("p50", "p50 us", 1), ("p99", "p99 us", 1),
           ("cpu", "CPU us/op", 2), ("client_cpu", "client us", 2),
           ("reads_per_get", "reads/get", 3), ("kib_per_get", "KiB/get", 2), ("hit_ratio", "hit ratio", 4),
           ("switches", "switch/op", 3), ("bytes_per_connection", "bytes/conn", 0),
           ("cpu_percent", "CPU %", 3)]


def number(value, digits):
    if value is None:
        return "-"
    return "{:,.{d}f}".format(value, d=digits)


def machine_lines(m, cfg):
    yield "machine   %s x %s%s, %s GiB, Linux %s" % (
        m["cpus"], m["cpu"], " (virtual)" if m["virtual"] else "", m["memory_gib"], m["kernel"])
    yield "disk      %s (scheduler %s, %s requests, %s); %s" % (
        m["disk"], m["disk_scheduler"], m["disk_requests"], m["disk_write_cache"],
        m["file_system"])
    yield "versions  memcached %s, fio %s; load before: %s" % (m["memcached"], m["fio"], m["load"])
    yield "run       store %d MiB, %d rounds of %s s after %s s, servers -t %d, client 1 thread, " \
          "nothing pinned" % (cfg.store_bytes >> 20, cfg.rounds, cfg.seconds, cfg.warmup,
                              cfg.server_threads)


def row_lines(row):
    """The table of one row, medians over the rounds; ratio is that of the rates to the first."""
    shown = [(field, head, digits) for field, head, digits in COLUMNS
             if any(row.median(who, field) is not None for who in row.samples)]
    yield ""
    yield "%s: %s" % (row.name, row.title)
    yield "  %-15s" % "" + "".join("%13s" % head for _, head, _ in shown) + "   rate ratio"
    first = next((row.median(w, "rate") for w in row.samples if row.median(w, "rate")), None)
    for who in row.samples:
        rate = row.median(who, "rate")
        yield "  %-15s" % who + "".join(
            "%13s" % number(row.median(who, field), digits) for field, _, digits in shown) + \
            "%13s" % (number(rate / first, 2) if rate and first else "-")
    for goal in row.goals():
        word = {True: "met", False: "MISSED", None: "not measured"}[goal.met]
        word = word if row.valid else "INVALID"
        yield "  %-58s %10s  goal %s %s  %s" % (
            goal.text, number(goal.value, goal.digits), "<=" if goal.at_most else ">=",
            number(goal.limit, 4 if goal.digits > 3 else 2), word)
    for note in row.notes:
        yield "  note: " + note


def summary_of(row):
    fields = sorted({f for samples in row.samples.values() for s in samples for f in s})
    return {
        "row": row.name, "title": row.title,
        "medians": {who: {f: row.median(who, f) for f in fields
                          if row.median(who, f) is not None} for who in row.samples},
        "rounds": row.samples,
        "goals": [{"goal": g.text, "value": g.value, "limit": g.limit,
                   "at_most": g.at_most, "met": g.met if row.valid else None} for g in row.goals()],
        "notes": row.notes,
    }


class Progress:
    """A bar on a terminal, a line per step elsewhere."""

    def __init__(self, total, quiet):
        self.total, self.done, self.quiet = total, 0, quiet
        self.tty = sys.stderr.isatty()

    def step(self, what, finished=True):
        if self.quiet:
            return
        if self.tty:
            full = int(30 * self.done / max(1, self.total))
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            text = "[%s%s] %d/%d %s" % ("#" * full, "." * (30 - full), self.done, self.total, what)
            sys.stderr.write("\r" + text[:width - 1].ljust(width - 1))
            sys.stderr.flush()
        else:
            sys.stderr.write("%d/%d %s\n" % (self.done, self.total, what))
        if finished:
            self.done += 1

    def clear(self):
        if self.tty and not self.quiet:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
