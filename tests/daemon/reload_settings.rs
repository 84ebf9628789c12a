//! SIGHUP: settings that change for registered endpoints, one after the other. Listeners, formats, rules and patience
//! are in `reload.rs`, those of the log in `log_format.rs`.

use nix::sys::signal::Signal;

use crate::support::{Daemon, Event, Place};

/// Reloads the listener `lab` with these keys in its table, and these tables behind it.
struct Lab {
    table: String,
    daemon: Daemon,
}

impl Lab {
    fn start(place: Place) -> Lab {
        let table = place.listener("lab", "");
        let daemon = Daemon::start(&(table.clone() + "[upcall]\nformat = \"{data}\"\n"));
        // Its address is used by this daemon only.
        Lab { table, daemon }
    }

    fn reload(&self, keys: &str, upcall: &str, tables: &str) {
        let config = format!("{}{keys}\n[upcall]\nformat = \"{{data}}\"\n{upcall}\n{tables}", self.table);
        self.daemon.reload(&config);
    }
}

#[test]
fn limits_of_messages_and_endpoints() {
    let lab = Lab::start(Place::Tcp);
    let first = lab.daemon.join("lab");
    lab.reload("", "", "[registry]\nmax_endpoints = 1\n");
    lab.daemon.connect("lab").expect_rest("upcalld: max_endpoints\n");
    lab.reload("", "max_message = \"8B\"", "[registry]\nmax_endpoints = 2\n");
    let second = lab.daemon.join("lab");
    first.send("short\n");
    for stream in [&first, &second] {
        stream.expect("short\n");
    }
    second.send("much too long for that\n");
    second.expect_rest("upcalld: message_too_large\n");
    lab.reload("", "message_timeout = \"100ms\"", "");
    let third = lab.daemon.join("lab");
    third.send("line\nunfinished");
    third.expect("line\n");
    third.expect_rest("upcalld: message_timeout\n");
    lab.reload("", "message_timeout = \"forever\"\ndeliver_to = \"others\"", "");
    let fourth = lab.daemon.join("lab");
    first.expect("line\n");
    first.send("to others\n");
    fourth.expect("to others\n");
}

#[test]
fn roles_framing_and_inputs_in_the_log() {
    let lab = Lab::start(Place::UnixAbstract);
    let first = lab.daemon.join("lab");
    lab.reload("", "", "[daemon]\nlog_inputs = \"always\"\n");
    first.send("logged\n");
    first.expect("logged\n");
    lab.daemon.wait(Event::Input);
    lab.reload("role = \"output\"", "", "[daemon]\nlog_inputs = \"never\"\n");
    first.send("no longer allowed\n");
    first.expect_rest("upcalld: output_only\n");
    lab.reload("framing = \"chunk\"", "", "[daemon]\nlog_inputs = \"never\"\n");
    let second = lab.daemon.join("lab");
    second.send("a\nb");
    second.expect("a\nb\n".trim_end());
    assert_eq!(lab.daemon.count(Event::Input), 1);
}

#[test]
fn the_mode_of_a_socket_file_and_the_grace_of_the_end() {
    use std::os::unix::fs::PermissionsExt;
    let mut lab = Lab::start(Place::UnixPath);
    let url = lab.daemon.url("lab");
    let path = url.strip_prefix("unix://").expect("a path");
    let mode = || std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o660);
    let stays = lab.daemon.join("lab");
    lab.reload("mode = \"0600\"", "", "[daemon]\nshutdown_grace = \"1ms\"\n");
    assert_eq!(mode(), 0o600);
    lab.daemon.signal(Signal::SIGTERM);
    lab.daemon.wait(Event::Draining.with("at most 1ms"));
    // It does not shut its side down, and the daemon does not wait for it.
    assert_eq!(lab.daemon.wait_exit().code(), Some(0));
    drop(stays);
}

#[test]
fn leases_of_datagram_endpoints() {
    let lab = Lab::start(Place::Udp);
    let first = lab.daemon.join_datagram("lab");
    lab.reload("", "", "[registry]\nlease = \"100ms\"\n");
    // Renewed with the new lease, and not again.
    first.send("x");
    first.expect("x");
    lab.daemon.wait(Event::Left.reason("lease_expired"));
}
