"""Runs a program in a terminal of its own, blocking (1) or not (0), and types what it asks for."""

import os
import pty
import sys

pid, terminal = pty.fork()
if pid == 0:
    os.set_blocking(0, sys.argv[1] == "1")
    os.execv(sys.argv[2], sys.argv[2:])

shown = b""


def until(text):
    """Waits until the program has shown this, and forgets what came before."""
    global shown
    while text not in shown:
        try:
            more = os.read(terminal, 1000)
        except OSError:  # The program has gone, and with it the terminal.
            more = b""
        if not more:
            sys.exit("it has ended without " + repr(text) + ": " + repr(shown))
        shown += more
    shown = shown.split(text, 1)[1]


until(b"=ready")
os.write(terminal, b"first\n")
until(b"=got first")
os.write(terminal, b"for the child\nsecond\n")
until(b"=child got for the child")
until(b"=got second")
os.write(terminal, b"\x04")
until(b"=end")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
