//! The long tests. The full script runs them one at a time, with the release build.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::steady;
use crate::support::swarm::allow_files;
use crate::support::{DEADLINE, Daemon, Event, Place, Setup, Stream, Swarm, figure, listener, skip, skip_without};

#[test]
#[ignore = "slow: a minute of load"]
fn l1_a_thousand_tcp_endpoints_for_a_minute() {
    if !allow_files(3_000) {
        return skip("l1", "the hard limit of open files is below 3,000");
    }
    steady(Place::Tcp, 1_000, 50, Duration::from_secs(60));
}

#[test]
#[ignore = "slow: a minute of load"]
fn l7_five_hundred_unix_endpoints_for_a_minute() {
    if !allow_files(3_000) {
        return skip("l7", "the hard limit of open files is below 3,000");
    }
    steady(Place::UnixPath, 500, 50, Duration::from_secs(60));
}

#[test]
#[ignore = "slow: two minutes"]
fn l4_connects_for_minutes() {
    const SECONDS: u32 = 120;
    const RATE: u32 = 200;
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let url = daemon.url("lab");
    let round = |count: u32| {
        let start = Instant::now();
        for connect in 0..count {
            let stream = Stream::connect(&url);
            stream.send("hi");
            stream.expect("Upcall event: Processing hi");
            drop(stream);
            thread::sleep((start + Duration::from_secs(1) * connect / RATE).saturating_duration_since(Instant::now()));
        }
    };
    round(RATE * 2);
    daemon.wait_count(Event::Left, (RATE * 2) as usize);
    let (descriptors, memory) = (daemon.descriptors(), daemon.memory());
    round(RATE * SECONDS);
    daemon.wait_count(Event::Left, (RATE * (2 + SECONDS)) as usize);
    let grown = daemon.memory().saturating_sub(memory);
    figure("l4", &format!("{} connects, {} KiB more memory", RATE * SECONDS, grown >> 10));
    daemon.wait_descriptors(descriptors);
    assert!(grown <= 4 << 20, "{grown} bytes more");
}

#[test]
#[ignore = "slow: ten thousand connections, and the daemon's release build is what is measured"]
fn l5_ten_thousand_idle_endpoints() {
    const ENDPOINTS: usize = 10_000;
    if !allow_files(ENDPOINTS as u64 + 500) {
        return skip("l5", "the hard limit of open files is below 10,500");
    }
    // The default protocol, "auto": their silence makes them text endpoints, and detecting that must leave nothing
    // behind.
    let config = Place::Tcp.listener("lab", "protocol = \"auto\"\nmax_endpoints = 10000");
    let setup = Setup::new(&(config + "[registry]\nmax_endpoints = 10000\n"));
    let daemon = setup.start();
    // The first pages of the log must not count as memory of an endpoint.
    let first = daemon.join("lab");
    first.send("hi");
    first.expect("Upcall event: Processing hi");
    drop(first);
    daemon.wait_count(Event::Left, 1);
    let before = daemon.memory();
    let mut swarm = Swarm::join(&daemon, &["lab"], ENDPOINTS);
    wait_until_idle(&daemon);
    let each = daemon.memory().saturating_sub(before) / ENDPOINTS;
    let (wakeups, processor, window) = (daemon.wakeups(), daemon.processor_time(), Duration::from_secs(10));
    // What is measured is a rate, so it takes a while.
    thread::sleep(window);
    let wakeups = (daemon.wakeups() - wakeups) as f64 / window.as_secs_f64();
    let processor = (daemon.processor_time() - processor).as_secs_f64() / window.as_secs_f64() * 100.0;
    figure("l5", &format!("{each} B an endpoint; idle: {processor:.2} % of a processor, {wakeups:.1} wakeups/s"));
    swarm.streams()[0].send("to all");
    swarm.expect_each(b"Upcall event: Processing to all", |_, _| {});
    let used = daemon.memory().saturating_sub(before) / ENDPOINTS;
    figure("l5", &format!("{used} B an endpoint once all of them got an upcall"));
    assert!(each <= 256 && used <= 256, "{each} B an endpoint, {used} once it got something");
    assert!(wakeups <= 2.0 && processor <= 0.5, "{wakeups} wakeups/s, {processor} %");
}

/// Waits until protocol detection is over: the daemon sleeps for longer than the second that a silent endpoint has.
fn wait_until_idle(daemon: &Daemon) {
    let begin = Instant::now();
    loop {
        let wakeups = daemon.wakeups();
        thread::sleep(Duration::from_millis(1_200));
        if daemon.wakeups() - wakeups <= 2 {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "the daemon does not come to rest");
    }
}

/// Two network namespaces with a cable between them; gone when dropped.
struct Cable {
    name: String,
}

impl Cable {
    const NEAR: &str = "198.18.60.1";
    const FAR: &str = "198.18.60.2";

    fn lay() -> Option<Cable> {
        let cable = Cable { name: format!("upt{}", std::process::id()) };
        let (name, near, far) = (&cable.name, format!("{}/24", Cable::NEAR), format!("{}/24", Cable::FAR));
        let near_end = format!("{name}n");
        let far_end = format!("{name}f");
        let laid = run(&["ip", "netns", "add", name])
            && run(&["ip", "link", "add", &near_end, "type", "veth", "peer", "name", &far_end, "netns", name])
            && run(&["ip", "addr", "add", &near, "dev", &near_end])
            && run(&["ip", "link", "set", &near_end, "up"])
            && run(&["ip", "-n", name, "addr", "add", &far, "dev", &far_end])
            && run(&["ip", "-n", name, "link", "set", &far_end, "up"])
            && run(&["ip", "-n", name, "link", "set", "lo", "up"]);
        laid.then_some(cable)
    }

    fn daemon(&self) -> Daemon {
        let address = format!("{}:0", Cable::FAR);
        let config = listener("lab", "tcp", &address, "open = true")
            + &listener("in", "tcp", &address, "open = true\nrole = \"input\"")
            + "[upcall]\nformat = \"{data}\"\n";
        Setup::new(&config).under(&["ip", "netns", "exec", &self.name]).start()
    }

    /// From now on, nothing from this peer arrives at the daemon.
    fn unplug(&self, stream: &Stream) {
        let port = stream.local().port().to_string();
        // Only incoming packets are dropped: the kernel would report dropped outgoing ones, as no broken cable does.
        let rule = ["iptables", "-A", "INPUT", "-p", "tcp", "--sport", &port, "-j", "DROP"];
        assert!(run(&[&["ip", "netns", "exec", &self.name], &rule[..]].concat()), "the rule is in force");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        run(&["ip", "link", "del", &format!("{}n", self.name)]);
        run(&["ip", "netns", "del", &self.name]);
    }
}

fn run(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
}

#[test]
#[ignore = "slow: dead peers take a minute and a half to be found; needs root"]
fn f5_dead_and_merely_stopped() {
    for (program, arguments) in [("ip", ["-V"]), ("iptables", ["-V"])] {
        if Command::new(program).args(arguments).output().is_err() {
            return skip_without("f5", program);
        }
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("f5", "network namespaces need root");
    }
    let Some(cable) = Cable::lay() else { return skip("f5", "no network namespace can be made here") };
    let (busy, idle) = (cable.daemon(), cable.daemon());
    let (active, witness) = (busy.join("lab"), busy.join("lab"));
    let stopped = Stream::connect_narrow(&busy.url("lab"));
    busy.wait_connected(3);
    let sender = busy.connect("in");
    // Much more than the window of the stopped one, and much less than the limit of a slow consumer.
    let line = [&b"x".repeat(999)[..], b"\n"].concat();
    sender.send(line.repeat(500));
    let mut sent = 500;
    assert_eq!(active.read_exactly(500_000).len(), witness.read_exactly(500_000).len());
    let silent = idle.join("lab");
    cable.unplug(&silent);
    cable.unplug(&active);
    let unplugged = Instant::now();
    let (mut active_gone, mut silent_gone) = (None, None);
    while unplugged.elapsed() < Duration::from_secs(100)
        && (silent_gone.is_none() || unplugged.elapsed() < Duration::from_secs(65))
    {
        sender.send(&line);
        witness.expect(&line);
        sent += 1;
        thread::sleep(Duration::from_millis(500));
        for (gone, daemon) in [(&mut active_gone, &busy), (&mut silent_gone, &idle)] {
            if gone.is_none() && daemon.count(Event::Left.reason("dead")) > 0 {
                *gone = Some(unplugged.elapsed());
            }
        }
    }
    figure("f5", &format!("active one dead after {active_gone:.1?}, idle one after {silent_gone:.1?}"));
    assert!(active_gone.is_some_and(|after| after <= Duration::from_secs(45)), "{active_gone:?}");
    assert!(silent_gone.is_some_and(|after| after <= Duration::from_secs(95)), "{silent_gone:?}");
    assert_eq!(busy.disconnected(), 1, "the stopped one is still there");
    // And it reads on, with nothing lost.
    assert!(stopped.read_exactly(sent * 1_000) == line.repeat(sent));
}
