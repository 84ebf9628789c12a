#!/usr/bin/env python3
"""Types into terminals and reads from them, as a student would. Standard input says what, a step a line:

    1 start COMMAND    begin COMMAND in terminal 1
    1 see TEXT         wait until terminal 1 shows TEXT, behind what was seen there before
    1 type TEXT        type TEXT and Enter; ^C and ^D are those keys
    1 end STATUS       wait until the command has ended with that status
"""
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from fcntl import ioctl

PATIENCE = 30  # seconds, for each step
KEYS = {"^C": b"\x03", "^D": b"\x04"}
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """A command with a terminal of its own, wide enough that no line wraps."""

    def __init__(self, command):
        self.shown, self.seen = b"", 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp("sh", ["sh", "-c", "exec " + command])
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 200, 0, 0))

    def text(self):
        return ESCAPES.sub(b"", self.shown)

    def read(self, until):
        """More of what is shown; nothing at the end."""
        if not select.select([self.fd], [], [], max(0, until - time.monotonic()))[0]:
            raise TimeoutError
        try:
            more = os.read(self.fd, 65536)
        except OSError:  # its last process has ended
            more = b""
        self.shown += more
        return more

    def see(self, text):
        until = time.monotonic() + PATIENCE
        while (at := self.text().find(text.encode(), self.seen)) < 0:
            if not self.read(until):
                raise EOFError
        self.seen = at + len(text.encode())

    def type(self, text):
        os.write(self.fd, KEYS.get(text, text.encode() + b"\r"))

    def end(self, status):
        until = time.monotonic() + PATIENCE
        while self.read(until):
            pass
        ended = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if ended != int(status):
            raise ValueError(f"it ended with status {ended}")


terminals = {}
for step in filter(None, map(str.strip, sys.stdin)):
    name, what, rest = (step.split(" ", 2) + [""])[:3]
    try:
        if what == "start":
            terminals[name] = Terminal(rest)
        else:
            getattr(terminals[name], what)(rest)
    except (TimeoutError, EOFError, ValueError) as error:
        print(f"{step}: {type(error).__name__} {error}")
        for number, terminal in terminals.items():
            print(f"--- terminal {number}:\n{terminal.text().decode(errors='replace')}")
        sys.exit(1)
print(f"{len(terminals)} terminals" if len(terminals) > 1 else "1 terminal")
