"""Holds a network namespace that has nothing but a loopback device, for others to enter (nsenter), until its starter ends.

Started as a file, on nodes, by any Python 3.8: prints its process id when the namespace is there; 1 with one line on stderr where this
node doesn't let it be made. An ordinary user needs a user namespace for it, in which it stays that same user.
https://man7.org/linux/man-pages/man7/network_namespaces.7.html, netdevice.7, prctl.2
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

NEW_USER, NEW_NET = 0x10000000, 0x40000000  # of unshare
DEATH_SIGNAL = 1  # of prctl
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1  # of a network device


def _call(function: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def enter() -> None:
    """Leave the network. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", NEW_NET if user == 0 else NEW_USER | NEW_NET)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(end, GET_FLAGS, asked))[1]
        fcntl.ioctl(end, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | UP))


def main() -> int:
    starter = os.getppid()
    try:
        enter()
        _call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    except OSError as error:
        print(f"no network namespace can be made here: {error.strerror or error}", file=sys.stderr)
        return 1
    if os.getppid() != starter:
        return 1
    print(os.getpid(), flush=True)
    os.close(1)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
