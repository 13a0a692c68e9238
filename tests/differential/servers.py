# SPDX-License-Identifier: Apache-2.0
"""The servers that are compared, and how a stream is put to them."""
import os
import re
import selectors
import socket
import subprocess
import time

from binary import SET, Binary, packet
from daemon import BUILD, WAIT, Conn, wait_for

HOST = "127.0.0.1"


class Memcached:
    """Debian's, with a clock that stands still."""

    def __init__(self, port, args=(), env=None):
        self.port = port
        still = os.path.abspath(os.path.join(BUILD, "tests/still.so"))
        assert os.path.exists(still), still + " is missing: make unit"
        self.proc = subprocess.Popen(
            ["memcached", "-u", "root", "-l", HOST, "-p", str(port), "-U", "0", "-t", "2", "-m", "2048"] + list(args),
            stdin=subprocess.DEVNULL, env=dict(os.environ, LD_PRELOAD=still, **(env or {})))
        wait_for("memcached", self._serves)

    def _serves(self):
        assert self.proc.poll() is None, "memcached ended with %s" % self.proc.returncode
        try:
            socket.create_connection((HOST, self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.proc.kill()  # with its clock it would not end in good order
        self.proc.wait()


def ask(port, data, end):
    with socket.create_connection((HOST, port), WAIT) as s:
        s.sendall(data)
        got = b""
        while not got.endswith(end):
            more = s.recv(65536)
            assert more, "closed: %r" % got
            got += more
    return got


def counter(port, hello):
    """The number that memcached gave last, by giving one more. hello: what a client says that must log in, or None: packets."""
    if hello is None:
        return binary_counter(port)
    got = ask(port, hello + b"set - 0 0 1\r\nx\r\ngets -\r\ndelete -\r\n", b"DELETED\r\n")
    return int(re.search(rb"VALUE - 0 1 (\d+)\r\n", got).group(1))


def sasl_in(c):
    c.ask(packet(0x21, b"PLAIN", b"\0u\0p"))
    return c


def binary_counter(port):
    with sasl_in(Binary(Conn(socket.create_connection((HOST, port), WAIT)))) as c:
        n = c.ask(SET(b"-", b"x")).cas
        c.ask(packet(4, b"-"))
        return n


def date(port, hello):
    """The date at which its clock stands."""
    if hello is None:
        with sasl_in(Binary(Conn(socket.create_connection((HOST, port), WAIT)))) as c:
            return int(c.stats()["time"])
    return int(re.search(rb"STAT time (\d+)\r\n", ask(port, hello + b"stats\r\n", b"END\r\n")).group(1))


def flush(ports, hello):
    for p in ports:
        if hello is None:
            with sasl_in(Binary(Conn(socket.create_connection((HOST, p), WAIT)))) as c:
                c.ask(packet(8))
        else:
            ask(p, hello + b"flush_all\r\n", b"OK\r\n")


class _One:
    """A connection that goes through a script: chunks to send, then what to wait for; after the last, nothing more is sent."""

    def __init__(self, port, script):
        self.s = socket.create_connection((HOST, port), WAIT)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.setblocking(False)
        self.script, self.step, self.i, self.at = script, 0, 0, 0
        self.got = []
        self.sent = self.over = False

    def send(self):
        """Sends on; `sent`: there is nothing to send at present."""
        chunks, until = self.script[self.step]
        try:
            while self.i < len(chunks):
                c = chunks[self.i]
                self.at += self.s.send(memoryview(c)[self.at:])
                if self.at == len(c):
                    self.i, self.at = self.i + 1, 0
            if until is None:
                self.s.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            pass  # it hung up; what it said before can still be read
        self.sent = True
        self.go_on()

    def go_on(self):
        until = self.script[self.step][1]
        if not self.sent or until is None:
            return
        if isinstance(until, int):
            done = sum(g.count(b"\n") for g in self.got) >= until
        else:
            done = b"".join(self.got[-2:]).endswith(until)
        if done:
            self.step, self.i, self.at, self.sent = self.step + 1, 0, 0, False
            self.send()

    def receive(self):
        try:
            while True:
                more = self.s.recv(1 << 18)
                if not more:
                    break
                self.got.append(more)
        except BlockingIOError:
            self.go_on()
            return
        except ConnectionError:
            pass  # it hung up while we were sending
        self.over = True


def exchange(ports, script):
    """
    What each says until it hangs up. script: [(chunks, until), ...]; the next are sent when `until` was said, bytes that
    stand last or a number of lines in all; None, and there is nothing more to send.
    """
    ones = [_One(p, script) for p in ports]
    with selectors.DefaultSelector() as sel:
        for o in ones:
            o.send()
            sel.register(o.s, selectors.EVENT_READ | (0 if o.sent else selectors.EVENT_WRITE), o)
        end = time.monotonic() + WAIT
        left = len(ones)
        while left and time.monotonic() < end:
            for key, events in sel.select(1):
                o = key.data
                if events & selectors.EVENT_READ:
                    o.receive()
                if events & selectors.EVENT_WRITE and not o.sent:
                    o.send()
                if o.over:
                    sel.unregister(o.s)
                    left -= 1
                elif (key.events & selectors.EVENT_WRITE != 0) == o.sent:
                    sel.modify(o.s, selectors.EVENT_READ | (0 if o.sent else selectors.EVENT_WRITE), o)
    for o in ones:
        o.s.close()
    return [b"".join(o.got) if o.over else b"".join(o.got) + b"<nothing more>" for o in ones]
