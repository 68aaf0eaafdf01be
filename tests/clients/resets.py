"""Connections that are reset by the client: SO_LINGER with no time to linger.

usage: resets.py PORT CONNECTIONS

A third of them before a byte was sent, a third with bytes on their way to the server, a third with
an echo on its way back.
"""

import socket
import struct
import sys

PATIENCE_S = 20
ABRUPTLY = struct.pack("ii", 1, 0)


def reset(port, how):
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPTLY)
    if how > 0:
        client.sendall(b"x" * 20_000)
    if how > 1:
        client.recv(1)
    client.close()


if __name__ == "__main__":
    port, connections = map(int, sys.argv[1:])
    for number in range(connections):
        reset(port, number % 3)
    print(f"{connections} connections reset")
