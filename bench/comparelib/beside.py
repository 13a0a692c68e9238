# SPDX-License-Identifier: Apache-2.0
"""
Two builds of valcached in alternating rounds, without the peers: what a change costs. Each build has
servers, ports and stores of its own; who goes first changes from round to round.
"""
import copy
import os
import statistics

from . import rows
from .servers import Lot

OWN, OTHER = "valcached", "other build"
PORTS = 50      # between the first port of one build and that of the other
MOST = 1.02     # CPU per operation that this build may cost of the other


class Side:
    """One build: what rows ask for."""

    def __init__(self, name, cfg, build, port, folder):
        self.name, self.cfg, self.state = name, copy.copy(cfg), {}
        self.cfg.program = lambda program: os.path.join(os.path.abspath(build), program) \
            if program == "valcached" else cfg.program(program)     # one client for both
        self.cfg.port, self.cfg.work_dir = port, os.path.join(cfg.work_dir, folder)
        self.cfg.out = os.path.join(cfg.out, folder)
        os.makedirs(os.path.join(self.cfg.out, "raw"), exist_ok=True)
        os.makedirs(self.cfg.work_dir, exist_ok=True)
        self.lot = Lot(self.cfg)


class Sides:
    def __init__(self, cfg):
        self.both = [Side(OWN, cfg, cfg.build, cfg.port, "own"),
                     Side(OTHER, cfg, cfg.beside, cfg.port + PORTS, "other")]
        self.notes = []

    def close(self):
        for side in self.both:
            side.lot.close()


class BesideRow(rows.Row):
    """A row of both builds; its goal is the median of the rounds' ratios of CPU per operation."""

    def __init__(self, kind, cfg, sides):
        super().__init__(cfg, None, None)
        self.name, self.title = kind.name, kind.title
        self.rows = [kind(s.cfg, s.lot, s.state) for s in sides.both]
        self.sides = sides.both

    def prepare_own(self):
        for row in self.rows:
            row.prepare_own()

    def contestants(self):
        pairs = []
        for side, row in zip(self.sides, self.rows):
            measure = dict(row.contestants())["valcached"]
            pairs.append((side.name, measure))
        return pairs

    def in_round(self, number):
        pairs = self.contestants()
        return pairs if number % 2 else pairs[::-1]

    def check_hits(self):
        super().check_hits()
        for row in self.rows:
            self.notes += row.notes

    def goals(self):
        pairs = zip(self.samples.get(OWN, []), self.samples.get(OTHER, []))
        each = [rows.ratio(a["cpu"], b["cpu"]) for a, b in pairs if a["cpu"] is not None]
        each = [r for r in each if r is not None]
        return [rows.Goal("CPU per operation / other build, median of %d" % len(each),
                          statistics.median(each) if each else None, MOST)]
