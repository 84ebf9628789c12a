//! The client in Python, which was written from upcall-protocol(7) alone, against the daemon.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use upcall_wire::frame::{Hello, Role};

use super::auto;
use crate::support::{Daemon, Event, Native, Place, over, skip, skip_without};

over!(each: it_registers_sends_resumes_and_sees_a_gap);

const SCRIPT: &str = include_str!("../../client/native_client.py");

/// Runs it to its end, as this user; its lines behind the first, the welcome. `None` where there is no Python.
fn client(user: Option<u32>, arguments: &[&str]) -> Option<(bool, Vec<String>)> {
    let mut command = Command::new("python3");
    // The script comes by stdin, because another user may not be able to read the file.
    command.arg("-").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(user) = user {
        command.uid(user);
    }
    let Ok(mut child) = command.spawn() else {
        skip_without("native::python", "python3");
        return None;
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(SCRIPT.as_bytes()).expect("Python reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    Some((output.status.success(), text.lines().map(str::to_owned).collect()))
}

fn output(arguments: &[&str]) -> Option<Vec<String>> {
    let (success, lines) = client(None, arguments)?;
    assert!(success && lines[0].starts_with("{\"welcome\""), "{lines:?}");
    Some(lines[1..].to_vec())
}

fn it_registers_sends_resumes_and_sees_a_gap(place: Place) {
    let config = auto(place, "lab", "") + "[log]\nsize = \"1MiB\"\n[slow_consumer]\nmax_behind = \"256KiB\"\n";
    let daemon = Daemon::start(&config);
    let url = daemon.url("lab");
    let state = format!("state={}", daemon.setup().scratch().join("state").display());
    // It registers and leaves without BYE, so its session stays.
    let Some(lines) = output(&[&state, "name=snake", "filter=door/*", &url, "listen", "0"]) else { return };
    assert!(lines.is_empty(), "{lines:?}");
    daemon.wait(Event::NativeHello.with("(snake)"));
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let lines = output(&["topic=door/1", &url, "send", "open", "sh\u{fc}t"]).expect("there is Python");
    let sequences = lines.iter().map(|line| line.contains("\"sequence\": ") && line.contains("\"due\": "));
    assert!(sequences.len() == 2 && sequences.into_iter().all(|found| found), "{lines:?}");
    // It resumes, and gets what was sent meanwhile.
    let lines = output(&[&state, &url, "listen", "2"]).expect("there is Python");
    assert!(lines.len() == 2 && lines[0].contains("\"open\"") && lines[1].contains("sh\\u00fct"), "{lines:?}");
    // It resumes after more than the ring holds, and sees the gap.
    for number in 0..700 {
        sender.send_confirmed("door/2", format!("{number:02000}"));
    }
    let lines = output(&[&state, &url, "listen", "2"]).expect("there is Python");
    assert!(lines[0].contains("{\"gap\": [3, ") && lines[0].contains("\"evicted\""), "{}", lines[0]);
    assert!(lines[1].contains("\"upcall\": "), "{}", lines[1]);
}

#[test]
fn s18_another_user_does_not_resume_over_a_stream() {
    s18(Place::UnixAbstract);
}

#[test]
fn s18_another_user_does_not_resume_over_datagrams() {
    s18(Place::DatagramAbstract);
}

/// S18: another user cannot resume a session on a Unix socket, even with all its secrets.
fn s18(place: Place) {
    if !geteuid().is_root() {
        return skip("s18_another_user_does_not_resume", "only root can become another user");
    }
    let daemon = Daemon::start(&auto(place, "lab", ""));
    let url = daemon.url("lab");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().with_extension("state");
    let state = format!("state={}", path.display());
    if output(&[&state, &url, "listen", "0"]).is_none() {
        return;
    }
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("it is ours");
    let (success, lines) = client(Some(65_534), &[&state, &url, "listen", "0"]).expect("there is Python");
    assert!(!success && lines[0].contains("unknown_session"), "{lines:?}");
    assert!(output(&[&state, &url, "listen", "0"]).is_some(), "its owner does");
    fs::remove_file(path).expect("it is ours");
}
