"""Standard input and output to a TCP port of this machine: what QEMU starts for each connection that a guest opens."""

from __future__ import annotations

import select
import socket
import sys


def main() -> None:
    """Args: host, port. Ends when either side does."""
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    near = socket.socket(fileno=0)
    while True:
        for ready in select.select([near, sock], [], [])[0]:
            data = ready.recv(65_536)
            if not data:
                return
            (sock if ready is near else near).sendall(data)


if __name__ == "__main__":
    main()
