# SPDX-License-Identifier: Apache-2.0
"""
The servers that are compared. Each is a child of ours, started once, idle while another is
measured, and ended by its own pid.
"""
import os
import signal
import socket
import subprocess
import time

from . import machine


class ServerFailed(Exception):
    pass


class Server:
    """One process that listens on 127.0.0.1:port."""

    def __init__(self, name, command, port, log_dir, speaks=True, before_exec=None):
        self.name, self.command, self.port, self.speaks = name, command, port, speaks
        self.log_path = os.path.join(log_dir, name + ".log")
        self.before_exec, self.process = before_exec, None

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    @property
    def pid(self):
        return self.process.pid

    def start(self, timeout_s=60):
        with open(self.log_path, "a") as log:
            log.write("+ " + " ".join(self.command) + "\n")
            log.flush()
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=self.before_exec)
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ServerFailed("%s ended with %d; see %s" %
                                   (self.name, self.process.returncode, self.log_path))
            if self._answers():
                return self
            time.sleep(0.05)
        self.stop()
        raise ServerFailed("%s does not answer on port %d; see %s" %
                           (self.name, self.port, self.log_path))

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as s:
                if not self.speaks:
                    return True
                s.sendall(b"version\r\n")
                return s.recv(64).startswith(b"VERSION ")
        except OSError:
            return False

    def stats(self, what=""):
        """`stats` as a dict of strings; empty when the server does not know it."""
        found, buffered = {}, b""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                s.sendall(("stats %s\r\n" % what).replace(" \r", "\r").encode())
                while not buffered.endswith((b"END\r\n", b"ERROR\r\n")):
                    got = s.recv(65536)
                    if not got:
                        break
                    buffered += got
        except OSError:
            return found
        for line in buffered.decode(errors="replace").splitlines():
            word = line.split(" ", 2)
            if len(word) == 3 and word[0] == "STAT":
                found[word[1]] = word[2]
        return found

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class Lot:
    """All servers of a run, made when a row first asks for them."""

    CONNECTIONS = 12000

    def __init__(self, cfg):
        self.cfg, self.running, self.failed, self.notes = cfg, {}, {}, []
        self.cgroup = None
        self.files = []

    def _start(self, name, command, speaks=True, before_exec=None):
        port = self.cfg.port + len(self.running) + len(self.failed)
        command = [word.replace("@PORT@", str(port)) for word in command]
        server = Server(name, command, port, self.cfg.out, speaks, before_exec)
        try:
            self.running[name] = server.start()
        except ServerFailed as e:
            self.failed[name] = e  # the next row that needs it fails at once, for the same reason
            raise
        return server

    def file(self, name):
        path = os.path.join(self.cfg.work_dir, name)
        if path not in self.files:
            self.files.append(path)
        return path

    def get(self, name, *args):
        key = "-".join([name] + [str(a) for a in args])
        if key in self.failed:
            raise self.failed[key]
        if key in self.running:
            return self.running[key]
        return getattr(self, "_make_" + name)(key, *args)

    def _valcached(self, key, ram_mb, path, size, *flags):
        return self._start(key, [
            self.cfg.program("valcached"), "-l", "127.0.0.1", "-p", "@PORT@", "-t",
            str(self.cfg.server_threads), "-m", str(ram_mb), "-c", str(self.CONNECTIONS), "-I",
            "1m", "--path=" + path, "--size=%d" % size, "--mean-value=32k", *flags] +
            self.cfg.valcached_flags)

    def restart(self, name, *flags):
        """The same server anew, with these flags besides; it takes over what the one before left."""
        server = self.running[name]
        server.stop()
        plain = getattr(server, "plain", server.command)
        server.command, server.plain = plain + list(flags), plain
        return server.start()

    def _make_cold(self, key):
        return self._valcached(key, self.cfg.cold_ram_mb, self.file("valcached.cold"),
                               self.cfg.store_bytes)

    def _make_hot(self, key):
        return self._valcached(key, self.cfg.hot_ram_mb, self.file("valcached.hot"),
                               max(self.cfg.store_bytes // 8, 512 << 20))

    def _make_libevent(self, key):
        return self._valcached(key, 64, self.file("valcached.libevent"), 256 << 20, "--io=libevent")

    def _make_memcached(self, key):
        return self._start(key, [
            "memcached", "-u", "root", "-l", "127.0.0.1", "-p", "@PORT@", "-t",
            str(self.cfg.server_threads), "-m", "1024", "-c", str(self.CONNECTIONS), "-I", "2m"])

    def _make_extstore(self, key):
        """
        RAM for the item headers and little else; a limit so tight that the page cache holds only
        a few per cent of the data. Read-ahead costs extstore nothing here that it would not cost
        in production: its file is opened as it opens it.
        """
        ram_mb = 64
        limit = (ram_mb + self.cfg.extstore_slack_mb) << 20
        self.cgroup = machine.MemoryCgroup("valcached-bench-%d" % os.getpid(), limit)
        before = self.cgroup.enter if self.cgroup.path else None
        if before is None:
            self.notes.append("extstore runs without a memory cgroup (%s): part of its reads come "
                              "from the page cache" % self.cgroup.why_not)
        else:
            self.notes.append("extstore runs in a memory cgroup (%s) of %d MiB" %
                              (self.cgroup.kind, limit >> 20))
        return self._start(key, [
            "memcached", "-u", "root", "-l", "127.0.0.1", "-p", "@PORT@", "-t",
            str(self.cfg.server_threads), "-m", str(ram_mb), "-c", "2048", "-I", "1m", "-o",
            "ext_path=%s:%dm,ext_threads=8,ext_wbuf_size=8,ext_item_size=512,ext_item_age=1,"
            "ext_recache_rate=0" %
            (self.file("extstore"), self.cfg.store_bytes >> 20)], before_exec=before)

    def _make_null(self, key, reply, working_set):
        return self._start(key, [
            self.cfg.program("nullserver"), "-p", "@PORT@", "-t", str(self.cfg.server_threads),
            "-r", str(reply), "-w", str(working_set)], speaks=False)

    def _make_sink(self, key):
        return self._start(key, [
            self.cfg.program("nullserver"), "-p", "@PORT@", "-t", str(self.cfg.server_threads),
            "-S"], speaks=False)

    def close(self):
        for server in self.running.values():
            server.stop()
        if self.cgroup is not None:
            self.cgroup.remove()
        if not self.cfg.keep:
            for path in self.files:
                if os.path.exists(path):
                    os.unlink(path)
