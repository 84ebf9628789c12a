"""Captures made by hand: packets of IPv4 with TCP or UDP, in a pcap file; and the frames of upcall-protocol(7) to fill them."""
import re
from struct import pack

CLIENT, DAEMON = (bytes([198, 18, 0, 2]), 40000), (bytes([198, 18, 0, 1]), 4141)
NONCE, KEY = 0x1122334455667788, 0xA1B2C3D4E5F60718

HELLO, SEND, SUBSCRIBE, UNSUBSCRIBE, ACK, DATAGRAM, PING, PONG, BYE = 1, 2, 3, 4, 5, 0x20, 0x40, 0x41, 0x42
WELCOME, RETRY, UPCALL, RECEIPT, GAP, SUBSCRIBED, ERROR = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87


def checksum(data):
    total = sum(data[at] << 8 | data[at + 1] for at in range(0, len(data) - 1, 2))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Capture:
    """Packets a millisecond apart, between a client and the daemon."""

    def __init__(self, client=CLIENT, daemon=DAEMON):
        self.packets, self.at, self.sent = [], 1_000_000_000.0, {True: 1000, False: 1000}
        self.client, self.daemon = client, daemon

    def packet(self, protocol, payload, to_daemon):
        (source, _), (target, _) = self.ways(to_daemon)
        head = pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0, source, target)
        self.packets.append((self.at, head[:10] + pack(">H", checksum(head)) + head[12:] + payload))
        self.at += 0.001

    def ways(self, to_daemon):
        return (self.client, self.daemon) if to_daemon else (self.daemon, self.client)

    def tcp(self, to_daemon, data, flags=0x18):
        """A segment; sequence numbers go on by themselves."""
        (_, source), (_, target) = self.ways(to_daemon)
        here, there = self.sent[to_daemon], self.sent[not to_daemon]
        self.sent[to_daemon] = here + len(data) + (flags & 3 != 0)
        self.packet(6, pack(">HHIIBBHHH", source, target, here, there, 0x50, flags, 0xFFFF, 0, 0) + data, to_daemon)

    def connect(self, port=None):
        self.client = (self.client[0], port or self.client[1])
        begin = 1000 + 100_000 * len(self.packets)
        self.sent = {True: begin, False: begin}
        self.tcp(True, b"", 2), self.tcp(False, b"", 0x12), self.tcp(True, b"", 0x10)
        return self

    def udp(self, to_daemon, data):
        (_, source), (_, target) = self.ways(to_daemon)
        self.packet(17, pack(">HHHH", source, target, 8 + len(data), 0) + data, to_daemon)

    def save(self, path, most=262144):
        """Writes a pcap file; at most this many bytes of each packet."""
        with open(path, "wb") as file:
            file.write(pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101))
            for at, data in self.packets:
                file.write(pack("<IIII", int(at), round(at % 1 * 1e6), len(data[:most]), len(data)) + data[:most])
        return path


def frame(kind, body=b"", flags=0, topic=b""):
    return pack(">BBBBI", 0, kind, flags, len(topic), len(body)) + body


def hello(options=b"", role=0, nonce=NONCE):
    return frame(HELLO, pack(">BBBBQ", 1, 1, role, 0, nonce) + options)


def option(kind, value):
    return pack(">BBH", kind, 0, len(value)) + value


def welcome(endpoint=7, start=41, following=41, key=0, nonce=NONCE, resumed=0, lease=0):
    return frame(WELCOME, pack(">BBHIQ16sQQQQQQII", 1, resumed, 0, lease, endpoint, bytes(range(16)), key, 0x5EED5EED5EED5EED,
                               start, following, nonce, 0, 61440, 0))


def send(message, payload, topic=b"", flags=1):
    return frame(SEND, pack(">Q", message) + topic + payload, flags, topic)


def receipt(message, sequence, due=0, flags=0):
    return frame(RECEIPT, pack(">QQI", message, sequence, due), flags)


def upcall(sequence, payload, topic=b"", source=9, prev=None, at=1_767_225_600_000):
    prev = sequence - 1 if prev is None else prev
    ids = source.to_bytes(6, "big") + at.to_bytes(6, "big")
    return frame(UPCALL, pack(">Q12sI", sequence, ids, prev) + topic + payload, 0, topic)


def gap(first, last, reason):
    return frame(GAP, pack(">QQB3x", first, last, reason))


def error(code, about, reference, text):
    return frame(ERROR, pack(">HBBQ", code, about, 0, reference) + text)


def datagram(number, *frames, key=KEY):
    return pack(">BBBBQQ", 0, DATAGRAM, 0, 0, key, number) + b"".join(frames)


def examples(page):
    """The examples of upcall-protocol(7): for each, a list of (to the daemon, bytes)."""
    result = []
    for block in open(page).read().split('.\\" example\n.EX\n')[1:]:
        messages = []
        for line in block.split("\n.EE")[0].splitlines():
            if line[0] in "<>":
                messages.append((line[0] == ">", bytearray()))
                line = line[1:]
            messages[-1][1].extend(bytes.fromhex(re.sub(r"\|.*", "", line)))
        result.append([(to_daemon, bytes(data)) for to_daemon, data in messages])
    return result
