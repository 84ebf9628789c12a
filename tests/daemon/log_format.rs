//! How log lines are written: as text, as JSON, for the journal.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Daemon, Event, Place, Setup, Stream, skip, until};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits until these characters have been logged: this file is about how lines are written.
#[track_caller]
fn wait_raw(daemon: &Daemon, text: &str, times: usize) {
    assert!(daemon.log().raw().wait_count(text, times), "{text:?} is not in the log {times} times");
}

#[test]
fn json_lines_are_objects_with_fields() {
    let config = Place::Tcp.listener("lab", "deny = [\"127.0.0.9\"]") + DATA;
    let mut daemon = Setup::new(&config).args(&["--log-format", "json", "--log-inputs", "always"]).start();
    let url = daemon.url("lab");
    let stream = Stream::connect(&url);
    stream.send("say \"hi\"\\\n");
    stream.expect("say \"hi\"\\\n");
    Stream::connect_from("127.0.0.9", &url).expect_rest("upcalld: not_allowed\n");
    drop(stream);
    daemon.wait(Event::Left.reason("closed"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    assert!(daemon.log().raw().wait_end());
    let lines = lines(&daemon.log().raw().text());
    let find = |words: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().is_some_and(|message| message.contains(words)));
        found.unwrap_or_else(|| panic!("no line with {words}"))
    };
    assert!(lines.iter().all(|line| line["time"].is_string() && line["level"].is_string()));
    let listening = find("listening on ");
    assert_eq!((&listening["listener"], &listening["address"]), (&Value::from("lab"), &Value::from(url.as_str())));
    assert_eq!(lines.last().expect("a line")["message"], "ended");
    let connected = find(" connected from ");
    assert_eq!((&connected["endpoint"], &connected["listener"]), (&Value::from(1), &Value::from("lab")));
    assert!(connected["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    assert_eq!(find("refused")["reason"], "not_allowed");
    assert_eq!((&find("left: ")["reason"], &find("left: ")["endpoint"]), (&Value::from("closed"), &Value::from(1)));
    assert_eq!((&find("Received")["sequence"], &find("Received")["endpoint"]), (&Value::from(1), &Value::from(1)));
}

#[test]
fn a_reload_changes_format_and_level() {
    let with = |format: &str, level: &str| {
        Place::Tcp.listener("lab", "") + &format!("[daemon]\nlog_format = \"{format}\"\nlog_level = \"{level}\"\n")
    };
    let daemon = Setup::new(&with("text", "info")).configured_log_format().start();
    let reload = |config: &str, words: &str| {
        daemon.setup().write_config(config);
        daemon.signal(Signal::SIGHUP);
        wait_raw(&daemon, words, 1);
    };
    reload(&with("json", "info"), "\"message\":\"reloaded");
    reload(&with("text", "info"), "Z info reloaded");
    // This line is written while the old level is still in force, and shows that the new configuration has been read.
    reload(&(with("text", "error") + "[log]\nsize = \"32MiB\"\n"), "log.size needs a restart");
    reload("wrong", "Z error reload refused: ");
    assert_eq!(daemon.log().raw().count(" info reloaded"), 1);
}

/// Nothing but objects comes from it, also when it does not start.
#[test]
fn json_has_the_mistakes_that_end_a_start() {
    let wrong = || Setup::new("[upcall]\nwrong = 1\n[x]\n").args(&["--log-format", "json"]);
    let ended = wrong().run();
    assert_eq!(ended.status.code(), Some(78));
    let lines = lines(&ended.stderr);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line["level"] == "error"), "{lines:?}");
    assert!(lines[0]["message"].as_str().is_some_and(|message| message.contains("upcalld.toml:2:1: ")), "{lines:?}");
    let checked = wrong().args(&["--check"]).run();
    assert!(checked.stderr.contains("upcalld.toml:2:1: ") && !checked.stderr.contains('{'), "{}", checked.stderr);
}

/// With no journal to be reached, its stream on standard error gets the levels.
#[test]
fn the_journals_stream_gets_priorities() {
    let stream = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)";
    let config = Place::Tcp.listener("lab", "") + DATA;
    let text = Setup::new(&config).args(&["--log-format", "text"]).after_shell(stream).start_silent();
    wait_raw(&text, "<6>ready\n", 1);
    let wrong = Setup::new("wrong\n").args(&["--log-format", "text"]).after_shell(stream).run();
    assert!(wrong.stderr.starts_with("<3>") && wrong.stderr.contains("upcalld.toml:1:"), "{}", wrong.stderr);
    if Path::new("/run/systemd/journal/socket").exists() {
        return skip("the_journals_stream_gets_priorities", "the journal of this machine would get the lines");
    }
    let daemon = Setup::new(&config).configured_log_format().after_shell(stream).start_silent();
    wait_raw(&daemon, "<6>ready\n", 1);
}

/// Beside a second thread, each system call of the loop costs more.
#[test]
fn there_is_a_thread_that_writes_only_while_there_is_something_to_write() {
    let daemon = Setup::new(&(Place::Tcp.listener("lab", "") + DATA)).start();
    let threads = format!("/proc/{}/task", daemon.pid());
    for _round in 0..3 {
        until("the idle thread ends", || std::fs::read_dir(&threads).expect("it runs").count() == 1);
        daemon.summary("summary: ");
    }
}
