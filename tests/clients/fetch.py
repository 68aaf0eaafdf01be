"""Many clients of a file server that ask for a file, ten times in a row and again, until it hangs up.

usage: fetch.py PORT CLIENTS SIZE BUSY

SIZE is that of the file, whose bytes are all `x`. Prints `busy` when there have been so many answers.
Each of them has to be there in full or not at all, also the last one of a connection. Prints one line at
the end, with how many were whole, how many clients got something else, and what that was.
"""

import socket
import sys
import threading

PATIENCE_S = 30
ROW = 10
REQUEST = b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Tally:
    def __init__(self, busy):
        self.lock = threading.Lock()
        self.whole, self.busy, self.wrong = 0, busy, []

    def add(self):
        with self.lock:
            self.whole += 1
            if self.whole == self.busy:
                print("busy", flush=True)


def answer(stream, size):
    """Whether there was one."""
    status = stream.readline()
    if not status:
        return False
    header = status
    while header not in (b"\r\n", b""):
        header = stream.readline()
    body = stream.read(size)
    if status != b"HTTP/1.1 200 OK\r\n" or header == b"" or body != b"x" * size:
        raise ValueError("%r and %d bytes" % (status, len(body)))
    return True


def converse(port, size, tally):
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as server:
        stream = server.makefile("rb")
        while True:
            try:
                server.sendall(REQUEST * ROW)
            except BrokenPipeError:
                pass  # What was answered before can still be read.
            for _ in range(ROW):
                if not answer(stream, size):
                    return
                tally.add()


def client(port, size, tally):
    try:
        converse(port, size, tally)
    except (OSError, ValueError) as error:
        tally.wrong.append(error)


if __name__ == "__main__":
    port, clients, size, busy = map(int, sys.argv[1:])
    tally = Tally(busy)
    arguments = (port, size, tally)
    threads = [threading.Thread(target=client, args=arguments) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("whole=%d wrong=%d %s" % (tally.whole, len(tally.wrong), tally.wrong[:3]))
