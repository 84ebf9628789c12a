//! What the daemon reports to the service manager (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::support::{DEADLINE, Place, Setup, retry};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

/// The service manager.
struct Manager {
    socket: UnixDatagram,
    variable: String,
    _scratch: Option<TempDir>,
}

impl Manager {
    fn at_path() -> Manager {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("the path is free");
        Manager { socket, variable: path.display().to_string(), _scratch: Some(scratch) }
    }

    fn at_name() -> Manager {
        let name = format!("upcalld-manager-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("short");
        let socket = UnixDatagram::bind_addr(&address).expect("the name is free");
        Manager { socket, variable: format!("@{name}"), _scratch: None }
    }

    /// A daemon that has this manager.
    fn setup(&self, config: &str, more: &str) -> Setup {
        self.socket.set_read_timeout(Some(DEADLINE)).expect("the option exists");
        Setup::new(config).after_shell(&format!("export NOTIFY_SOCKET={}\n{more}", self.variable))
    }

    fn receive(&self) -> String {
        let mut buffer = [0; 4096];
        let count = retry(|| self.socket.recv(&mut buffer)).expect("a message comes in time");
        String::from_utf8(buffer[..count].to_vec()).expect("UTF-8")
    }

    /// The next message that begins like this.
    fn wait(&self, beginning: &str) -> String {
        loop {
            let message = self.receive();
            if message.starts_with(beginning) {
                return message;
            }
        }
    }
}

#[test]
fn the_manager_is_notified_from_start_to_end() {
    for manager in [Manager::at_path(), Manager::at_name()] {
        let lab = Place::Tcp.listener("lab", "");
        let mut daemon = manager.setup(&(lab.clone() + DATA), "").start();
        assert_eq!(manager.receive(), "READY=1", "first of all");
        let url = daemon.url("lab");
        let stream = daemon.join("lab");
        stream.send("a\nb\n");
        stream.expect("a\nb\n");
        while manager.wait("STATUS=") != "STATUS=endpoints: 1, inputs: 2, upcalls: 2, slow consumers: 0" {}

        let asked: std::time::Duration = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is one").into();
        daemon.reload(&(lab.clone() + DATA + "[registry]\nmax_endpoints = 5\n"));
        let said = manager.wait("RELOADING=1\nMONOTONIC_USEC=");
        let at: u128 = said.rsplit('=').next().and_then(|at| at.parse().ok()).expect("a number");
        assert!(at >= asked.as_micros(), "{said} is not later than {asked:?}");
        manager.wait("READY=1");
        assert_eq!(daemon.url("lab"), url);
        daemon.reload_refused("wrong");
        manager.wait("RELOADING=1");
        manager.wait("READY=1");
        assert!(manager.wait("STATUS=").ends_with("; the last reload was refused, see the log"));

        daemon.signal(Signal::SIGTERM);
        let said = manager.wait("STOPPING=1\n");
        assert!(said.contains("EXTEND_TIMEOUT_USEC=15000000"), "{said}");
        stream.expect_rest("upcalld: shutdown\n");
        drop(stream);
        assert_eq!(daemon.wait_exit().code(), Some(0));
    }
}

#[test]
fn the_loop_feeds_the_watchdog() {
    let manager = Manager::at_path();
    let config = Place::Tcp.listener("lab", "") + DATA;
    let daemon = manager.setup(&config, "export WATCHDOG_USEC=100000 WATCHDOG_PID=$$").start();
    for _ in 0..5 {
        assert_eq!(manager.wait("WATCHDOG"), "WATCHDOG=1");
    }
    // A daemon whose loop does not run is not alive, although the process is.
    daemon.signal(Signal::SIGSTOP);
    manager.socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("the option exists");
    let mut buffer = [0; 100];
    let late = (0..10).take_while(|_| retry(|| manager.socket.recv(&mut buffer)).is_ok()).count();
    assert!(late < 10, "it is stopped, and still sends something");
    daemon.signal(Signal::SIGCONT);
    manager.socket.set_read_timeout(Some(DEADLINE)).expect("the option exists");
    manager.wait("WATCHDOG=1");
}

#[test]
fn the_manager_is_notified_why_a_start_fails() {
    let manager = Manager::at_path();
    let config = Place::Tcp.listener("lab", "colour = \"red\"");
    let ended = manager.setup(&config, "").run();
    assert_eq!(ended.code(), 78);
    let said = manager.receive();
    assert!(said.starts_with("STATUS=") && said.contains("upcalld.toml:6:1: ") && said.contains("colour"), "{said}");
}

#[test]
fn a_missing_or_blocked_manager_does_not_block_the_daemon() {
    let manager = Manager::at_path();
    let mut buffer = [0; 1];
    manager.socket.set_nonblocking(true).expect("it can be set");
    let full = UnixDatagram::unbound().expect("a socket");
    full.set_nonblocking(true).expect("it can be set");
    while full.send_to(b"x", &manager.variable).is_ok() {}
    let config = Place::Tcp.listener("lab", "") + DATA;
    let there = Setup::new(&config).after_shell(&format!("export NOTIFY_SOCKET={}", manager.variable)).start();
    let nowhere = Setup::new(&config).after_shell("export NOTIFY_SOCKET=/nowhere/notify WATCHDOG_USEC=1000").start();
    for daemon in [&there, &nowhere] {
        let stream = daemon.join("lab");
        stream.send("x\n");
        stream.expect("x\n");
    }
    // When it reads, it gets the important messages.
    while manager.socket.recv(&mut buffer).is_ok() {}
    manager.socket.set_nonblocking(false).expect("it can be set");
    manager.socket.set_read_timeout(Some(DEADLINE)).expect("the option exists");
    manager.wait("READY=1");
}
