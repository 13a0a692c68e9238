# SPDX-License-Identifier: Apache-2.0
"""
Answers beside each other: the same bytes, but where the model said that an entry of the table applies; there each
side must have said exactly what the table says, also that it was no difference.
"""
from packets import HEAD, SAME
from source import LAST, MARK


def prefix(a, b):
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low, high = 0, n
    while high - low > 1:
        mid = (low + high) // 2
        if a[:mid] == b[:mid]:
            low = mid
        else:
            high = mid
    return low


def match(theirs, ours, answers):
    """True if both are made of `answers` in their order, SAME standing for any bytes that both have."""
    at, any_before = 0, False
    while at < len(answers) and answers[at] is SAME:
        at, any_before = at + 1, True
    if at == len(answers):
        return theirs == ours and (any_before or not theirs)
    _, a, b = answers[at]
    most = prefix(theirs, ours) if any_before else 0
    for n in range(most, -1, -1):
        if theirs.startswith(a, n) and ours.startswith(b, n) and match(theirs[n + len(a):], ours[n + len(b):], answers[at + 1:]):
            return True
    return False


def text(stream, theirs, ours):
    """None, or (number of the group, memcached's bytes, ours) where they are not as they should be."""
    a = b = 0
    last = len(stream.groups) - 1
    for i, answers in enumerate(stream.groups):
        if i == last:
            x, y = theirs[a:], ours[b:]
            a, b = len(theirs), len(ours)
        else:
            m = b"EN O%s%d\r\n" % (MARK, i + 1)
            p, q = theirs.find(m, a), ours.find(m, b)
            if p < 0 or q < 0:
                return i, theirs[a:p if p >= 0 else None], ours[b:q if q >= 0 else None]
            x, y = theirs[a:p], ours[b:q]
            a, b = p + len(m), q + len(m)
        if not (x == y if not answers else match(x, y, answers)):
            return i, x, y
    return None


def packets(data):
    """(opaque -> bytes of its answers, opaques in their order), or None if these are no packets."""
    out, order, at = {}, [], 0
    while at < len(data):
        if len(data) - at < 24 or data[at] != 0x81:
            return None
        body, opaque = HEAD.unpack(data[at:at + 24])[6:8]
        end = at + 24 + body
        if end > len(data):
            return None
        if opaque != LAST:
            out[opaque] = out.get(opaque, b"") + data[at:end]
            order.append(opaque)
        at = end
    return out, order


def binary(stream, theirs, ours):
    x, y = packets(theirs), packets(ours)
    if x is None or y is None:
        return 0, theirs[-200:], ours[-200:]
    if x[1] != sorted(x[1]) or y[1] != sorted(y[1]):
        return 0, repr(x[1]).encode(), repr(y[1]).encode()
    for opaque in sorted(set(x[0]) | set(y[0]) | set(stream.answers)):
        a, b = x[0].get(opaque, b""), y[0].get(opaque, b"")
        want = stream.answers.get(opaque, SAME)
        if want is SAME:
            if a != b:
                return opaque, a, b
        elif (a, b) != want[1:]:
            return opaque, a, b
    return None


def compare(stream, theirs, ours):
    return (binary if stream.protocol == "binary" else text)(stream, theirs, ours)


def wanted(stream, at):
    """What the model said of the place that compare() named."""
    if stream.protocol == "binary":
        return stream.answers.get(at, SAME)
    return stream.groups[at]
