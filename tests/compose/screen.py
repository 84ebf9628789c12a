"""Terminals with a shell in them, and what is to be read on their screens: enough of an emulator for programs that redraw lines."""
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from fcntl import ioctl

COLUMNS = 400  # so that nothing wraps
SEQUENCE = re.compile(r"\x1b(?:\[([0-9;?]*)([A-Za-z])|\][^\x07]*\x07|[=>()].?)")


class Screen:
    """Lines, without end, and a cursor."""

    def __init__(self):
        self.lines, self.row, self.column, self.rest = [""], 0, 0, ""

    def feed(self, text):
        text, at = self.rest + text, 0
        self.rest = ""
        while at < len(text):
            char = text[at]
            if char == "\x1b":
                found = SEQUENCE.match(text, at)
                if not found:  # not complete yet
                    self.rest = text[at:]
                    return
                self.control(found[1] or "", found[2])
                at = found.end()
                continue
            at += 1
            if char == "\n":
                self.row += 1
            elif char == "\r":
                self.column = 0
            elif char == "\b":
                self.column = max(0, self.column - 1)
            elif char == "\t":
                self.column += 8 - self.column % 8
            elif char >= " ":
                self.put(char)
            while self.row >= len(self.lines):
                self.lines.append("")

    def put(self, char):
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
        self.column += 1

    def control(self, arguments, letter):
        number = int(arguments) if arguments.isdigit() else 0
        line = self.lines[self.row]
        if letter == "A":
            self.row = max(0, self.row - max(1, number))
        elif letter == "B":
            self.row += max(1, number)
        elif letter == "C":
            self.column += max(1, number)
        elif letter == "D":
            self.column = max(0, self.column - max(1, number))
        elif letter == "G":
            self.column = max(0, number - 1)
        elif letter == "K":
            self.lines[self.row] = {0: line[: self.column], 1: " " * self.column + line[self.column :], 2: ""}[number]
        elif letter == "J" and number == 0:
            self.lines[self.row] = line[: self.column]
            del self.lines[self.row + 1 :]


class Terminal:
    """A shell in a terminal of its own, with the prompt "$ "."""

    def __init__(self, folder, start):
        self.screen, self.mark, self.loose = Screen(), 0, False  # mark: the first line that has not been looked at
        self.command = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ.update(PS1="$ ", PS2="", TERM="xterm", HISTFILE="/dev/null")
            os.execvp("bash", ["bash", "--noprofile", "--rcfile", start, "-i"])
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                self.screen.feed(os.read(self.fd, 65536).decode(errors="replace"))
            except OSError:  # the shell has ended
                time.sleep(seconds)

    def lines(self):
        """What has not been looked at, but for a prompt at the end; and that prompt."""
        # The terminal echoes ^C, and what comes then stands behind it.
        lines = [re.sub(r"\^[CD]", "", line).rstrip() for line in self.screen.lines[self.mark :]]
        while lines and not lines[-1]:
            lines.pop()
        prompt = lines.pop() if lines and lines[-1] in ("$", ">") else ""
        return lines, prompt

    def is_raw(self):
        """Whether a program, not the shell, has taken the terminal over, as docker does for what runs in a container."""
        return os.tcgetpgrp(self.fd) != self.pid and not termios.tcgetattr(self.fd)[3] & termios.ICANON

    def type(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        os.close(self.fd)  # hangs up on whatever runs in it
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
