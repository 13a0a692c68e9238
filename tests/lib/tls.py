# SPDX-License-Identifier: Apache-2.0
"""
Certificates for a test, made by the openssl program, and TLS clients.

    c = Certs()                          # an authority, a server's and a client's certificate, in a folder
    with Daemon(c.args(), store="mem") as d:
        s = connect(d, c)                # a Conn of lib/daemon.py, over TLS
"""
import os
import socket
import ssl
import subprocess
import tempfile

from daemon import Conn, WAIT, tmp


def openssl(*args):
    p = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, capture_output=True)
    if p.returncode != 0:
        raise AssertionError("openssl %s: %s" % (" ".join(args), p.stderr.decode()))
    return p.stdout


class Certs:
    def __init__(self):
        self.dir = tempfile.mkdtemp(dir=tmp())
        self.authority("ca")
        self.make("server", "ca")
        self.make("client", "ca")

    def path(self, name):
        return os.path.join(self.dir, name)

    def authority(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-subj", "/CN=" + name, "-keyout", self.path(name + ".key"), "-out", self.path(name + ".pem"))

    def make(self, name, ca, days=30, into=None, rsa=False):
        """into: the files' name, if it is another than the subject's."""
        into = into or name
        new = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        csr, ext = self.path(into + ".csr"), self.path(into + ".ext")
        openssl("req", "-newkey", *new, "-nodes", "-subj", "/CN=" + name,
                "-keyout", self.path(into + ".key.new"), "-out", csr)
        with open(ext, "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        # x509 -days knows no past: `ca` does, but wants a folder of its own
        dates = ["-days", str(days)]
        openssl("x509", "-req", "-in", csr, "-CA", self.path(ca + ".pem"), "-CAkey", self.path(ca + ".key"),
                "-CAcreateserial", *dates, "-extfile", ext, "-out", self.path(into + ".pem.new"))
        for end in (".key", ".pem"):
            os.replace(self.path(into + end + ".new"), self.path(into + end))

    def args(self, *more, name="server"):
        return ["-Z", "-o", "ssl_chain_cert=%s,ssl_key=%s" % (self.path(name + ".pem"), self.path(name + ".key")),
                *more]

    def context(self, client=None, version=None, ca="ca"):
        x = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        x.load_verify_locations(self.path(ca + ".pem"))
        if client:
            x.load_cert_chain(self.path(client + ".pem"), self.path(client + ".key"))
        if version:
            x.minimum_version = x.maximum_version = version
        return x


def raw(d, port=None):
    s = socket.create_connection(("127.0.0.1", port or d.port), WAIT)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def connect(d, certs, session=None, context=None, **kind):
    x = context or certs.context(**kind)
    return Conn(x.wrap_socket(raw(d), server_hostname="localhost", session=session))
