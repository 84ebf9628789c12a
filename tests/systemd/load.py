"""Many TCP clients at once, in text, for tests/systemd/run. Ends with stdin, and prints what happened to them."""

import select
import socket
import sys
import time

WHERE = ("127.0.0.1", 4141)


def hold(count):
    """Connects this many clients and keeps them. Each has to get one more upcall at the end."""
    clients = [socket.create_connection(WHERE, 10) for _ in range(count)]
    # The daemon has them all when the last one's message is back at the first.
    clients[-1].sendall(b"begin\n")
    seen(clients, b"begin", 10)
    print("ready", flush=True)
    sys.stdin.read()
    clients[0].sendall(b"the last one\n")
    served, gone = seen(clients, b"the last one", 10)
    print(f"{count} clients: {served} served, {gone} disconnected")
    return served == count and gone == 0


def seen(clients, what, seconds):
    """How many get this within a time, and how many are disconnected."""
    end = time.monotonic() + seconds
    got = {client: b"" for client in clients}
    served, gone = set(), set()
    while len(served | gone) < len(clients) and time.monotonic() < end:
        waiting = [client for client in clients if client not in served | gone]
        for client in select.select(waiting, [], [], 0.1)[0]:
            try:
                data = client.recv(65536)
            except OSError:
                data = b""
            got[client] += data
            if not data:
                gone.add(client)
            elif what in got[client]:
                served.add(client)
    return len(served), len(gone)


def knock(rate):
    """Connects at this rate, sends something, and leaves with the first answer. No connection may be refused."""
    waiting, connected, refused, answered, ended = [], 0, 0, 0, 0
    print("ready", flush=True)
    begin = time.monotonic()
    finish = None
    while finish is None or (waiting and time.monotonic() < finish):
        if finish is None and select.select([sys.stdin], [], [], 0)[0]:
            finish = time.monotonic() + 10
        if finish is None and connected + refused < (time.monotonic() - begin) * rate:
            try:
                client = socket.create_connection(WHERE, 10)
                client.sendall(b"knock\n")
                waiting.append(client)
                connected += 1
            except OSError as error:
                print(f"refused: {error}", flush=True)
                refused += 1
        for client in select.select(waiting, [], [], 0.002)[0] if waiting else []:
            try:
                data = client.recv(4096)
            except OSError:
                data = b""
            if b"knock" in data:
                answered += 1
            else:
                ended += 1
            client.close()
            waiting.remove(client)
        if not waiting:
            time.sleep(0.002)
    print(
        f"{connected} connected, {refused} refused; {answered} answered, {ended} ended by a restart, "
        f"{len(waiting)} never answered"
    )
    return refused == 0 and not waiting and answered > 0


if __name__ == "__main__":
    sys.exit(0 if {"hold": hold, "knock": knock}[sys.argv[1]](int(sys.argv[2])) else 1)
