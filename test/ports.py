# SPDX-License-Identifier: BSD-3-Clause
"""Ports for servers that are told theirs by number."""
import contextlib
import random
import socket


def free_ports(n):
    """n ports of the loopback interface that nobody has, below those that the system gives to who asks for any: nobody is given one before its server has it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        end = int(f.read().split()[0])
    found = []
    with contextlib.ExitStack() as held:
        for port in random.sample(range(min(10_000, end // 2), end), 200):
            s = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == n:
                return found
    raise OSError(f"no {n} ports are free below {end}")
