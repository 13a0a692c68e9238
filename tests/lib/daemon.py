# SPDX-License-Identifier: Apache-2.0
"""
Starts and stops a daemon for a test, on ports of the test's own, with a store in its own folder.

    with Daemon() as d:                     # build/valcached; d.port, d.sock (unix), d.log()
        s = d.connect()
        s.exchange(b"version\r\n")

    Daemon(store="mem", env={"STORE_MEM_ASYNC": "100"})    # tests/double/store_mem.c

VALCACHED names another binary, with the arguments it wants, for both.
"""
import array
import fcntl
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

BUILD = os.environ.get("TEST_BUILD") or os.environ.get("BUILD") or "build"
_tmp = os.environ.get("TEST_TMP")
_first_port = int(os.environ.get("TEST_PORT", "21500"))
_ports = itertools.cycle(range(_first_port, _first_port + 18))  # the last two are for tests that say -l
SPARE_PORT = _first_port + 18
WAIT = 10.0 * (10 if os.environ.get("TEST_WRAP") else 1)


def version():
    """What the programs under test call themselves, as in the answer to `version`."""
    out = subprocess.run([os.path.join(BUILD, "valcached"), "--version"], capture_output=True).stdout
    return out.split()[1]


def tmp():
    global _tmp
    if _tmp is None:
        _tmp = tempfile.mkdtemp(prefix="daemon-", dir=os.environ.get("TEST_TMP"))
        import atexit
        atexit.register(shutil.rmtree, _tmp, True)
    return _tmp


def wait_for(what, test, seconds=None):
    """Waits until test() is true; a failure names what was waited for."""
    end = time.monotonic() + (seconds or WAIT)
    while True:
        got = test()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("waited in vain for " + what)
        time.sleep(0.002)


def stacks(pid):
    """What its threads are doing, if there is a debugger to tell."""
    try:
        p = subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 10"],
                           capture_output=True, timeout=60)
        return "".join(x + "\n" for x in p.stdout.decode(errors="replace").splitlines()
                       if x.startswith(("#", "Thread")))
    except (OSError, subprocess.SubprocessError):
        return ""


class Conn:
    def __init__(self, sock):
        self.s = sock
        self.s.settimeout(WAIT)
        self.buf = b""

    def send(self, data):
        """All of it. The limit is of each step: that of sendall() is of the whole, however much is taken meanwhile."""
        data = memoryview(data)
        while data:
            data = data[self.s.send(data):]

    def taken(self, seconds=0.05):
        """Waits until the daemon has read what was sent (a unix socket tells; TCP, that its kernel has it), for a while."""
        end = time.monotonic() + seconds
        n = array.array("i", [1])
        while time.monotonic() < end:
            fcntl.ioctl(self.s.fileno(), termios.TIOCOUTQ, n)
            if n[0] == 0:
                return True
        return False

    def line(self):
        while b"\r\n" not in self.buf:
            got = self.s.recv(65536)
            if not got:
                raise EOFError("the daemon closed; so far: %r" % self.buf[:200])
            self.buf += got
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line

    def read(self, n):
        parts, have = [self.buf], len(self.buf)
        while have < n:
            got = self.s.recv(min(1 << 20, n - have))
            if not got:
                raise EOFError("the daemon closed after %d of %d bytes" % (have, n))
            parts.append(got)
            have += len(got)
        data = b"".join(parts)
        self.buf = data[n:]
        return data[:n]

    def rest(self):
        """Everything until the daemon closes."""
        parts = [self.buf]
        self.buf = b""
        try:
            while True:
                got = self.s.recv(65536)
                if not got:
                    break
                parts.append(got)
        except ConnectionResetError:
            pass
        return b"".join(parts)

    def until(self, end):
        """Bytes up to and with end."""
        while end not in self.buf:
            got = self.s.recv(65536)
            if not got:
                raise EOFError("the daemon closed; so far: %r" % self.buf[:200])
            self.buf += got
        at = self.buf.index(end) + len(end)
        data, self.buf = self.buf[:at], self.buf[at:]
        return data

    def exchange(self, data):
        """Sends, then a marker (mn), and returns what came before its answer."""
        self.send(data + b"mn\r\n")
        return self.until(b"MN\r\n")[:-4]

    def set(self, key, value, flags=0):
        self.send(b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value))
        return self.line()

    def get(self, key):
        self.send(b"get %s\r\n" % key)
        head = self.line()
        if head == b"END":
            return None
        word, k, _, n = head.split(b" ")
        assert word == b"VALUE" and k == key, head
        value = self.read(int(n))
        assert self.line() == b"" and self.line() == b"END"
        return value

    def stats(self, group=b""):
        self.send(b"stats" + (b" " + group if group else b"") + b"\r\n")
        out = {}
        while True:
            line = self.line()
            if line == b"END":
                return out
            assert line.startswith(b"STAT "), line
            _, name, value = line.split(b" ", 2)
            out[name.decode()] = value.decode()

    def wait_until_read(self):
        """Until a start has all in the index that it had to read: it serves before."""
        def all_read():
            s = self.stats(b"store")
            return s["segments_loaded"] == s["segments_to_load"]

        wait_for("the start to have read its disks", all_read)

    def close(self):
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def shm_names(path):
    """Where the shared memory of the store at path is: format.h, store_id, in either superblock."""
    with open(path, "rb") as f:
        head = f.read(8192)
    ident = next((x for x in (head[40:56], head[4136:4152]) if any(x)), None)
    return ["/dev/shm/valcached-%016x%016x-%s" % (*struct.unpack("<QQ", ident), what)
            for what in ("index", "writes", "writes.new", "lock")] if ident and len(ident) == 16 else []


def forget_shm(path):
    """Removes the shared memory that a daemon keeps for its next start."""
    try:
        for name in shm_names(path):
            if os.path.exists(name):
                os.unlink(name)
    except OSError:
        pass


class Daemon:
    attacked = False  # the test itself makes forbidden system calls in it

    def __init__(self, args=(), store="real", env=None, size="64m", threads=2, unix=True, port=None,
                 path=None, expect_start=True):
        self.port = next(_ports) if port is None else port
        self.dir = tempfile.mkdtemp(dir=tmp())
        self.sock = os.path.join(self.dir, "sock") if unix else None
        self.path = path or os.path.join(self.dir, "store")
        self.logname = os.path.join(self.dir, "log")
        binary = os.environ.get("VALCACHED")
        if binary is None:
            binary = os.path.join(BUILD, "tests/valcached-mem" if store == "mem" else "valcached")
        self.cmd = os.environ.get("TEST_WRAP", "").split() + binary.split() + [
            "-p", str(self.port), "-t", str(threads), "--size=" + size, "--path=" + self.path]
        if unix:
            self.cmd += ["-s", self.sock]
        self.cmd += list(args)
        self.env = dict(os.environ, **(env or {}))
        self.proc = None
        if expect_start:
            self.start()

    def start(self):
        self.began = len(self.log())
        self.proc = subprocess.Popen(self.cmd, env=self.env, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=open(self.logname, "ab"))
        wait_for("the daemon to serve: " + " ".join(self.cmd), self._serves, 3 * WAIT)  # files are made, and synced

    def _serves(self):
        if self.proc.poll() is not None:
            raise AssertionError("the daemon ended with %d:\n%s" % (self.proc.returncode, self.log()))
        return "serving with" in self.log()[self.began:]

    def run(self):
        """For starts that fail, also after five seconds in which another process has the store: (exit status, log)."""
        p = subprocess.run(self.cmd, env=self.env, stdin=subprocess.DEVNULL, timeout=2 * WAIT,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return p.returncode, p.stderr.decode()

    def log(self):
        try:
            with open(self.logname, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def connect(self, unix=False):
        if unix:
            s = socket.socket(socket.AF_UNIX)
            s.connect(self.sock)
        else:
            s = socket.create_connection(("127.0.0.1", self.port), WAIT)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Conn(s)

    def stop(self):
        """Stops it cleanly; anything else is a failure."""
        p, self.proc = self.proc, None
        if p is None:
            return
        if p.poll() is None:
            p.send_signal(signal.SIGTERM)
        try:
            status = p.wait(WAIT + 10)
        except subprocess.TimeoutExpired:
            where = stacks(p.pid)
            p.kill()
            p.wait()
            raise AssertionError("the daemon did not stop:\n" + self.log() + where)
        if status != 0:
            raise AssertionError("the daemon ended with %d:\n%s" % (status, self.log()))
        self.well()

    def well(self):
        """A system call that the sandbox refuses is missing in valcached/sandbox/calls.c, or is a fault."""
        if not self.attacked and "sandbox: refused" in self.log():
            raise AssertionError("the daemon made a system call that its sandbox refuses:\n" + self.log())

    def kill(self):
        self.proc.kill()
        self.proc.wait()
        self.proc = None
        self.well()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        elif self.proc is not None:
            if self.proc.poll() is not None:
                sys.stdout.write("the daemon ended with %d:\n%s\n" % (self.proc.returncode, self.log()))
            self.proc.kill()
            self.proc.wait()
        forget_shm(self.path)


class Tally:
    """Counts cases, of several threads if need be; prints failures: what was wanted, what came."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def same(self, name, got, want):
        with self.lock:
            if got == want:
                self.passed += 1
                return True
            self.failed += 1
        print("FAILED %s\n  want %r\n  got  %r" % (name, want, got), flush=True)
        return False

    def check(self, name, ok, said=""):
        return self.same(name + (" " + str(said) if said else ""), bool(ok), True)

    def run(self, name, fn, *args):
        """A case that fails by raising."""
        try:
            fn(*args)
            with self.lock:
                self.passed += 1
        except Exception as e:  # whatever it is, it is a failed case
            with self.lock:
                self.failed += 1
            import traceback
            tb = traceback.extract_tb(e.__traceback__)[-1]
            print("FAILED %s: %s: %s (%s:%d)" % (name, type(e).__name__, e, tb.filename, tb.lineno),
                  flush=True)

    def end(self):
        print("%d passed, %d failed" % (self.passed, self.failed))
        sys.exit(1 if self.failed or not self.passed else 0)
