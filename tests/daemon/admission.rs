//! Which clients are admitted.

use crate::support::{Daemon, Event, Place, Setup, Stream, listener, skip};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";
const CONFIGURATION: i32 = 78;

/// The stream is admitted: what it sends comes back.
#[track_caller]
fn admitted(stream: &Stream) {
    stream.send("in\n");
    stream.expect("in\n");
}

#[test]
fn s16_beyond_loopback_only_on_purpose() {
    let wildcards = [("0.0.0.0:0", ""), ("[::]:0", ""), ("[::]:0", "dual_stack = true")];
    for (address, more) in wildcards {
        if address.starts_with('[') && !Place::Tcp6.is_available() {
            skip("s16", "::1 is not available");
            continue;
        }
        let ended = Setup::new(&listener("lab", "tcp", address, more)).run();
        assert_eq!(ended.code(), CONFIGURATION, "{}", ended.stderr);
        assert!(ended.stderr.contains("open = true"), "it says what to write: {}", ended.stderr);
        for rule in ["open = true", "allow = [\"127.0.0.0/8\", \"::1\"]"] {
            let more = format!("{more}\n{rule}");
            Daemon::start(&(listener("lab", "tcp", address, &more) + DATA));
        }
    }
}

#[test]
fn s16_on_the_command_line() {
    let ended = Setup::new(DATA).args(&["--listen", "tcp://0.0.0.0:0"]).run();
    assert!([64, CONFIGURATION].contains(&ended.code()), "{}: {}", ended.status, ended.stderr);
    assert!(ended.stderr.contains("--open"), "it says what to write: {}", ended.stderr);
    let daemon = Setup::new(DATA).args(&["--listen", "tcp://0.0.0.0:0", "--open"]).start();
    let port = daemon.urls()[0].strip_prefix("tcp://0.0.0.0:").expect("every address").to_owned();
    admitted(&Stream::connect(&format!("tcp://127.0.0.1:{port}")));
}

#[test]
fn networks_are_allowed_and_denied() {
    let daemon = Daemon::start(
        &(Place::Tcp.listener("allow", "allow = [\"127.0.0.0/29\"]\ndeny = [\"127.0.0.3/32\"]")
            + &Place::Tcp.listener("deny", "deny = [\"127.0.0.2\"]")
            + DATA),
    );
    let (allow, deny) = (daemon.url("allow"), daemon.url("deny"));
    admitted(&Stream::connect_from("127.0.0.2", &allow));
    admitted(&Stream::connect_from("127.0.0.9", &deny));
    for (source, url) in [("127.0.0.3", &allow), ("127.0.0.9", &allow), ("127.0.0.2", &deny)] {
        Stream::connect_from(source, url).expect_rest("upcalld: not_allowed\n");
    }
    daemon.wait_count(Event::Refused.reason("not_allowed"), 3);
    assert_eq!(daemon.log().entries(Event::Refused).len(), 3);
}

#[test]
fn dual_stack_is_what_it_says() {
    if !Place::Tcp6.is_available() {
        return skip("dual_stack", "::1 is not available");
    }
    let both = "open = true\ndual_stack = true";
    let daemon = Daemon::start(
        &(listener("both", "tcp", "[::]:0", both)
            + &listener("six", "tcp", "[::]:0", "open = true\ndual_stack = false")
            + &listener("rules", "tcp", "[::]:0", "dual_stack = true\nallow = [\"127.0.0.1/32\"]")
            + DATA),
    );
    let at = |host: &str, name: &str| format!("tcp://{host}:{}", daemon.port(name));
    for host in ["127.0.0.1", "[::1]"] {
        admitted(&Stream::connect(&at(host, "both")));
    }
    admitted(&Stream::connect(&at("[::1]", "six")));
    assert!(Stream::try_connect(&at("127.0.0.1", "six")).is_err());
    // An IPv4 peer of an IPv6 socket is an IPv4 peer.
    admitted(&Stream::connect(&at("127.0.0.1", "rules")));
    Stream::connect(&at("[::1]", "rules")).expect_rest("upcalld: not_allowed\n");
    daemon.wait_count(Event::Connected, 4);
    let connected = daemon.log().entries(Event::Connected);
    let mapped = connected.iter().filter(|entry| entry.peer.as_ref().is_none_or(|peer| peer.contains("::ffff:")));
    assert_eq!(mapped.count(), 0, "{connected:?}");
}

#[test]
fn users_and_groups_of_unix_peers() {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid()).ok().flatten();
    let (Some(user), Some(group)) = (user, group) else { return skip("users_and_groups", "no name for the own ids") };
    let other = if user.name == "nobody" { "daemon" } else { "nobody" };
    let rules = [
        ("by_user", format!("allow_users = [\"{}\"]", user.name)),
        ("by_group", format!("allow_groups = [\"{}\"]", group.name)),
        ("by_either", format!("allow_users = [\"{other}\"]\nallow_groups = [\"{}\"]", group.name)),
    ];
    for place in [Place::UnixPath, Place::UnixAbstract] {
        let tables: String = rules.iter().map(|(name, rule)| place.listener(name, rule)).collect();
        let refused = place.listener("other", &format!("allow_users = [\"{other}\"]"));
        let daemon = Daemon::start(&(tables + &refused + DATA));
        for (name, _) in &rules {
            admitted(&daemon.connect(name));
        }
        daemon.connect("other").expect_rest("upcalld: not_allowed\n");
        daemon.wait(Event::Refused.reason("not_allowed"));
    }
}

#[test]
fn a_refusal_arrives_even_after_much_input() {
    let daemon = Daemon::start(&(Place::Tcp.listener("lab", "deny = [\"127.0.0.0/8\"]") + DATA));
    for _ in 0..50 {
        let stream = daemon.connect("lab");
        // The daemon does not read all of it, so a plain close would become a reset, and the reason would be lost.
        let _ = std::io::Write::write_all(&mut &stream, &vec![b'x'; 64 << 10]);
        stream.expect_rest("upcalld: not_allowed\n");
    }
}
