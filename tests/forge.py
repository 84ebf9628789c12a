"""Sends UDP datagrams with forged sources, and counts what comes back: for tests in a network of their own.

forge.py PORT COUNT            COUNT sources of 198.18.0.0/15, requests of 1 to 1,200 bytes, to 127.0.0.1:PORT; prints
                               the bytes of IP packets that went to PORT, and that came from there.
forge.py native PORT COUNT     the same, with HELLOs of the native protocol, of which some are cut off.
forge.py as FROM TO HEX...     these datagrams from 127.0.0.1:FROM to 127.0.0.1:TO.
forge.py one FROM TO           one datagram from 127.0.0.1:FROM to 127.0.0.1:TO.
"""

import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3


def packet(source, sport, destination, dport, payload):
    length = 8 + len(payload)
    # Checksums of zero: the kernel fills in that of IP, and UDP over IPv4 may go without.
    udp = struct.pack("!HHHH", sport, dport, length, 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0,
                     socket.inet_aton(source), socket.inet_aton(destination))
    return ip + udp


def raw():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


class Counter:
    """Counts packets on lo; each is seen going out and coming in, of which only the first counts."""

    def __init__(self, port):
        self.port, self.sent, self.answered, self.answers = port, 0, 0, 0
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setblocking(False)

    def look(self):
        while True:
            try:
                data, address = self.socket.recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_OUTGOING or address[1] != 0x0800 or data[9] != 17:
                continue
            start = (data[0] & 15) * 4
            sport, dport = struct.unpack("!HH", data[start:start + 4])
            length = struct.unpack("!H", data[2:4])[0]
            if dport == self.port:
                self.sent += length
            elif sport == self.port:
                self.answered += length
                self.answers += 1


def hello(size):
    """A HELLO of this many bytes, at least 24."""
    body = struct.pack("!BBBBQ", 1, 1, 0, 0, 7) + struct.pack("!BBH", 7, 0, max(0, size - 24)) + bytes(max(0, size - 24))
    return struct.pack("!BBBBI", 0, 1, 0, 0, len(body)) + body


def main():
    out = raw()
    if sys.argv[1] == "one":
        sport, dport = int(sys.argv[2]), int(sys.argv[3])
        out.sendto(packet("127.0.0.1", sport, "127.0.0.1", dport, b"ping"), ("127.0.0.1", 0))
        return
    if sys.argv[1] == "as":
        sport, dport = int(sys.argv[2]), int(sys.argv[3])
        for data in sys.argv[4:]:
            out.sendto(packet("127.0.0.1", sport, "127.0.0.1", dport, bytes.fromhex(data)), ("127.0.0.1", 0))
        return
    native = sys.argv[1] == "native"
    port, count = (int(word) for word in sys.argv[1 + native:3 + native])
    counter = Counter(port)
    requests = [b"join\n", b"join", b"hello\n", b"bye", b"x"]
    for number in range(count):
        source = "198.%d.%d.%d" % (18 + (number >> 16 & 1), number >> 8 & 255, number & 255)
        size = number % 1200 + 1
        payload = requests[number % 5] if number % 3 == 0 else b"x" * size
        if native:
            payload = hello(size)[:size]
        out.sendto(packet(source, 1024 + number % 60000, "127.0.0.1", port, payload), ("127.0.0.1", 0))
        if number % 100 == 99:
            counter.look()
            # Not faster than it reads: what is lost proves nothing.
            time.sleep(0.002)
    quiet = 0
    until = time.monotonic() + 10
    while quiet < 5 and time.monotonic() < until:
        before = counter.answers
        select.select([], [], [], 0.05)
        counter.look()
        quiet = quiet + 1 if counter.answers == before else 0
    counter.look()
    print("in %d out %d answers %d" % (counter.sent, counter.answered, counter.answers), flush=True)


main()
