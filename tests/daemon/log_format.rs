//! How log lines are written: as text, as JSON, for the journal.

use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{DEADLINE, Place, Setup, Stream, skip};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn json_has_an_object_a_line_with_fields() {
    let config = Place::Tcp.listener("lab", "deny = [\"127.0.0.9\"]") + DATA;
    let setup = Setup::new(&config).args(&["--log-format", "json", "--log-inputs", "always"]);
    let mut daemon = setup.start_silent();
    daemon.wait_log("\"message\":\"ready\"");
    let listening = lines(&daemon.log().text()).into_iter().find(|line| line["listener"] == "lab").expect("it listens");
    let url = listening["message"].as_str().and_then(|message| message.split(' ').nth(2)).expect("a URL").to_owned();
    let stream = Stream::connect(&url);
    stream.send("say \"hi\"\\\n");
    stream.expect("say \"hi\"\\\n");
    Stream::connect_from("127.0.0.9", &url).expect_rest("upcalld: not_allowed\n");
    drop(stream);
    daemon.wait_log("left: closed");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    daemon.wait_log("\"message\":\"ended\"");
    assert!(daemon.log().wait_end());
    let lines = lines(&daemon.log().text());
    let find = |words: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().is_some_and(|message| message.contains(words)));
        found.unwrap_or_else(|| panic!("no line with {words}"))
    };
    assert!(lines.iter().all(|line| line["time"].is_string() && line["level"].is_string()));
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
    let daemon = Setup::new(&with("text", "info")).start();
    daemon.reload(&with("json", "info"), "\"message\":\"reloaded");
    daemon.reload(&with("text", "info"), "Z info reloaded");
    // What is said while the old level is still in force tells that the new one is read.
    daemon.reload(&(with("text", "error") + "[log]\nsize = \"32MiB\"\n"), "log.size needs a restart");
    daemon.reload("wrong", "Z error reload refused: ");
    assert_eq!(daemon.log().count(" info reloaded"), 1);
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
    text.wait_log("<6>ready\n");
    let wrong = Setup::new("wrong\n").args(&["--log-format", "text"]).after_shell(stream).run();
    assert!(wrong.stderr.starts_with("<3>") && wrong.stderr.contains("upcalld.toml:1:"), "{}", wrong.stderr);
    if Path::new("/run/systemd/journal/socket").exists() {
        return skip("the_journals_stream_gets_priorities", "the journal of this machine would get the lines");
    }
    let daemon = Setup::new(&config).after_shell(stream).start_silent();
    daemon.wait_log("<6>ready\n");
}

/// Beside a second thread, each system call of the loop costs more.
#[test]
fn there_is_a_thread_that_writes_only_while_there_is_something_to_write() {
    let daemon = Setup::new(&(Place::Tcp.listener("lab", "") + DATA)).start();
    let threads = format!("/proc/{}/task", daemon.pid());
    for round in 1..=3 {
        let start = Instant::now();
        while std::fs::read_dir(&threads).expect("it runs").count() > 1 {
            assert!(start.elapsed() < DEADLINE, "a thread has nothing to do");
            std::thread::yield_now();
        }
        daemon.signal(Signal::SIGUSR1);
        daemon.wait_log_count(" of them registered for upcalls", round);
    }
}
