//! Senders that receive their own upcalls, and read them more slowly than they send, or not at all.

use std::io::Write;
use std::thread;
use std::time::Instant;

use crate::slow_consumer::lines;
use crate::support::{Daemon, Place, Program, Stream, Swarm, figure, over, skip_without};

const CLIENT: &str = env!("CARGO_BIN_EXE_upcall-client");
const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

over!(streams: a_lone_sender_that_never_reads, messages_nearly_as_large_as_max_behind);

/// `seq 2000000 | PROGRAM`: four times as many bytes come back, which the program has to write before it reads on.
#[test]
fn b12_a_long_pipeline_is_slowed_down_not_disconnected() {
    const TEST: &str = "b12_a_long_pipeline_is_slowed_down_not_disconnected";
    const LINES: usize = 2_000_000;
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let (url, port) = (daemon.url("lab"), daemon.port("lab").to_string());
    let address = format!("TCP:127.0.0.1:{port}");
    let commands: [&[&str]; 4] = [
        &[CLIENT, &url],
        &[CLIENT, &url, "send", "--protocol", "text", "-"],
        &["nc", "-N", "127.0.0.1", &port],
        &["socat", "-t60", "-", &address],
    ];
    let text: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
    let upcalls: String = (1..=LINES).map(|line| format!("Upcall event: Processing {line}\n")).collect();
    for command in commands {
        let Some(mut program) = Program::start(command[0], &command[1..]) else {
            skip_without(TEST, command[0]);
            continue;
        };
        let start = Instant::now();
        program.feed(text.clone());
        let status = program.wait_exit();
        figure("b12", &format!("{}: {LINES} lines in {:.1?}", command.join(" "), start.elapsed()));
        assert!(status.success(), "{command:?}: {status}");
        let due = if command.contains(&"send") { "" } else { &upcalls };
        let came = program.output().bytes();
        assert!(came == due.as_bytes(), "{command:?}: {} bytes came, {} were due", came.len(), due.len());
    }
    assert_eq!(daemon.disconnected(), 0, "no endpoint was disconnected");
}

/// Its inputs wait because of its own lag, but not without end: then they are read until it is too far behind. While
/// they wait, the daemon sleeps.
fn a_lone_sender_that_never_reads(place: Place) {
    for patience in ["1s", "forever"] {
        let limits =
            format!("[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"{patience}\"\n");
        let daemon = Daemon::start(&(place.listener("lab", "") + DATA + &limits));
        let stream = daemon.join("lab");
        let (sent, writer) = (lines(24_000, 1_000), stream.again());
        let (start, before) = (Instant::now(), daemon.processor_time());
        let expected = sent.clone();
        let sending = thread::spawn(move || (&writer).write_all(&sent).is_ok());
        assert!(sending.join().expect("the writer ends"), "with patience {patience}, it could say everything");
        let (elapsed, used) = (start.elapsed(), daemon.processor_time() - before);
        figure("lone", &format!("{place:?}, patience {patience}: {elapsed:.1?}, {used:.2?} of a processor"));
        assert!(used < elapsed / 2, "it spins: {used:?} of {elapsed:?}");
        let got = stream.read_until_eof();
        let upcalls = got.strip_suffix(b"upcalld: slow_consumer\n").expect("the reason is the last line");
        assert!(expected.starts_with(upcalls) && upcalls.len() < expected.len(), "{} bytes", upcalls.len());
        drop(stream);
        let next = daemon.join("lab");
        next.send("the next one\n");
        next.expect("the next one\n");
    }
}

/// A single message may be larger than the lag at which inputs wait: that disconnects no endpoint that reads.
fn messages_nearly_as_large_as_max_behind(place: Place) {
    const SIZE: usize = 1_000 << 10;
    let limits = "[log]\nsize = \"2MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"forever\"\n";
    let upcall = DATA.to_owned() + "max_message = \"1000KiB\"\n";
    let daemon = Daemon::start(&(place.listener("lab", "framing = \"line\"") + &upcall + limits));
    let mut swarm = Swarm::join(&daemon, &["lab"], 3);
    let sender: Stream = swarm.streams()[0].again();
    let expected = [&b"small\n"[..], &vec![b'x'; SIZE - 1], b"\n"].concat().repeat(20);
    // The swarm makes the socket non-blocking when it reads, so the writer has to wait for room itself.
    let sent = expected.clone();
    let sending = thread::spawn(move || send_all(&sender, &sent));
    swarm.expect_each(&expected, |_, _| {});
    sending.join().expect("everything could be sent");
    assert_eq!(daemon.disconnected(), 0, "no endpoint was disconnected");
}

/// Sends over a stream that may be non-blocking.
fn send_all(stream: &Stream, mut bytes: &[u8]) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let deadline = PollTimeout::try_from(crate::support::DEADLINE).expect("it is not that long");
    let mut writer = stream;
    while !bytes.is_empty() {
        match writer.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let ready = poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], deadline);
                assert_eq!(ready, Ok(1), "the daemon reads on");
            }
            Err(error) => panic!("{error}, {} bytes before the end", bytes.len()),
        }
    }
}
