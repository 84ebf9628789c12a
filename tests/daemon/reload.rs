//! SIGHUP: what changes, and what does not.

use std::net::SocketAddr;
use std::thread;

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::slow_consumer::lines;
use crate::support::{Daemon, Event, Place, Stream, Swarm, listener, over};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

over!(streams: unchanged_listeners_keep_their_clients, f15_a_wrong_file_changes_nothing);

fn unchanged_listeners_keep_their_clients(place: Place) {
    let kept = place.listener("kept", "");
    let removed = Place::UnixPath.listener("removed", "");
    let daemon = Daemon::start(&(kept.clone() + &removed + DATA));
    let (stays, goes) = (daemon.join("kept"), daemon.join("removed"));
    let (kept_url, removed_url) = (daemon.url("kept"), daemon.url("removed"));
    stays.send("unfini");
    stays.expect("unfini");
    goes.expect("unfini");
    stays.send("shed\nha");
    stays.expect("shed\n");
    goes.expect("shed\n");

    let added = Place::UnixAbstract.listener("added", "");
    daemon.reload(&(kept + &added + DATA));
    goes.expect_rest("upcalld: listener_removed\n");
    daemon.wait(Event::Left.reason("listener_removed"));
    assert!(Stream::try_connect(&removed_url).is_err(), "the listener is gone");
    assert_eq!(daemon.url("kept"), kept_url);
    let new = daemon.join("added");
    // Half a line from before the reload is still half a line.
    stays.send("lf\n");
    for stream in [&stays, &new] {
        stream.expect("half\n");
    }
    assert_eq!(daemon.disconnected(), 1);
}

fn f15_a_wrong_file_changes_nothing(place: Place) {
    let config = place.listener("lab", "") + DATA;
    let daemon = Daemon::start(&config);
    let streams: Vec<Stream> = (0..10).map(|_| daemon.join("lab")).collect();
    let wrong = [
        "this is no TOML [".to_owned(),
        config.replace("{data}", "{dta}"),
        config.replace("transport", "transprot"),
        config.clone() + "[registry]\nlease = \"0s\"\n",
    ];
    for (round, wrong) in wrong.iter().enumerate() {
        daemon.reload_refused(wrong);
        streams[round].send(format!("{round}\n"));
        for stream in &streams {
            stream.expect(format!("{round}\n"));
        }
        daemon.join("lab");
    }
    assert!(
        daemon
            .log()
            .entries(Event::ReloadRefused)
            .iter()
            .all(|entry| entry.message.contains("the old configuration stays"))
    );
    // A file that is gone is a wrong file, too.
    std::fs::remove_file(daemon.setup().config_path()).expect("it is there");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_count(Event::ReloadRefused, wrong.len() + 1);
    streams[0].send("still here\n");
    for stream in &streams {
        stream.expect("still here\n");
    }
}

#[test]
fn a_format_applies_from_the_next_sequence_on() {
    let lab = Place::Tcp.listener("lab", "");
    let daemon = Daemon::start(&(lab.clone() + "[upcall]\nformat = \"old {seq} {data}\"\n"));
    let (first, second) = (daemon.join("lab"), daemon.join("lab"));
    first.send("a\n");
    first.expect("old 1 a\n");
    daemon.reload(&(lab + "[upcall]\nformat = \"new {seq} {data}\"\ndeliver_to = \"others\"\n"));
    first.send("b\n");
    second.expect("old 1 a\nnew 2 b\n");
    second.send("c\n");
    first.expect("new 3 c\n");
}

#[test]
fn rules_and_limits_change_for_new_clients() {
    let daemon = Daemon::start(&(Place::UnixPath.listener("local", "") + &Place::Tcp.listener("lab", "")));
    let config = std::fs::read_to_string(daemon.setup().config_path()).expect("it is there");
    let (first, url) = (daemon.join("lab"), daemon.url("lab"));
    let limited = config.replace("name = \"lab\"\n", "name = \"lab\"\ndeny = [\"127.0.0.2/32\"]\nmax_endpoints = 2\n");
    daemon.reload(&limited);
    assert_eq!(daemon.url("lab"), url);
    Stream::connect_from("127.0.0.2", &url).expect_rest("upcalld: not_allowed\n");
    let second = daemon.join("lab");
    daemon.connect("lab").expect_rest("upcalld: listener_max_endpoints\n");
    daemon.reload(&config);
    let third = Stream::connect_from("127.0.0.2", &url);
    third.send("hi");
    for stream in [&first, &second, &third] {
        stream.expect("Upcall event: Processing hi");
    }
}

/// `before` stands for the port, and what the reload changes it to has the same port.
fn widen(before: &str, port: impl Fn(&Daemon) -> u16) {
    let config = listener("lab", "tcp", before, "") + &Place::UnixPath.listener("local", "") + DATA;
    let daemon = Daemon::start(&config);
    let local = daemon.join("local");
    let port = port(&daemon);
    let config = std::fs::read_to_string(daemon.setup().config_path()).expect("it is there");
    daemon.reload(&config.replace(&format!("\"{before}\""), &format!("\"0.0.0.0:{port}\"\nopen = true")));
    assert_eq!(daemon.url("lab"), format!("tcp://0.0.0.0:{port}"));
    let far = Stream::connect_from("127.0.0.3", &format!("tcp://127.0.0.2:{port}"));
    far.send("from afar\n");
    far.expect("from afar\n");
    local.expect("from afar\n");
}

#[test]
fn an_address_widens_on_its_own_port() {
    // Bound but not listening, and with the address to be reused: the port is kept from others, not from the daemon.
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    reserved.set_reuse_address(true).expect("the option exists");
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let port = reserved.local_addr().ok().and_then(|address| address.as_socket()).expect("an address").port();
    widen(&format!("127.0.0.1:{port}"), |_| port);
}

#[test]
fn an_address_widens_on_the_port_that_the_kernel_chose() {
    widen("127.0.0.1:0", |daemon| daemon.port("lab"));
}

/// A correct file that asks for an address in use is refused as a whole; nothing is half done.
#[test]
fn an_address_in_use_refuses_the_reload() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let local = Place::UnixPath.listener("local", "");
    let lab = Place::Tcp.listener("lab", "");
    let daemon = Daemon::start(&(local.clone() + &lab + DATA));
    let (local_stream, lab_stream) = (daemon.join("local"), daemon.join("lab"));
    daemon.reload_refused(&(local + &listener("more", "tcp", &address, "") + DATA));
    lab_stream.send("all here\n");
    for stream in [&local_stream, &lab_stream] {
        stream.expect("all here\n");
    }
    daemon.join("lab");
    daemon.join("local");
}

/// Listeners that differ only in their names, and are listed in another order, keep their own rules.
#[test]
fn listeners_on_port_0_are_distinguished_by_name() {
    let both = Place::Tcp.listener("both", "");
    let output = Place::Tcp.listener("output", "role = \"output\"");
    let daemon = Daemon::start(&(both.clone() + &output + DATA));
    let (both_url, output_url) = (daemon.url("both"), daemon.url("output"));
    for config in [both.clone() + &output, output + &both] {
        daemon.reload(&(config + "[upcall]\nformat = \"{data}\"\nmax_message = \"50KiB\"\n"));
        let (speaker, listener) = (Stream::connect(&both_url), Stream::connect(&output_url));
        speaker.send("for all\n");
        speaker.expect("for all\n");
        listener.send("not allowed\n");
        let told = listener.read_until_eof();
        assert!(told.ends_with(b"upcalld: output_only\n"), "{}", told.escape_ascii());
    }
}

/// The configuration has to fit into the running log, not into the one that a restart would make.
#[test]
fn what_does_not_fit_into_the_running_log_is_refused() {
    let lab = Place::Tcp.listener("lab", "");
    let daemon =
        Daemon::start(&(lab.clone() + DATA + "[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\n"));
    let stream = daemon.join("lab");
    let with = |max_message: &str, max_behind: &str| {
        format!(
            "{lab}[upcall]\nformat = \"new {{data}}\"\nmax_message = \"{max_message}\"\n[log]\nsize = \"64MiB\"\n\
             [slow_consumer]\nmax_behind = \"{max_behind}\"\n"
        )
    };
    for (round, (max_message, max_behind)) in [("60KiB", "16MiB"), ("8MiB", "16MiB")].into_iter().enumerate() {
        daemon.reload_refused(&with(max_message, max_behind));
        let lines = daemon.log().entries(Event::ReloadRefused);
        assert!(
            lines[round].message.contains("max_behind") && lines[round].message.contains("the old configuration stays"),
            "{lines:?}"
        );
        stream.send(format!("{round}\n"));
        stream.expect(format!("{round}\n"));
    }
    // A configuration that fits is accepted, and the log stays as it is.
    daemon.reload(&with("60KiB", "2MiB"));
    daemon.log().wait_words("log.size needs a restart; it stays at 4MiB");
    stream.send("x\n");
    stream.expect("new x\n");
}

/// Inputs wait for a reader without end, until a reload shortens the patience.
#[test]
fn a_shorter_patience_releases_inputs() {
    let with = |patience: &str| {
        format!(
            "{DATA}[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"{patience}\"\n\
             [daemon]\nlog_level = \"debug\"\n"
        )
    };
    let listeners = Place::Tcp.listener("lab", "") + &Place::Tcp.listener("in", "role = \"input\"");
    let daemon = Daemon::start(&(listeners.clone() + &with("forever")));
    let stalled = Stream::connect_narrow(&daemon.url("lab"));
    daemon.wait_connected(1);
    let mut healthy = Swarm::join(&daemon, &["lab"], 1);
    let sender = daemon.connect("in");
    let expected = lines(8_000, 1_000);
    let sent = expected.clone();
    let sending = thread::spawn(move || sender.send(sent));
    // It reads all the time. Inputs may wait for it longer than a busy machine could keep it from reading.
    let expecting = expected.clone();
    let reading = thread::spawn(move || healthy.expect_each(&expecting, |_, _| {}));
    daemon.wait(Event::InputsHeld.endpoint(1));
    assert!(!sending.is_finished(), "they wait for ever");
    daemon.reload(&(listeners + &with("2s")));
    daemon.wait(Event::PatienceExhausted.endpoint(1));
    reading.join().expect("everything arrives");
    sending.join().expect("everything could be sent");
    daemon.wait(Event::Left.reason("slow_consumer"));
    assert_eq!(daemon.disconnected(), 1);
    drop(stalled);
}

#[test]
fn f16_a_thousand_hups() {
    let lab = Place::Tcp.listener("lab", "") + &Place::UnixPath.listener("local", "");
    let with = |format: usize| format!("{lab}[upcall]\nformat = \"{format} {{data}}\"\n");
    let daemon = Daemon::start(&with(0));
    let (tcp, local) = (daemon.join("lab"), daemon.join("local"));
    let before = daemon.descriptors();
    for round in 1..=1_000 {
        daemon.setup().write_config(&with(round));
        daemon.signal(Signal::SIGHUP);
    }
    // Signals coalesce, so what counts is not the number of reloads, but that the last file is in force.
    let last = b"1000 x\n";
    for attempt in 0.. {
        assert!(attempt < 100_000, "the last file never came into force");
        tcp.send("x\n");
        let mut got = tcp.read_exactly(4);
        while got.last() != Some(&b'\n') {
            got.extend(tcp.read_exactly(1));
        }
        let mut same = local.read_exactly(got.len());
        assert_eq!(got, same);
        same.clear();
        if got == last {
            break;
        }
    }
    daemon.wait_descriptors(before);
    assert_eq!(daemon.disconnected(), 0);
    assert_eq!(daemon.count(Event::ReloadRefused), 0);
}
