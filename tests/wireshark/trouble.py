"""What is wrong in a capture, missing, or comes again: what the dissector remarks on."""
from capture import *  # noqa: the words of the protocol
from looking import datagrams, remarks, rows, same, infos, stream


def mistakes():
    wrong = {
        "The frame is larger than allowed (too_large)": frame(HELLO)[:4] + b"\xff\xff\xff\xff" + b"x",
        "Kind 0x07: there is no such kind of frame (unknown_kind)": frame(7, b"x"),
        "REPLY: there is no such kind of frame (unknown_kind)": frame(6, bytes(12)),
        "DATAGRAM: there is no such kind of frame (unknown_kind)": frame(DATAGRAM),
        "A critical flag is not known (unknown_flag)": frame(PING, bytes(8), flags=4),
        "This kind of frame has no topic": frame(PING, bytes(8), topic=b"x"),
        "The topic is longer than the frame": frame(SEND, bytes(9), topic=b"door"),
        "That is no topic (bad_topic)": send(1, b"x", topic=b"door/*"),
        "The body of PING cannot have 7 bytes": frame(PING, bytes(7)),
        "A PING has 8 or 16 bytes": frame(PING, bytes(9)),
        "The body of ACK cannot have 17 bytes": frame(ACK, bytes(17)),
        "The body of SUBSCRIBE cannot have 4 bytes": frame(SUBSCRIBE, bytes(4)),
        "That is no filter (bad_topic), or it is cut off": frame(SUBSCRIBE, bytes(4) + b"\x05door"),
        "There is no role 3": hello(role=3),
        "The highest version is below the lowest": frame(HELLO, b"\x02\x01" + bytes(10)),
        "Option 9 is not known": hello(option(9, b"x")),
        "Option 6 has not the length that it must have": hello(option(6, b"x")),
        "An option is cut off": hello(b"\x01\x00\x00\x09x"),
        "A byte that has to be 0 is not": frame(HELLO, b"\x01\x01\x00\x01" + bytes(8)),
    }
    path = stream(*((True, data) for data in [hello(), *list(wrong.values())[1:], list(wrong.values())[0]]))
    found = sum(remarks(path), [])
    for text in wrong:
        assert found.count(text) == 1, f"{text!r} is not said once, but {found}"
    other_way = {
        "SEND is not sent by the daemon": send(1, b"x"),
        "That is no range of sequences": gap(9, 8, 1),
        "There is no reason 4": gap(8, 9, 4),
        "There is no code 16": error(16, 0, 0, b""),
        "Start is above next": welcome(start=42),
        "Kind 0xc1 is not known, and skipped": frame(0xC1, b"x", flags=15, topic=b"t"),
        "A frame begins with NUL": b"x" + upcall(41, b"x"),
    }
    found = sum(remarks(stream((True, hello()), *((False, data) for data in other_way.values()))), [])
    for text in other_way:
        assert found.count(text) == 1, f"{text!r} is not said once, but {found}"
    found = remarks(datagrams((True, hello()[:15]), (True, frame(PING, bytes(8))), (True, datagram(0)), (False, datagram(1, upcall(41, b"x")[:-1])),
                              (True, hello(option(7, b"")) + frame(BYE)), (True, hello(option(0x80, b"x"), nonce=1))))
    same(found, [["The frame is cut off"], ["This cannot stand alone in a datagram"], ["There is no frame in this datagram"],
                 ["The frame is cut off"], ["This cannot stand alone in a datagram"], ["Option 128 is not known, and skipped"]])
    return f"{len(wrong) + len(other_way) + len(found)} kinds of them"


def gaps_and_holes():
    path = stream((True, hello()), (False, welcome()), (False, upcall(41, b"a") + upcall(45, b"b", prev=41) + gap(46, 50, 1)),
                  (False, upcall(51, b"c")), (False, upcall(60, b"d", prev=57)), (False, upcall(61, b"e")))
    found = rows(path, "upcall.sequence", "_ws.expert.message", options=["-Y", "upcall.expert.hole or upcall.expert.gap"])
    same(found, [[["41", "45"], ["Gap 46–50 slow_consumer"]],
                 [["60"], ["An upcall is missing before this one (prev is 57)"]]])


def lost_and_late():
    late = datagram(2, upcall(42, b"b"))
    path = datagrams((True, hello()), (False, welcome(key=KEY, lease=120000)), (False, datagram(1, upcall(41, b"a"))),
                     (False, datagram(3, upcall(43, b"c"))), (False, late), (False, late), (False, datagram(4, upcall(43, b"c"))),
                     (True, datagram(0, frame(ACK, pack(">QQ", 4, 6)))))
    same(remarks(path), [["An upcall is missing before this one (prev is 42): lost, or late"],
                         ["It was there before, in frame 5", "It was there before, in frame 5"], ["It was there before, in frame 4"]])
    same(rows(path, "upcall.number", "upcall.acked_in", "upcall.repeats", "upcall.ack.number", options=["-2"])[2:], [
        [["1"], ["8"], [], []], [["3"], [], [], []], [["2"], ["8"], [], []], [["2"], [], ["5", "5"], []], [["4"], ["8"], ["4"], []],
        [["0"], [], [], ["4", "2", "1"]]])


def repeated_sends():
    again = datagram(0, send(1, b"x", b"door/1"))
    path = datagrams((True, hello()), (False, welcome(key=KEY)), (True, again), (True, again), (False, datagram(1, upcall(41, b"x", b"door/1", 7))),
                     (False, datagram(0, receipt(1, 41, 2, 0x10))), (True, datagram(0, send(2, b"y"))),
                     (False, datagram(0, error(11, SEND, 2, b"busy"))))
    found = rows(path, "_ws.col.Info", "upcall.repeats", "upcall.request_in", "upcall.upcall_in", "upcall.flags.repeat", options=["-2"])
    same([[";".join(value).replace("True", "1") for value in line] for line in found[2:]], [
        ["Datagram: SEND 1 door/1: 1 byte", "", "", "5", ""], ["Datagram: SEND 1 door/1: 1 byte", "3", "", "", ""],
        ["Datagram 1: UPCALL seq 41 door/1 from 7: 1 byte", "", "3", "", ""], ["Datagram: RECEIPT 1 seq 41, due to 2, a repeat", "", "3", "", "1"],
        ["Datagram: SEND 2: 1 byte", "", "", "", ""], ["Datagram: ERROR busy about SEND 2: busy", "", "7", "", ""]])


def without_receipts():
    path = stream((True, hello()), (False, welcome()), (True, send(1, b"x", flags=0) + send(2, b"y", b"t", flags=0)),
                  (False, upcall(41, b"z") + upcall(42, b"y", b"t", source=7)), (False, upcall(43, b"x", source=9)))
    same(rows(path, "upcall.request_in")[3:], [[["6"]], [[]]])


def errors():
    path = stream((True, hello()), (False, error(7, HELLO, NONCE, b"a token is wanted") + frame(BYE, b"protocol")))
    same(infos(path)[1], "ERROR unauthorized about HELLO: a token is wanted | BYE protocol")
    same([[";".join(value) for value in line] for line in rows(path, "upcall.request_in", "upcall.reason", "_ws.expert.severity")],
         [["", "", ""], ["4", "protocol", "8388608;6291456"]])
