# SPDX-License-Identifier: Apache-2.0
"""
A relay between clients and a daemon, which may change what it passes and keep it.

    with Relay(port, d.port) as r:          # listens on 127.0.0.1:port
        ...
    r.streams                               # of each connection: a list of (from_client, bytes), in order

    write_pcap(name, port, r.streams)       # the same as packets, for tshark
"""
import itertools
import select
import socket
import struct
import threading


class Relay:
    def __init__(self, port, to_port, change=None):
        """change(bytes) gives what is passed on of what the daemon said."""
        self.port, self.to_port, self.change = port, to_port, change or (lambda b: b)
        self.streams = []
        self.threads = []

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.accepting = threading.Thread(target=self._accept)
        self.accepting.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()
        for t in self.threads:
            t.join(10)

    def _accept(self):
        while True:
            try:
                a, _ = self.listener.accept()
            except OSError:
                return
            b = socket.create_connection(("127.0.0.1", self.to_port), 10)
            b.settimeout(None)
            for s in (a, b):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.streams.append([])
            self.threads.append(threading.Thread(target=self._pass, args=(a, b, self.streams[-1]), daemon=True))
            self.threads[-1].start()

    def _pass(self, a, b, stream):
        """Bytes both ways until either side closes."""
        try:
            while True:
                for s in select.select([a, b], [], [])[0]:
                    data = s.recv(1 << 16)
                    if not data:
                        return
                    if s is b:
                        data = self.change(data)
                    stream.append((s is a, data))
                    (b if s is a else a).sendall(data)
        except OSError:
            pass
        finally:
            a.close()
            b.close()


def _sum(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def write_pcap(name, port, streams):
    """
    Each stream as a TCP connection to this port of 127.0.0.1: SYN, what either side said in packets of at most 32 KiB,
    each acknowledging all that came before, FIN. (libpcap's format of old, packets that begin with their IP header.)
    """
    server = struct.unpack(">I", socket.inet_aton("127.0.0.1"))[0]
    clock = 0
    with open(name, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))
        for n, stream in enumerate(streams):
            seq = {True: 1000, False: 2000}

            def packet(from_client, data, flags):
                nonlocal clock
                ports = (40000 + n, port) if from_client else (port, 40000 + n)
                ack = seq[not from_client] if flags & 0x10 else 0
                tcp = struct.pack(">HHIIBBHHH", *ports, seq[from_client], ack, 5 << 4, flags, 65535, 0, 0)
                fake = struct.pack(">IIBBH", server, server, 0, 6, len(tcp) + len(data))
                tcp = tcp[:16] + struct.pack(">H", _sum(fake + tcp + data)) + tcp[18:]
                ip = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(tcp) + len(data), 0, 0, 64, 6, 0, server, server)
                ip = ip[:10] + struct.pack(">H", _sum(ip)) + ip[12:]
                whole = ip + tcp + data
                clock += 1
                f.write(struct.pack("<IIII", 1, clock, len(whole), len(whole)) + whole)
                seq[from_client] = (seq[from_client] + len(data) + (1 if flags & 3 else 0)) & 0xffffffff

            packet(True, b"", 2)
            packet(False, b"", 0x12)
            packet(True, b"", 0x10)
            for from_client, group in itertools.groupby(stream, lambda x: x[0]):
                data = b"".join(x[1] for x in group)
                for at in range(0, len(data), 32768):
                    packet(from_client, data[at:at + 32768], 0x18)
            packet(True, b"", 0x11)
            packet(False, b"", 0x11)
            packet(True, b"", 0x10)
