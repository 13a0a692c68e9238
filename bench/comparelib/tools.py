# SPDX-License-Identifier: Apache-2.0
"""Running valbench and fio, and taking the figures from their JSON. Raw output is kept."""
import json
import os
import subprocess

from .servers import ServerFailed


class WrongAnswer(Exception):
    """A server gave a wrong byte: no figure of it is worth printing."""


class Sample(dict):
    """One measurement: rate, p50, p99 (us), cpu (us of the server per operation), and others."""


def _save(cfg, raw_name, text):
    with open(os.path.join(cfg.out, "raw", raw_name + ".json"), "w") as f:
        f.write(text)


def valbench(cfg, server, raw_name, *flags, check=True):
    """Runs valbench against a server; the whole JSON as a dict."""
    path = os.path.join(cfg.out, "raw", raw_name + ".json")
    command = [cfg.program("valbench"), "--server", server.address, "--server-pid",
               str(server.pid), "--disk", cfg.disk or "none", "--json", path, "--quiet"]
    command += [str(f) for f in flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1) or (check and done.returncode == 1):
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise WrongAnswer("%s against %s: exit %d: %s" % (
            raw_name, server.name, done.returncode, "; ".join(said[:3])))
    with open(path) as f:
        return json.load(f)


def sample_of(result, op):
    """op is get_hit, get_miss or set: whose latency counts."""
    watched = result["watched"]
    hits = result["get_hit"]["count"]
    return Sample(
        rate=result["ops_per_s"], p50=result[op]["p50_us"], p99=result[op]["p99_us"],
        p999=result[op]["p999_us"], cpu=watched.get("server_cpu_us_per_op"),
        client_cpu=watched["client_cpu_us_per_op"], hit_ratio=result["hit_ratio"],
        switches=watched.get("switches_per_op"), rss=watched.get("server_rss_bytes"),
        reads_per_get=watched["disk_reads"] / hits if hits and "disk_reads" in watched else None,
        kib_per_get=(watched["server_read_bytes"] / hits / 1024
                     if hits and "server_read_bytes" in watched else None),
        server_read_bytes=watched.get("server_read_bytes"),
        disk_read_bytes=watched.get("disk_read_bytes"), disk_reads=watched.get("disk_reads"), ops=result["ops"],
        verified=result["verify"] == "full", server_errors=result["server_errors"])


def fio(cfg, raw_name, path, rw, block, depth, seconds=None, size=None, range_bytes=None,
        extra=()):
    """Runs fio on a file, O_DIRECT, io_uring, registered buffers and file; a Sample."""
    command = ["fio", "--name=" + raw_name, "--filename=" + path, "--rw=" + rw, "--bs=%d" % block,
               "--direct=1", "--ioengine=io_uring", "--iodepth=%d" % depth, "--fixedbufs=1",
               "--registerfiles=1", "--randrepeat=0", "--norandommap", "--output-format=json",
               "--allow_file_create=1", "--invalidate=0"]
    if seconds is not None:
        command += ["--time_based", "--runtime=%s" % seconds]
    if range_bytes is not None:
        command += ["--size=%d" % range_bytes]
    if size is not None:
        command += ["--io_size=%d" % size]
    if rw in ("randread", "read"):
        command += ["--readonly"]
    done = subprocess.run(command + list(extra), capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerFailed("fio %s: %s" % (raw_name, done.stderr.strip()[:300]))
    _save(cfg, raw_name, done.stdout)
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    side = job["write"] if rw in ("write", "randwrite") else job["read"]
    ios = job["read"]["total_ios"] + job["write"]["total_ios"]
    spent_us = max(job["read"]["runtime"], job["write"]["runtime"]) * 1000.0
    percentile = side["clat_ns"].get("percentile", {})
    return Sample(
        rate=job["read"]["iops"] + job["write"]["iops"],
        bytes_per_s=job["read"]["bw_bytes"] + job["write"]["bw_bytes"],
        p50=percentile.get("50.000000", 0) / 1e3, p99=percentile.get("99.000000", 0) / 1e3,
        p999=percentile.get("99.900000", 0) / 1e3,
        cpu=(job["usr_cpu"] + job["sys_cpu"]) / 100 * spent_us / ios if ios else None, ops=ios)


def _valbench_json(cfg, raw_name, flags):
    path = os.path.join(cfg.out, "raw", raw_name + ".json")
    done = subprocess.run([cfg.program("valbench"), "--quiet", "--json", path] +
                          [str(f) for f in flags], capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerFailed("valbench %s: exit %d: %s" %
                           (raw_name, done.returncode, done.stderr.strip()[:300]))
    with open(path) as f:
        return json.load(f)


def idle(cfg, server, raw_name, connections):
    return _valbench_json(cfg, raw_name, [
        "--server", server.address, "--server-pid", server.pid, "--idle", connections,
        "--duration", cfg.seconds])


def wakeup(cfg, raw_name):
    return _valbench_json(cfg, raw_name, ["--wakeup"])
