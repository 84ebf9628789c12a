"""The practicum's client: send a message, print its upcall, until bye. python3 clientcall.py [HOST [PORT]]"""
import socket
import sys

host, port = (sys.argv[1:] + ["upcall-server", "4141"][len(sys.argv) - 1 :])[:2]
with socket.create_connection((host, int(port))) as server:
    for message in filter(None, map(str.strip, sys.stdin)):  # an empty message would get no answer
        if message.lower() == "bye" or not server.send(message.encode()):
            break
        print(server.recv(1024).decode(errors="replace"), flush=True)
