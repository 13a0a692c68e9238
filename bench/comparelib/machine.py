# SPDX-License-Identifier: Apache-2.0
"""
What the figures were measured on: processor, memory, kernel, disk, file system, load. And the
memory cgroup that keeps the page cache from serving a peer's "disk" reads. One process, one thread.
"""
import os
import platform
import re
import subprocess


def first_match(path, pattern, default="?"):
    try:
        with open(path) as f:
            found = re.search(pattern, f.read(), re.M)
    except OSError:
        return default
    return found.group(1).strip() if found else default


def read_text(path, default="?"):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return default


def mount_of(path):
    """(device, mount point, type, options) of the file system that holds path."""
    path, best = os.path.realpath(path), ("?", "", "?", "?")
    with open("/proc/mounts") as f:
        for line in f:
            dev, point, kind, options = line.split()[:4]
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[1]):
                best = (dev, point, kind, options)
    return best


def disk_of(path):
    """Name in /sys/block of the disk under path, or None."""
    st = os.stat(path)
    link = "/sys/dev/block/%d:%d" % (os.major(st.st_dev), os.minor(st.st_dev))
    try:
        real = os.path.realpath(link, strict=True) if hasattr(os.path, "realpath") else link
    except OSError:
        return None
    while real not in ("/", ""):
        name = os.path.basename(real)
        if os.path.exists("/sys/block/" + name):
            return name
        real = os.path.dirname(real)
    return None


def version_of(command, pattern):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "not installed"
    found = re.search(pattern, out.stdout + out.stderr)
    return found.group(1) if found else "?"


def describe(folder):
    """What to print at the top of every result."""
    dev, point, kind, options = mount_of(folder)
    disk = disk_of(folder)
    queue = "/sys/block/%s/queue/" % disk
    return {
        "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
        "cpus": os.cpu_count(),
        "memory_gib": round(int(first_match("/proc/meminfo", r"^MemTotal:\s*(\d+)", "0")) / 2**20, 1),
        "virtual": "hypervisor" in first_match("/proc/cpuinfo", r"^flags\s*:(.*)$", ""),
        "kernel": platform.release(),
        "disk": disk,
        "disk_rotational": read_text(queue + "rotational"),
        "disk_scheduler": read_text(queue + "scheduler"),
        "disk_requests": read_text(queue + "nr_requests"),
        "disk_write_cache": read_text(queue + "write_cache"),
        "file_system": "%s on %s (%s)" % (kind, point, options),
        "device": dev,
        "load": read_text("/proc/loadavg"),
        "memcached": version_of(["memcached", "-V"], r"memcached (\S+)"),
        "fio": version_of(["fio", "--version"], r"fio-(\S+)"),
    }


class MemoryCgroup:
    """
    A child of our own memory cgroup with a limit. `why_not` is a sentence when none can be made;
    then the caller must say so beside its figures.
    """

    def __init__(self, name, limit_bytes):
        self.path, self.why_not, self.kind = None, None, None
        own = {}
        with open("/proc/self/cgroup") as f:
            for line in f:
                _, controllers, path = line.strip().split(":", 2)
                for controller in controllers.split(","):
                    own[controller] = path
        for kind, root, path, limit_file in self._candidates(own):
            folder = os.path.join(root + path.rstrip("/"), name)
            try:
                os.mkdir(folder)
            except OSError as e:
                self.why_not = "%s: %s" % (folder, e.strerror)
                continue
            try:
                with open(os.path.join(folder, limit_file), "w") as f:
                    f.write(str(limit_bytes))
            except OSError as e:
                self.why_not = "%s: %s" % (os.path.join(folder, limit_file), e.strerror)
                os.rmdir(folder)
                continue
            self.path, self.kind, self.why_not = folder, kind, None
            return
        if self.why_not is None:
            self.why_not = "no memory controller is mounted"

    @staticmethod
    def _candidates(own):
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            path = own.get("", "/")
            yield "v2", "/sys/fs/cgroup", path, "memory.max"
            # a group that holds processes gives its children no controllers; its parent may
            yield "v2", "/sys/fs/cgroup", os.path.dirname(path), "memory.max"
        if "memory" in own:
            yield "v1", "/sys/fs/cgroup/memory", own["memory"], "memory.limit_in_bytes"
            # inside a container the own path is often not visible below the mount
            yield "v1", "/sys/fs/cgroup/memory", "", "memory.limit_in_bytes"

    def enter(self):
        """In a child process before exec."""
        with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))

    def remove(self):
        if self.path is None:
            return
        try:
            os.rmdir(self.path)
        except OSError:
            pass  # a page cache that is still charged to it; the kernel frees both later
        self.path = None
