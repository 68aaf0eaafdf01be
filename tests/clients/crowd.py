"""Connections that stay open until this process is killed.

usage: crowd.py PORT CONNECTIONS BYTES

Each sends its bytes and reads none of what comes back: with more than fit into the sockets the
server is left with a write that cannot go on; with none, with a receive. Prints `open` when all is
sent, and then waits for its end.
"""

import signal
import socket
import sys


def connect(port, size):
    client = socket.create_connection(("127.0.0.1", port))
    client.setblocking(False)
    while size > 0:
        try:
            size -= client.send(b"x" * size)
        except BlockingIOError:
            break
    return client


if __name__ == "__main__":
    port, connections, size = map(int, sys.argv[1:])
    crowd = [connect(port, size) for _ in range(connections)]
    print("open", flush=True)
    signal.pause()
