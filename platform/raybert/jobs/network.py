"""Hosts on one machine: a network namespace each, joined by a bridge, as machines by a switch.

A host has its own loopback, its own address and its own ports, so that what works between hosts
here works between machines, and what is cut here is cut as a cable would be.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from raybert.errors import PlatformError
from raybert.settings import Settings, home

NAMESPACES = Path("/run/netns")
CARD = "eth0"
"""Name of a host's network card, inside the host."""


class Network(Settings):
    """A bridge with one namespace for each host, numbered from 1; host 1 is the head."""

    name: str
    """Name of the bridge, and beginning of the names of all that belongs to it."""
    subnet: str
    """First three numbers of its addresses, out of the range set apart for tests (RFC 2544)."""
    hosts: int
    """How many hosts it has."""

    @classmethod
    def of_home(cls, hosts: int) -> Network:
        """Return the network of this home's platform: two homes have two."""
        digest = hashlib.sha256(str(home()).encode()).digest()
        return cls(
            name=f"rb{digest.hex()[:6]}",
            subnet=f"198.{18 + digest[6] % 2}.{digest[7]}",
            hosts=hosts,
        )

    @property
    def exists(self) -> bool:
        """Say whether it is there."""
        return (NAMESPACES / self._host(1)).exists()

    def address(self, host: int) -> str:
        """Return the address of a host."""
        return f"{self.subnet}.{host}"

    def inside(self, host: int) -> list[str]:
        """Return what to put before a command that shall run on a host."""
        return ["ip", "netns", "exec", self._host(host)]

    def create(self) -> None:
        """Make the bridge and the hosts.

        Raises:
            PlatformError: not root, no `ip`, or the kernel refuses.
        """
        if reason := no_namespaces():
            raise PlatformError(f"hosts with networks of their own: {reason}; use network: shared")
        self.remove()
        _ip(f"link add {self.name} type bridge")
        _ip(f"addr add {self.address(254)}/24 dev {self.name}")
        _ip(f"link set {self.name} up")
        for host in range(1, self.hosts + 1):
            self._add(host)

    def remove(self) -> None:
        """Take bridge and hosts away; what is not there is no fault."""
        for host in range(1, self.hosts + 1):
            if (NAMESPACES / self._host(host)).exists():
                _ip(f"netns del {self._host(host)}")
        if (Path("/sys/class/net") / self.name).exists():
            _ip(f"link del {self.name}")

    def cut(self, host: int) -> None:
        """Pull a host's cable."""
        _ip(f"link set {self._cable(host)} down")

    def mend(self, host: int) -> None:
        """Put a host's cable back."""
        _ip(f"link set {self._cable(host)} up")

    def _add(self, host: int) -> None:
        space, cable = self._host(host), self._cable(host)
        _ip(f"netns add {space}")
        _ip(f"link add {cable} type veth peer name {CARD} netns {space}")
        _ip(f"link set {cable} master {self.name}")
        _ip(f"link set {cable} up")
        _ip(f"-n {space} link set lo up")
        _ip(f"-n {space} addr add {self.address(host)}/24 dev {CARD}")
        _ip(f"-n {space} link set {CARD} up")
        _ip(f"-n {space} route add default via {self.address(254)}")

    def _host(self, host: int) -> str:
        return f"{self.name}h{host}"

    def _cable(self, host: int) -> str:
        return f"{self.name}c{host}"


def no_namespaces() -> str:
    """Return why this process cannot make network namespaces; empty if it can."""
    if shutil.which("ip") is None:
        return "the program `ip` (iproute2) is not installed"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    probe = f"rbprobe{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip() or "the kernel has no network namespaces"
    _ip(f"netns del {probe}")
    return ""


def _ip(arguments: str) -> None:
    command = ["ip", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PlatformError(f"`{' '.join(command)}`: {done.stderr.strip()}")
