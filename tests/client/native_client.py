#!/usr/bin/env python3
"""A client for upcalld's native protocol, written from upcall-protocol(7) alone, to show that this can be done.

As a command, it prints a line of JSON for whatever comes:
    native_client.py [OPTION=VALUE]... URL send TEXT...        prints receipts
    native_client.py [OPTION=VALUE]... URL listen [COUNT]      prints upcalls and gaps
Options are name, token, topic, filter (one), role, since, timeout (seconds), and state: a file with the session that is
resumed if it is there, and is not ended. Without it, the session is ended by BYE.
"""
import collections, json, os, random, secrets, select, socket, sys, time
from struct import pack, unpack_from

HELLO, SEND, SUBSCRIBE, UNSUBSCRIBE, ACK, DATAGRAM, PING, PONG, BYE = 1, 2, 3, 4, 5, 0x20, 0x40, 0x41, 0x42
WELCOME, RETRY, UPCALL, RECEIPT, GAP, SUBSCRIBED, ERROR = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87
NAME, TOKEN, FILTER, RESUME, SINCE, COOKIE, PADDING = 1, 2, 3, 4, 5, 6, 7
CODES = """- malformed unknown_kind unknown_flag too_large unexpected version unauthorized refused not_permitted stale
    busy unknown_session limit bad_topic out_of_order""".split()
FATAL, BUSY, GAPS = {1, 2, 3, 4, 5, 6, 7, 8, 15}, 11, {1: "slow_consumer", 2: "evicted", 3: "too_large"}
Item = collections.namedtuple("Item", "first last prev event")  # an UPCALL, or a GAP (no prev), that waits for its turn

class Problem(Exception):
    """An ERROR (its name and text), or ("ended", why), or ("timeout",)."""

def frame(kind, body=b"", flags=0, topic=b""):
    return pack(">BBBBI", 0, kind, flags, len(topic), len(body)) + body

def option(kind, value):
    return pack(">BBH", kind, 0, len(value)) + value if value else b""

def connect(url):
    """A socket for tcp://h:p, udp://h:p, unix://path or unix-datagram://path (@name: abstract); the daemon's address."""
    scheme, place = url.split("://", 1)
    kind = socket.SOCK_DGRAM if scheme in ("udp", "unix-datagram") else socket.SOCK_STREAM
    family, address = socket.AF_UNIX, b"\0" + place[1:].encode() if place.startswith("@") else place
    if scheme in ("tcp", "udp"):
        host, port = place.rsplit(":", 1)
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=kind)[0]
    sock = socket.socket(family, kind)
    if scheme == "unix-datagram":
        sock.bind("\0native-client-" + secrets.token_hex(8))
    else:
        sock.connect(address)
    sock.setblocking(False)
    return sock, address

class Client:
    """A session. `session` is what resumes it: to be saved, and given to another Client."""

    def __init__(self, url, name="", token=b"", filters=(), role=0, session=None, since=None, timeout=10):
        (self.sock, self.daemon), self.timeout = connect(url), timeout
        self.datagrams = self.sock.type == socket.SOCK_DGRAM
        self.nonce, self.cookie, self.key, self.welcome, self.bye = secrets.randbits(64), b"", None, None, None
        self.incoming, self.outgoing, self.arrived = bytearray(), bytearray(), set()
        self.early, self.events, self.answers = [], collections.deque(), {}
        self.session = dict(session or {"request": 0})
        proof = session and pack(">Q16sQ", session["id"], bytes.fromhex(session["secret"]), session["position"])
        hello = pack(">BBBBQ", 1, 1, role, 0, self.nonce) + b"".join(option(*each) for each in [
            (NAME, name.encode()), (TOKEN, token), (RESUME, proof), (PADDING, bytes(16 * self.datagrams)),
            (SINCE, b"" if since is None else pack(">Q", since)), *((FILTER, text.encode()) for text in filters)])
        self.ask(lambda: frame(HELLO, hello + option(COOKIE, self.cookie)), WELCOME, self.nonce)

    def ask(self, request, kind, reference):
        """Sends a frame, on datagrams until it is answered; returns the answer. `request` makes it, anew each time."""
        wait, end = 1.0, time.monotonic() + self.timeout
        while (now := time.monotonic()) < end:
            self.write(request())
            again = min(end, now + wait * random.uniform(1, 1.25)) if self.datagrams else end
            while time.monotonic() < again and not self.answers.pop((RETRY, reference), False):
                self.pump(again - time.monotonic())
                if (kind, reference) in self.answers:
                    return self.answers.pop((kind, reference))
                code, text = self.answers.pop((ERROR, reference), (BUSY, ""))
                if code != BUSY:
                    raise Problem(CODES[code], text)
                if self.bye is not None:
                    raise Problem("ended", self.bye)
            wait = min(2 * wait, 60)
        raise Problem("timeout")

    def write(self, data):
        self.last_sent = time.monotonic()
        if self.datagrams:
            opening = b"" if self.key is None else pack(">BBBBQQ", 0, DATAGRAM, 0, 0, self.key, 0)
            self.sock.sendto(opening + data, self.daemon)
        else:
            self.outgoing += data

    def pump(self, timeout):
        """Reads and writes what can be, waiting at most so long for it."""
        readable, writable, _ = select.select([self.sock], [self.sock] if self.outgoing else [], [], max(0, timeout))
        if writable:
            del self.outgoing[:self.sock.send(self.outgoing)]
        numbers = set()
        try:
            while readable:
                data, source = self.sock.recvfrom(65536)
                if self.datagrams and (source == self.daemon or not source):  # it has sockets without a name, too
                    numbers.add(self.datagram(bytearray(data)))
                elif not self.datagrams:
                    self.stream(data)
        except BlockingIOError:
            pass
        if numbers := numbers - {0}:
            largest = max(self.arrived | numbers)
            self.arrived = {number for number in self.arrived | numbers if largest - number <= 64}
            bitmap = sum(1 << largest - 1 - number for number in self.arrived - {largest})
            self.write(frame(ACK, pack(">QQ", largest, bitmap)))

    def stream(self, data):
        self.incoming += data
        if not data and self.bye is not None:
            raise BlockingIOError  # there is nothing more
        if not data or self.incoming[0]:
            raise Problem("ended", self.bye or self.incoming.decode(errors="replace").strip())
        while len(self.incoming) >= 8 and len(self.incoming) >= 8 + unpack_from(">I", self.incoming, 4)[0]:
            self.frame(self.incoming)

    def datagram(self, data):
        """Takes a datagram; returns its number."""
        if len(data) >= 8 and data[0] == 0 and data[1] in (WELCOME, RETRY, ERROR):
            self.frame(data, bare=True)
        elif self.key is not None and data[:12] == pack(">BBBBQ", 0, DATAGRAM, 0, 0, self.key):
            number = unpack_from(">Q", data, 12)[0]
            del data[:20]
            while data:
                self.frame(data)
            return number
        return 0

    def frame(self, data, bare=False):
        """Takes one frame from the front."""
        _, kind, flags, topic, length = unpack_from(">BBBBI", data)
        body, number = bytes(data[8:8 + length]), lambda at: unpack_from(">Q", body, at)[0]
        del data[:8 + length]
        if kind == WELCOME and number(64) == self.nonce and not self.welcome:
            version, resumed, _, lease, endpoint, secret = unpack_from(">BBHIQ16s", body)
            self.key, log, start, following, _, self.message, largest = unpack_from(">QQQQQQI", body, 32)
            self.lease, self.position = lease / 1000, start - 1
            self.session.update(id=endpoint, secret=secret.hex(), log=log, position=self.position)
            self.welcome = self.answers[WELCOME, self.nonce] = dict(
                version=version, resumed=resumed & 1, id=endpoint, start=start, next=following,
                last_message=self.message, lease=lease, max_message=largest)
        elif kind == RETRY and number(0) == self.nonce:
            self.cookie, self.answers[RETRY, self.nonce] = body[8:16], True
        elif kind == ERROR and (not bare or number(4) == self.nonce):
            code, text = unpack_from(">H", body)[0], body[12:].decode(errors="replace")
            if code in FATAL and not self.datagrams:
                raise Problem(CODES[code], text)
            self.answers[ERROR, number(4)] = code, text
        elif kind == UPCALL:
            place = number(0)
            self.settle(Item(place, place, unpack_from(">I", body, 20)[0], dict(
                upcall=place, source=int.from_bytes(body[8:14], "big"), time=int.from_bytes(body[14:20], "big"),
                topic=body[24:24 + topic].decode(), payload=body[24 + topic:].decode(errors="backslashreplace"))))
        elif kind == GAP:
            self.settle(Item(number(0), number(8), None, dict(gap=[number(0), number(8)], reason=GAPS[body[16]])))
        elif kind == RECEIPT:
            sequence, due = unpack_from(">QI", body, 8)
            self.answers[RECEIPT, number(0)] = dict(receipt=number(0), sequence=sequence, due=due, repeat=flags >> 4)
        elif kind == SUBSCRIBED:
            (request, start), rest, filters = unpack_from(">IQ", body), body[12:], []
            while rest:
                filters, rest = filters + [rest[1:1 + rest[0]].decode()], rest[1 + rest[0]:]
            self.answers[SUBSCRIBED, request] = dict(filters=filters, start=start, everything=flags >> 4)
        elif kind == PING:
            self.write(frame(PONG, body[:8]))
        elif kind == PONG:
            self.answers[PONG, number(0)] = True
        elif kind == BYE:
            self.bye = self.answers[BYE, 0] = body.decode(errors="replace")

    def settle(self, item):
        """Takes what is next, keeps what is early, and drops what was there before."""
        is_next = lambda item: item.last > self.position and (
            item.first - 1 <= self.position if item.prev is None else item.prev == self.position & 0xffffffff)
        self.early.append(item)
        while item := next(filter(is_next, self.early), None):
            if item.prev is None:
                item.event["gap"][0] = self.position + 1
            self.events.append((item.last, item.event))
            self.position = item.last
        self.early = [item for item in self.early if item.last > self.position]
        if self.early and not self.datagrams:
            raise Problem("ended", "an upcall is missing")

    def next(self, timeout):
        """The next upcall or gap, of which the session then knows; None if there is none in this time."""
        end = time.monotonic() + timeout
        while not self.events and (left := end - time.monotonic()) > 0:
            if self.bye is not None:
                raise Problem("ended", self.bye)
            if self.datagrams and time.monotonic() - self.last_sent > self.lease / 3:
                self.ping()
            self.pump(min(left, self.lease / 3) if self.datagrams else left)
        self.session["position"], event = self.events.popleft() if self.events else (self.session["position"], None)
        return event

    def ping(self):
        self.nonce, self.cookie = secrets.randbits(64), b""
        self.ask(lambda: frame(PING, pack(">Q", self.nonce) + self.cookie), PONG, self.nonce)

    def send(self, payload, topic="", message=None):
        """Sends an input; returns its receipt. `message` repeats an earlier one."""
        message = message or self.message + 1
        self.message, topic = max(message, self.message), topic.encode()
        return self.ask(lambda: frame(SEND, pack(">Q", message) + topic + payload, 1, topic), RECEIPT, message)

    def subscribe(self, *filters, kind=SUBSCRIBE):
        """Adds filters, or with UNSUBSCRIBE takes them away; returns what is in force."""
        self.session["request"] += 1
        body = pack(">I", self.session["request"]) + b"".join(pack("B", len(f.encode())) + f.encode() for f in filters)
        return self.ask(lambda: frame(kind, body), SUBSCRIBED, self.session["request"])

    def leave(self):
        self.ask(lambda: frame(BYE), BYE, 0)

def main(*arguments):
    show = lambda event: print(json.dumps(event), flush=True)
    first = next((at for at, word in enumerate(arguments) if "://" in word), None)
    if first is None or arguments[first + 1:first + 2] not in (("send",), ("listen",)):
        sys.exit(__doc__)
    given = dict(word.split("=", 1) for word in arguments[:first])
    state, topic, timeout = given.pop("state", ""), given.pop("topic", ""), float(given.pop("timeout", 10))
    if "token" in given:
        given["token"] = open(given["token"], "rb").read().removesuffix(b"\n")
    given.update({key: int(given[key]) for key in ("role", "since") if key in given})
    filters, (url, command, *texts) = [given.pop("filter")] if "filter" in given else [], arguments[first:]
    session = json.load(open(state)) if os.path.exists(state) else None
    try:
        client = Client(url, filters=filters, session=session, timeout=timeout, **given)
        show({"welcome": client.welcome})
        for text in texts if command == "send" else []:
            show(client.send(os.fsencode(text), topic))
        count = int(texts[0]) if command == "listen" and texts else -1
        while command == "listen" and count != 0 and (event := client.next(timeout)):
            show(event)
            count -= 1
        json.dump(client.session, open(state, "w")) if state else client.leave()
    except (Problem, OSError) as problem:
        show({"error": [str(argument) for argument in problem.args]})
        sys.exit(1)

if __name__ == "__main__":
    main(*sys.argv[1:])
