"""Many connections at once, each sending its bytes in pieces of random sizes and comparing what
comes back.

usage: pieces.py PORT CONNECTIONS BYTES SEED

The last step of each connection is a half-close: the server has to send all that is left, and then
its own end. Prints one line at the end; any difference is an exit status of 1.
"""

import random
import selectors
import socket
import sys

LARGEST_PIECE = 48 * 1024
PATIENCE_S = 20


class Conversation:
    def __init__(self, port, data, sizes):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setblocking(False)
        self.data = memoryview(data)
        self.sizes = sizes
        self.piece = self.next_piece()
        self.sent = 0
        self.received = 0

    def next_piece(self):
        # As many small pieces as large ones: the exponent is what is drawn evenly.
        return int(LARGEST_PIECE ** self.sizes.random())

    def write(self):
        try:
            sent = self.socket.send(self.data[self.sent : self.sent + self.piece])
        except BlockingIOError:
            return
        self.sent += sent
        self.piece -= sent
        if self.piece == 0:
            self.piece = self.next_piece()
        if self.sent == len(self.data):
            self.socket.shutdown(socket.SHUT_WR)

    def read(self):
        """Says whether the end of the stream has come."""
        got = self.socket.recv(1 << 16)
        expected = self.data[self.received : self.received + len(got)]
        if got != expected:
            sys.exit(f"a difference within {len(got)} bytes after byte {self.received}")
        self.received += len(got)
        if got == b"" and self.received < len(self.data):
            sys.exit(f"the end came after {self.received} of {len(self.data)} bytes")
        return got == b""

    def wants(self):
        reading = selectors.EVENT_READ
        return reading if self.sent == len(self.data) else reading | selectors.EVENT_WRITE


def converse(port, connections, size, seed):
    random_bytes = random.Random(seed)
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        data = random_bytes.randbytes(size)
        conversation = Conversation(port, data, random_bytes)
        selector.register(conversation.socket, conversation.wants(), conversation)
    while selector.get_map():
        ready = selector.select(PATIENCE_S)
        if not ready:
            sys.exit(f"nothing happened for {PATIENCE_S} s")
        for key, events in ready:
            step(selector, key.data, events)


def step(selector, conversation, events):
    if events & selectors.EVENT_WRITE:
        conversation.write()
    if events & selectors.EVENT_READ and conversation.read():
        selector.unregister(conversation.socket)
        conversation.socket.close()
    else:
        selector.modify(conversation.socket, conversation.wants(), conversation)


if __name__ == "__main__":
    port, connections, size, seed = map(int, sys.argv[1:])
    converse(port, connections, size, seed)
    print(f"{connections} connections, {size} bytes each: the same bytes came back")
