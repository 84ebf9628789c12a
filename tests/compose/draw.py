#!/usr/bin/env python3
"""Draws the packets of a capture of one session as arrows between client and server: the pictures of the worksheet.

    tests/compose/draw.py CAPTURE PICTURE       needs tshark

Only what every such session has in common is drawn: no times, no ephemeral port, no cookie; a datagram client's renewals are left out.
"""
import re
import subprocess
import sys
from html import escape, unescape

# Picture, and the capture that the worksheet makes of such a session.
PICTURES = {"tcp.svg": "lab.pcap", "udp.svg": "compose/captures/udp.pcap"}
CLIENT, SERVER = "198.18.41.20", "198.18.41.10"
FIELDS = ["ip.src", "tcp.flags", "tcp.seq", "tcp.ack", "tcp.len", "tcp.payload", "udp.payload"]
FLAGS = [(0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x10, "ACK")]
LEFT, RIGHT, TOP, STEP = 110, 530, 78, 38


def packets(capture):
    """(from the client, kind, label) of each packet; kind: ack (alone between data, and so not always there), input, upcall or rest."""
    command = ["tshark", "-r", capture, "-Y", "tcp.port == 4141 || udp.port == 4141", "-T", "fields", "-E", "separator=;"]
    out = subprocess.run(command + [f"-e{name}" for name in FIELDS], check=True, capture_output=True, text=True).stdout
    result = []
    rows = [line.split(";") for line in out.splitlines()]
    for number, (source, flags, sequence, acknowledged, length, *payload) in enumerate(rows):
        data = bytes.fromhex(payload[0] or payload[1]).decode(errors="replace")
        text = re.sub(r"(?<= )[0-9a-f]{16}", "‹cookie›", re.sub(" {3,}", " ··· ", data)).replace("\n", "⏎")
        own = source == CLIENT
        if flags:
            label = ", ".join(name for bit, name in FLAGS if int(flags, 16) & bit) + f" · seq {sequence} ack {acknowledged}"
            alone = int(flags, 16) == 0x10 and length == "0" and number not in (2, len(rows) - 1)
            kind = "ack" if alone else "rest"
        else:
            label, kind = "", "rest"
        if data:
            label = f"{label} · {len(data)} B: {text}".removeprefix(" · ")
            if not text.startswith(("join", "bye")):
                kind = "input" if own else "upcall"
        if not flags and text.startswith("join") and (own, kind, label) in result:
            continue
        result.append((own, kind, label))
    return result


def picture(rows):
    height = TOP + STEP * len(rows) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" width="640" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        "<style>line{stroke:#555;stroke-width:1.5}.input{stroke:#06c;fill:#06c}.upcall{stroke:#c30;fill:#c30}"
        ".ack{stroke:#999;fill:#999}text{stroke:none!important;text-anchor:middle}path{stroke:none!important;fill:#555}"
        "path.input{fill:#06c}path.upcall{fill:#c30}</style>",
        f'<rect width="640" height="{height}" fill="#fff"/>',
    ]
    for x, name, address in ((LEFT, "upcall-client", CLIENT), (RIGHT, "upcall-server", f"{SERVER}:4141")):
        lines.append(f'<text x="{x}" y="22" font-weight="bold">{name}</text><text x="{x}" y="40">{address}</text>')
        lines.append(f'<line x1="{x}" y1="50" x2="{x}" y2="{height - 8}"/>')
    for number, (own, kind, label) in enumerate(rows):
        y = TOP + STEP * number
        begin, end, back = (LEFT, RIGHT, -9) if own else (RIGHT, LEFT, 9)
        lines.append(
            f'<g><text class="{kind}" x="320" y="{y}">{escape(label)}</text>'
            f'<line class="{kind}" x1="{begin}" y1="{y + 5}" x2="{end}" y2="{y + 11}"/>'
            f'<path class="{kind}" d="M{end} {y + 11}l{back} -5v9z"/></g>'
            f'<text x="{LEFT // 2}" y="{y + 8}">{number + 1}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def differs(path, capture):
    """Why the picture is not that of such a capture; nothing if it is. A pure acknowledgement may travel with data instead."""
    try:
        rows = packets(capture)
        shipped = path.read_text()
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    drawn = re.findall(r'<g><text class="(\w+)"[^>]*>(.*?)</text><line class="\w+" x1="(\d+)"', shipped)
    if not rows:
        return f"{capture} has nothing of it"
    drawn = [(x == str(LEFT), kind, unescape(label)) for kind, label, x in drawn]
    if picture(drawn) != shipped:
        return "it is not as draw.py draws"
    rest, rest_drawn = ([row for row in some if row[1] != "ack"] for some in (rows, drawn))
    return "" if rest == rest_drawn else f"drawn:    {rest_drawn}\ncaptured: {rest}"


if __name__ == "__main__":
    with open(sys.argv[2], "w") as file:
        file.write(picture(packets(sys.argv[1])))
