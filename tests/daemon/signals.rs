//! Signals, and the end.

use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::load::config;
use crate::support::{Daemon, Event, Place, Setup, Stream, figure};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

#[test]
fn term_and_int_drain_and_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon =
            Daemon::start(&(Place::Tcp.listener("lab", "") + &Place::UnixPath.listener("local", "") + DATA));
        let (tcp, unix) = (daemon.join("lab"), daemon.join("local"));
        let (tcp_url, unix_url) = (daemon.url("lab"), daemon.url("local"));
        tcp.send("last words\n");
        for stream in [&tcp, &unix] {
            stream.expect("last words\n");
        }
        daemon.signal(signal);
        for stream in [&tcp, &unix] {
            stream.expect_rest("upcalld: shutdown\n");
        }
        drop((tcp, unix));
        assert_eq!(daemon.wait_exit().code(), Some(0));
        daemon.wait(Event::Ended);
        assert!(Stream::try_connect(&tcp_url).is_err() && Stream::try_connect(&unix_url).is_err());
    }
}

/// Idle clients that never read, and never close either, do not hold the daemon beyond its grace.
#[test]
fn the_grace_ends() {
    let mut daemon = Daemon::start(&(config(Place::Tcp, DATA) + "[daemon]\nshutdown_grace = \"500ms\"\n"));
    let _stalled = stalled(&daemon);
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    figure("grace", &format!("ended within {:.2?} of a grace of 500 ms", start.elapsed()));
}

/// An endpoint that does not read and has much more pending than sockets take.
fn stalled(daemon: &Daemon) -> Stream {
    let stalled = Stream::connect_narrow(&daemon.url("lab"));
    daemon.wait_connected(1);
    let probe = daemon.join("lab");
    let sender = daemon.connect("in");
    let sent = [&b"x".repeat(999)[..], b"\n"].concat().repeat(1_500);
    sender.send(&sent);
    assert!(probe.read_exactly(sent.len()) == sent);
    stalled
}

#[test]
fn a_second_term_ends_at_once() {
    let mut daemon = Daemon::start(&(config(Place::Tcp, DATA) + "[daemon]\nshutdown_grace = \"1h\"\n"));
    let _stalled = stalled(&daemon);
    let idle = daemon.join("lab");
    daemon.signal(Signal::SIGTERM);
    // The idle endpoint has received the farewell, so the daemon drains.
    idle.expect("upcalld: shutdown\n");
    assert!(daemon.is_running());
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    figure("second_term", &format!("ended within {:.2?}", start.elapsed()));
}

#[test]
fn new_clients_are_refused_while_it_drains() {
    let mut daemon = Daemon::start(&(config(Place::UnixPath, DATA) + "[daemon]\nshutdown_grace = \"1h\"\n"));
    let url = daemon.url("lab");
    let pending = daemon.join("lab");
    let probe = daemon.join("lab");
    let sender = daemon.connect("in");
    let sent = [&b"x".repeat(999)[..], b"\n"].concat().repeat(1_500);
    sender.send(&sent);
    assert!(probe.read_exactly(sent.len()) == sent);
    let before = daemon.connected();
    daemon.signal(Signal::SIGTERM);
    probe.expect_rest("upcalld: shutdown\n");
    // Refused by the kernel or by name, but never registered.
    if let Ok(stream) = Stream::try_connect(&url) {
        let told = stream.read_until_eof();
        assert!(told.is_empty() || told == b"upcalld: shutdown\n", "{}", told.escape_ascii());
    }
    assert!(daemon.connected() <= before, "no connection was registered since");
    drop((probe, sender));
    assert_eq!(pending.read_until_eof().len(), sent.len() + "upcalld: shutdown\n".len());
    drop(pending);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

#[test]
fn usr1_logs_a_summary() {
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + &Place::UnixPath.listener("local", "") + DATA));
    let (tcp, _unix) = (daemon.join("lab"), daemon.join("local"));
    tcp.send("hi\n");
    tcp.expect("hi\n");
    for words in ["2 endpoints, 2 of them registered", "lab on tcp://", "local on unix://"] {
        daemon.summary(words);
    }
}

#[test]
fn pipe_and_the_unexpected_harm_nothing() {
    let mut daemon = Daemon::start(&(Place::Tcp.listener("lab", "") + DATA));
    let stream = daemon.join("lab");
    for _ in 0..10 {
        daemon.signal(Signal::SIGPIPE);
    }
    stream.send("alive\n");
    stream.expect("alive\n");
    assert!(daemon.is_running());
}

/// A log that cannot be written: a broken pipe, a full disk, a closed descriptor.
#[test]
fn a_broken_log_harms_nothing() {
    let shells = ["exec 2>&-", "exec 2>/dev/full", "exec 2>SCRATCH/fifo"];
    for (index, shell) in shells.into_iter().enumerate() {
        let socket = format!("@upcalld-test-{}-broken-{index}", std::process::id());
        let setup = Setup::new(&(crate::support::listener("lab", "unix", &socket, "") + DATA));
        let fifo = setup.scratch().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        // Open for reading and writing, so that the open of the daemon does not block. Closed below, so that no process
        // reads.
        let reader = File::options().read(true).write(true).open(&fifo).expect("the fifo");
        let shell = shell.replace("SCRATCH", &setup.scratch().display().to_string());
        let daemon = setup.after_shell(&shell).start_silent();
        let url = format!("unix://{socket}");
        let first = connect_when_ready(&url);
        drop(reader);
        for round in 0..20 {
            let stream = connect_when_ready(&url);
            stream.send(format!("{round}\n"));
            stream.expect(format!("{round}\n"));
            first.expect(format!("{round}\n"));
        }
        daemon.signal(Signal::SIGUSR1);
        first.send("end\n");
        first.expect("end\n");
    }
}

/// There is no log to wait for, so try until the daemon listens.
fn connect_when_ready(url: &str) -> Stream {
    let until = Instant::now() + crate::support::DEADLINE;
    loop {
        match Stream::try_connect(url) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < until, "{url}: {error}"),
        }
        thread::yield_now();
    }
}

/// A log that is not read while the daemon writes it: the pipe fills, and the daemon goes on.
#[test]
fn a_full_log_pipe_does_not_stop_the_daemon() {
    let socket = format!("@upcalld-test-{}-full", std::process::id());
    let setup = Setup::new(&(crate::support::listener("lab", "unix", &socket, "") + DATA));
    let fifo = setup.scratch().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let unread = File::options().read(true).write(true).open(&fifo).expect("the fifo");
    let shell = format!("exec 2>{}", fifo.display());
    let _daemon = setup.after_shell(&shell).args(&["--log-inputs", "always"]).start_silent();
    let stream = connect_when_ready(&format!("unix://{socket}"));
    let mut line = b"x".repeat(999);
    line.push(b'\n');
    for _ in 0..200 {
        (&stream).write_all(&line).expect("the daemon reads");
        stream.expect(&line);
    }
    drop(unread);
}
