"""What the checks of the dissector use: a line for each, captures in a folder of their own, and what tshark shows of them."""
import os, subprocess, tempfile, time
from pathlib import Path

from capture import Capture

ROOT = Path(__file__).resolve().parents[2]
PAGE, LUA = ROOT / "man/upcall-protocol.7", ROOT / "compose/wireshark/upcall.lua"
scratch = Path(tempfile.mkdtemp())
counts = dict(passed=0, failed=0, skipped=0)
captures = []  # every one made by hand, for the last checks
EXPERTS = "malformed unexpected unknown gap hole repeated fatal error ended".split()
UPCALL_EVENT = b"Upcall event: Processing "


def check(name, test):
    """One thing that holds or not; what it returns is shown."""
    begin = time.monotonic()
    try:
        said = test()
        counts["passed"] += 1
        print(f"ok: {name} ({time.monotonic() - begin:.0f} s){f': {said}' if said else ''}", flush=True)
        return True
    except Exception as wrong:  # whatever is wrong, the others are to be tried
        counts["failed"] += 1
        print(f"--- FAILED: {name}\n{type(wrong).__name__}: {wrong}"[:3000], flush=True)
        return False


def skip(name, why):
    counts["skipped"] += 1
    print(f"SKIPPED {name}: {why}")


def same(found, wanted):
    if found != wanted:
        pairs = [f"{a!r}\n   instead of {b!r}" for a, b in zip(found, wanted) if a != b] if isinstance(found, list) else []
        raise AssertionError("\n".join(pairs[:5]) or f"{found!r}\n   instead of {wanted!r}")


def tshark(path, *arguments):
    """Its output. Nobody needs to be root to look at a capture, and Wireshark runs no scripts for root."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    script = ["-X", f"lua_script:{scratch}/upcall.lua"]
    command = [*drop, "tshark", *(["-n", "-r", str(path), *script, *arguments] if path else [*arguments, *script])]
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, timeout=300)
    if done.returncode != 0 or "Lua" in done.stderr:
        raise AssertionError(f"tshark: {done.stderr}")
    return done.stdout


def rows(path, *fields, options=()):
    """Of every packet that is ours, these fields, each with all its values in a list; there is no error of Lua among them."""
    wanted = ["_ws.lua.error", "_ws.col.Protocol", *fields]
    shown = [word for field in wanted for word in ("-e", field)]
    out = tshark(path, "-T", "fields", "-E", "aggregator=;", *shown, *options)
    lines = [[value.split(";") if value else [] for value in line.split("\t")] for line in out.splitlines()]
    errors = [line for line in lines if line[0]]
    if errors:
        raise AssertionError(f"{len(errors)} errors of Lua: {tshark(path, '-Y', '_ws.lua.error', '-V', '-c', '50')[-1500:]}")
    return [line[2:] for line in lines if line[1] == ["UPCALL"]]


def infos(path, *options):
    return [";".join(info) for (info,) in rows(path, "_ws.col.Info", options=options)]


def save(capture):
    captures.append(capture)
    path = capture.save(scratch / f"{len(captures)}.pcap")
    path.chmod(0o644)
    return path


def stream(*messages, capture=None):
    """A connection; each message is (to the daemon, bytes)."""
    capture = capture or Capture()
    capture.connect()
    for to_daemon, data in messages:
        capture.tcp(to_daemon, data)
    return save(capture)


def datagrams(*messages):
    capture = Capture()
    for to_daemon, data in messages:
        capture.udp(to_daemon, data)
    return save(capture)


def remarks(path):
    """The expert information of our dissector."""
    ours = " or ".join(f"upcall.expert.{name}" for name in EXPERTS)
    return [line for (line,) in rows(path, "_ws.expert.message", options=["-Y", ours])]
