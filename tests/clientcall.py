"""The practicum's client: send a message, print its upcall, until bye."""
import socket
import sys

with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as server:
    for message in map(str.rstrip, sys.stdin):
        if message.strip().lower() == "bye":
            break
        server.send(message.encode())
        print(server.recv(1024).decode(), flush=True)
