# SPDX-License-Identifier: Apache-2.0
"""
The table of differences in docs/protocol.md: the only answers in which valcached may differ from memcached.

A row is: name, commands, condition, memcached's answers, valcached's. Answers stand in backticks, one for
each form: a binary one begins with its status of four hex digits, a meta one with its two letters, any other is
text. A form that a side has not in backticks is answered with the side's only answer, or with nothing. `<x>` is a word
that the model knows exactly: the key asked for, a number of memcached's, a hash.
"""
import re

MOST = 40
_META = re.compile(r"^((HD|NS|EX|NF|EN|VA|ME)\b|<answer>)")


def form_of(answer):
    if re.match(r"^[0-9a-f]{4}( |$)", answer):
        return "binary"
    return "meta" if _META.match(answer) else "text"


class Entry:
    def __init__(self, cells):
        self.name, self.commands, self.condition = (c.strip("`") for c in cells[:3])
        self.sides = [{form_of(a): a for a in re.findall(r"`([^`]*)`", c)} for c in cells[3:5]]
        self.nothing = [c.strip() == "nothing" for c in cells[3:5]]
        self.seen = 0

    def answer(self, side, form, words):
        """The exact bytes of a text answer without its line end; of a binary one (status, rest)."""
        forms = self.sides[side]
        if form not in forms and form == "meta" and "text" in forms:
            form = "text"
        if form not in forms and self.nothing[side]:
            return b""
        if form not in forms:
            raise KeyError("%s has no %s answer for side %d" % (self.name, form, side))
        return re.sub(rb"<(\w+)>", lambda m: words[m.group(1).decode()], forms[form].replace("\\r\\n", "\r\n").encode())


def read(path):
    """name -> Entry, of the table whose first column is headed `difference`."""
    out, inside = {}, False
    with open(path) as f:
        for line in f:
            if line.startswith("| difference |"):
                inside = True
            elif inside and line.startswith("|---"):
                pass
            elif inside and line.startswith("|"):
                cells = [c.strip() for c in line.strip().strip("|").split("|")]
                if len(cells) != 5:
                    raise ValueError("%s: a row of %d cells: %s" % (path, len(cells), line))
                e = Entry(cells)
                if e.name in out:
                    raise ValueError("%s: %s stands there twice" % (path, e.name))
                out[e.name] = e
            elif inside:
                break
    if not out:
        raise ValueError("%s has no table of differences" % path)
    if len(out) > MOST:
        raise ValueError("%s lists %d differences, and %d are allowed" % (path, len(out), MOST))
    return out
