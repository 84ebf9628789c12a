"""The real programs, captured in a network namespace of their own: what `run` finds in that capture.

As a command, inside that namespace:  live.py TARGET FOLDER  makes FOLDER/live.pcap.
"""
import os, shutil, signal, socket, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 20  # seconds for whatever is waited for
TCP, UDP = "tcp://127.0.0.1:4141", "udp://127.0.0.1:4141"


def until(is_so, what):
    end = time.monotonic() + LIMIT
    while not is_so():
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.02)


def connects():
    try:
        return socket.create_connection(("127.0.0.1", 4141), 1).close() is None
    except OSError:
        return False


def session(target, folder):
    """What a lesson does: talk, as text and native, over TCP and UDP; the daemon ends first."""
    client, running = str(target / "upcall-client"), []

    def start(*command, **rest):
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **rest))
        return running[-1]

    def say(*arguments):
        subprocess.run([client, *arguments], check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)

    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        log, pcap = folder / "tcpdump.log", folder / "live.pcap"
        stay = ["-Z", "root"] if os.geteuid() == 0 else []
        dump = start("tcpdump", "-i", "lo", "-U", "-n", "-s", "0", *stay, "-w", str(pcap), "port", "4141", stderr=log.open("w"))
        until(lambda: "listening on" in log.read_text(), "tcpdump")
        daemon = start(str(target / "upcalld"), "-q", "--listen", TCP, "--listen", UDP)
        until(connects, "the daemon")
        listeners = [start(client, url, "listen", "-n", "3", "--topic", "door/*") for url in (TCP, UDP)]
        # Their HELLOs have been answered when the inputs of a third client are due to both.
        begun = lambda: subprocess.run([client, "send", "--topic", "door/front", "--require-receivers", "2", "open"], timeout=LIMIT,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        until(begun, "two receivers")
        script = start(sys.executable, str(HERE.parents[1] / "compose" / "clientcall.py"), "127.0.0.1")
        script.stdin.write("haii\n"), script.stdin.flush()
        assert script.stdout.readline() == "Upcall event: Processing haii\n"
        for url in (TCP, UDP):
            say(url, "send", "-v", "--topic", "door/back", f"over {url[:3]}")
        for each in listeners:
            each.wait(LIMIT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.settimeout(LIMIT)
            for line in (b"join\n", b"hoi\n", b"bye\n"):
                plain.sendto(line, ("127.0.0.1", 4141))
            assert b"hoi" in plain.recv(100)
        say(UDP, "ping")
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(LIMIT)
        until(lambda: b"upcalld: shutdown" in pcap.read_bytes(), "the last line in the capture")
        dump.send_signal(signal.SIGINT)
        dump.wait(LIMIT)
    finally:
        for process in running:
            process.kill()
            process.wait()


def checks(target, scratch, check, skip, rows):
    """Makes the capture, and looks at it."""
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-current-user", "--keep-caps", "--net"]
    for needed in (str(target / "upcalld"), str(target / "upcall-client"), "tcpdump", "ip"):
        if not shutil.which(needed):
            return skip("the real programs", f"{needed} is not there")
    if subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        return skip("the real programs", "no network namespace can be made here")
    path = scratch / "live.pcap"

    def made():
        command = [*namespace, sys.executable, str(HERE / "live.py"), str(target), str(scratch)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        path.chmod(0o644)

    def column(name, where):
        return [values[0] for (values,) in rows(path, name, options=["-2", "-Y", where]) if values]

    def nothing_wrong():
        """The dissector finds no mistake in the traffic of the real programs."""
        wrong = rows(path, "frame.number", "_ws.col.Info", "_ws.expert.message",
                     options=["-Y", " or ".join(f"upcall.expert.{name}" for name in "malformed unexpected unknown hole error fatal".split())])
        assert not wrong, wrong
        unread = rows(path, "frame.number", options=["-Y", "(tcp.len > 0 or udp) and not upcall and not tcp.analysis.keep_alive"])
        assert not unread, unread
        return f"{len(rows(path, 'frame.number'))} packets"

    def answered():
        """Every request has its answer, in time; every own upcall its input."""
        for request in ("upcall.kind == 0x01", "upcall.kind == 0x02", "upcall.kind == 0x40"):
            requests = rows(path, "frame.number", "upcall.response_in", "upcall.repeats", options=["-2", "-Y", request])
            assert requests, request
            alone = [line for line in requests if not line[1] and not line[2]]
            assert not alone, (request, alone)
        own = rows(path, "upcall.upcall_in", options=["-2", "-Y", 'upcall.text == "haii" or upcall.text == "hoi"'])
        assert len(own) == 2 and all(line[0] for line in own), own
        times = [float(value) for value in column("upcall.time", "upcall.time")]
        assert times and all(0 <= value < LIMIT for value in times), times
        return f"{len(times)} answers"

    def named():
        kinds = {value for (values,) in rows(path, "upcall.kind") for value in values}
        wanted = {"0x01", "0x02", "0x05", "0x20", "0x40", "0x41", "0x42", "0x81", "0x83", "0x84"}
        assert wanted <= kinds, kinds
        topics = {value for (values,) in rows(path, "upcall.topic") for value in values}
        assert topics == {"door/front", "door/back"}, topics
        assert column("upcall.text.kind", 'upcall.text.kind == "join"') == ["join"]
        assert len(column("upcall.text.kind", 'upcall.text.kind == "bye"')) == 1
        assert "shutdown" in column("upcall.reason", "upcall.reason")
        infos = column("_ws.col.Info", "upcall")
        for words in ("Text: haii", "Upcall event: Processing haii", "upcalld: shutdown"):
            assert words in infos, infos
        assert any(info.startswith("UPCALL seq ") and " door/back from " in info and info.endswith(": 8 bytes") for info in infos), infos

    if check("the real programs talk, and are captured", made):
        check("nothing that they say is wrong, or not read", nothing_wrong)
        check("every request is answered", answered)
        check("the frames, topics and words that were said", named)


if __name__ == "__main__":
    session(Path(sys.argv[1]), Path(sys.argv[2]))
