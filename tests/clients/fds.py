"""Takes two ends of pipes from the Unix socket, passes on what comes through, and sends one of its own."""

import os
import socket
import sys

peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
peer.connect(sys.argv[1])

text, fds, flags, _ = socket.recv_fds(peer, 100, 10)
assert (text, len(fds), flags) == (b"two ends", 2, 0), (text, fds, flags)
reader, writer = fds
while data := os.read(reader, 100):
    os.write(writer, data.upper())
os.close(reader)
os.close(writer)

mine, end = os.pipe()
socket.send_fds(peer, [b"one end"], [mine])
os.close(mine)
os.write(end, b"from python")
os.close(end)
assert peer.recv(1) == b""
