//! `upcall-client` at a terminal: the real program on a pseudo-terminal, against a daemon that the test plays.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::client::*;
use crate::support::scripted::datagram::ScriptedDatagrams;
use crate::support::scripted::*;
use crate::support::terminal::Terminal;
use crate::support::{DEADLINE, within};

const PROMPT: &str = "> ";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// A terminal with the prompt on it.
fn at_prompt(url: &str) -> Terminal {
    let mut terminal = Terminal::start(client(url, &[]), None);
    terminal.expect(&format!("connected to {url}"));
    terminal.expect(PROMPT);
    terminal
}

/// A daemon that sends the lines from a channel. It closes when the channel is closed, or, after an empty line, after
/// the client has.
fn scripted() -> (ScriptedDaemon, Sender<&'static str>) {
    let (send, lines) = mpsc::channel::<&str>();
    let lines = Mutex::new(lines);
    let daemon = ScriptedDaemon::tcp(move |socket| {
        for line in lines.lock().unwrap().iter() {
            if line.is_empty() {
                return read_to_end(&socket);
            }
            (&socket).write_all(line.as_bytes()).unwrap();
        }
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        read_to_end(&socket)
    });
    (daemon, send)
}

#[test]
fn a_conversation() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDaemon::everywhere(directory.path(), echo) {
            let mut terminal = at_prompt(&daemon.url);
            for message in ["haii", "apa kabar? ✓"] {
                terminal.type_in(message);
                terminal.expect(message);
                terminal.type_in("\r");
                terminal.expect(&format!("{EVENT}{message}\r\n"));
                terminal.expect(PROMPT);
            }
            // An empty line sends nothing.
            terminal.type_in("\r");
            terminal.expect(PROMPT);
            terminal.type_in(" BYE \r");
            assert_eq!(terminal.end().code(), Some(0));
            assert_eq!(daemon.next_received(), "haii\napa kabar? ✓\n");
        }
    });
}

#[test]
fn a_conversation_by_datagrams() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let url = daemon.url.clone();
            let inputs = thread::spawn(move || daemon.echo());
            let mut terminal = Terminal::start(client(&url, &[]), None);
            terminal.expect(&format!("joined {url}, best effort"));
            terminal.expect("> ");
            terminal.type_in("join us\r");
            terminal.expect("\"join us\" is a command");
            terminal.expect("> ");
            terminal.type_in("haii\r");
            terminal.expect(&format!("{EVENT}haii\r\n"));
            terminal.type_in("bye\r");
            assert_eq!(terminal.end().code(), Some(0));
            assert_eq!(inputs.join().unwrap(), ["haii\n"]);
        }
    });
}

#[test]
fn ctrl_d_and_ctrl_c_end() {
    within(DEADLINE, || {
        for key in [CTRL_D, CTRL_C] {
            let daemon = ScriptedDaemon::tcp(echo);
            let mut terminal = at_prompt(&daemon.url);
            terminal.type_in(key);
            assert_eq!(terminal.end().code(), Some(0));
            assert_eq!(daemon.next_received(), "");
        }
    });
}

#[test]
fn an_upcall_leaves_a_half_typed_line_intact() {
    within(DEADLINE, || {
        let (daemon, send) = scripted();
        let mut terminal = at_prompt(&daemon.url);
        terminal.type_in("half");
        terminal.expect("half");
        for upcall in ["one\n", "two\nthree"] {
            send.send(upcall).unwrap();
            let last = upcall.lines().last().unwrap();
            terminal.expect(&format!("{last}\r\n"));
            // Drawn again, below it.
            terminal.expect("> half");
        }
        terminal.type_in(" typed\r");
        terminal.expect(PROMPT);
        send.send("").unwrap();
        terminal.type_in("bye\r");
        assert_eq!(terminal.end().code(), Some(0));
        assert_eq!(daemon.next_received(), "half typed\n");
    });
}

#[test]
fn no_upcall_is_lost_where_lines_begin_and_end() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(echo);
        let mut terminal = at_prompt(&daemon.url);
        // Typed ahead all at once, so that upcalls come while prompts come and go.
        let typed: String = (0..200).map(|i| format!("message {i}\r")).collect();
        terminal.type_in(&format!("{typed}bye\r"));
        for i in 0..200 {
            let before = terminal.expect(&format!("{EVENT}message {i}\r\n"));
            assert!(!before.contains(EVENT), "{before:?}");
        }
        assert_eq!(terminal.end().code(), Some(0));
        // Each begins a line: a new one, or one that was wiped. Modes take no room.
        let modes = ["\x1b[?2004h", "\x1b[?2004l", "\x1b[?2026h", "\x1b[?2026l"];
        let text = modes.iter().fold(terminal.text(), |text, mode| text.replace(mode, ""));
        for (at, _) in text.match_indices(EVENT) {
            let before = &text[..at];
            assert!(before.ends_with('\n') || before.ends_with("\r\x1b[K"), "{before:?}");
        }
    });
}

#[test]
fn pasted_lines_are_sent_one_by_one() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(echo);
        let mut terminal = at_prompt(&daemon.url);
        terminal.type_in("\x1b[200~one\rtwo\r\rthree\x1b[201~\r");
        terminal.expect(&format!("{EVENT}three\r\n"));
        terminal.type_in(CTRL_D);
        assert_eq!(terminal.end().code(), Some(0));
        assert_eq!(daemon.next_received(), "one\ntwo\nthree\n");
    });
}

#[test]
fn s13_nothing_from_a_stranger_reaches_the_terminal_raw() {
    within(DEADLINE, || {
        let (daemon, send) = scripted();
        let mut terminal = at_prompt(&daemon.url);
        send.send("\x1b]0;owned\x07\r\u{9b}31m\u{202e}\x08\\\nend\n").unwrap();
        terminal.expect("\\x1b]0;owned\\x07\\r\\u{9b}31m\\u{202e}\\x08\\\\\r\n");
        terminal.expect("end");
        let text = terminal.text();
        assert!(!text.contains("\x1b]0") && !text.contains(['\u{9b}', '\u{202e}', '\x07', '\x08']), "{text:?}");
    });
}

#[test]
fn the_daemon_closing_ends_the_prompt() {
    within(DEADLINE, || {
        for (farewell, status, words) in [
            ("upcalld: shutdown\n", 69, "upcall-client: the daemon closed the connection: shutdown ("),
            ("upcalld: slow_consumer\n", 74, "slow_consumer"),
            ("last words", 69, "gave no reason"),
        ] {
            // At an empty prompt, in the middle of a line, behind a lone Escape, in a search of the history.
            for typed in ["", "half", "\x1b", "\x1b[", "\x12"] {
                let (daemon, send) = scripted();
                let mut terminal = at_prompt(&daemon.url);
                terminal.type_in(typed);
                send.send(farewell).unwrap();
                drop(send);
                assert_eq!(terminal.end().code(), Some(status), "{farewell:?} {typed:?}");
                terminal.expect(words);
                let told = terminal.text();
                assert!(!told.contains("\nupcalld: "), "the farewell is no upcall: {told:?}");
                assert!(told.contains("last words") == (farewell == "last words"), "{told:?}");
            }
        }
    });
}

#[test]
fn signals_restore_the_terminal() {
    within(DEADLINE, || {
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            let daemon = ScriptedDaemon::tcp(echo);
            let mut terminal = at_prompt(&daemon.url);
            terminal.type_in("half");
            terminal.expect("half");
            assert!(terminal.is_raw());
            kill(Pid::from_raw(terminal.client.child.id().try_into().unwrap()), signal).unwrap();
            let status = terminal.end();
            if signal == Signal::SIGINT {
                assert_eq!(status.code(), Some(0));
            } else {
                assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
            }
        }
    });
}

#[test]
fn upcalls_that_are_redirected_are_left_as_they_are() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(echo);
        let (reader, writer) = pipe();
        let mut terminal = Terminal::start(client(&daemon.url, &[]), Some(File::from(writer)));
        let mut upcalls = BufReader::new(File::from(reader));
        terminal.expect(PROMPT);
        terminal.type_in("a\x16\x1bb\r");
        let mut line = String::new();
        upcalls.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{EVENT}a\x1bb\n"));
        terminal.type_in("bye\r");
        assert_eq!(terminal.end().code(), Some(0));
        assert_eq!(upcalls.read_to_string(&mut line).unwrap(), 0, "no prompt: {line:?}");
    });
}

#[test]
fn a_terminal_that_cannot_edit_is_enough() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(echo);
        let mut terminal = Terminal::start_as(client(&daemon.url, &[]), "dumb", None);
        terminal.type_in("a\tb\n");
        terminal.expect(&format!("{EVENT}a\\tb\r\n"));
        terminal.type_in("bye\n");
        assert_eq!(terminal.end().code(), Some(0));
    });
}

#[test]
fn ctrl_c_leaves_a_daemon_that_takes_its_time() {
    within(DEADLINE, || {
        let (daemon, send) = scripted();
        let mut terminal = at_prompt(&daemon.url);
        terminal.type_in("bye\r");
        terminal.expect("bye");
        terminal.expect("\x1b[?2004l");
        terminal.type_in(CTRL_C);
        assert_eq!(terminal.end().code(), Some(0));
        drop(send);
    });
}
