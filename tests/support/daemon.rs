//! The daemon under test.

use std::fs;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::log::{Log, Pattern};
use super::{DEADLINE, Event, Place, Setup, Stream, retry, until};

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: Log,
    setup: Setup,
}

impl Daemon {
    pub(super) fn new(child: Child, log: Log, setup: Setup) -> Daemon {
        Daemon { child, log, setup }
    }

    #[track_caller]
    pub(crate) fn start(config: &str) -> Daemon {
        Setup::new(config).start()
    }

    /// A daemon with a listener of each transport for both protocols, `tcp`, `udp`, `unix` and `unix-datagram`, and
    /// `rest` in its configuration.
    pub(crate) fn everywhere(rest: &str) -> Daemon {
        let listeners = Daemon::EVERYWHERE.map(|(name, place)| place.auto_listener(name, ""));
        Daemon::start(&(listeners.concat() + rest))
    }

    const EVERYWHERE: [(&str, Place); 4] = [
        ("tcp", Place::Tcp),
        ("udp", Place::Udp),
        ("unix", Place::UnixAbstract),
        ("unix-datagram", Place::DatagramAbstract),
    ];

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Where the listener of this name listens, as the newest line of the log says.
    pub(crate) fn url(&self, listener: &str) -> String {
        let entries = self.log.entries(Event::Listening);
        let entry = entries.iter().rfind(|entry| entry.is_about(listener));
        entry.and_then(|entry| entry.url()).unwrap_or_else(|| panic!("no listener {listener}")).to_owned()
    }

    /// Where all listeners listen, in the order of the log.
    pub(crate) fn urls(&self) -> Vec<String> {
        let listening = self.log.entries(Event::Listening);
        let urls: Vec<String> = listening.iter().filter_map(|entry| entry.url().map(str::to_owned)).collect();
        assert!(!urls.is_empty(), "the log names no listener");
        urls
    }

    /// The TCP or UDP port of the listener of this name.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        let url = self.url(listener);
        url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {url}"))
    }

    /// Waits until the daemon has logged this.
    #[track_caller]
    pub(crate) fn wait(&self, pattern: impl Into<Pattern>) {
        self.log.wait(pattern, 1);
    }

    /// Waits until the daemon has logged this `times` times.
    #[track_caller]
    pub(crate) fn wait_count(&self, pattern: impl Into<Pattern>, times: usize) {
        self.log.wait(pattern, times);
    }

    /// How often the daemon has logged this.
    pub(crate) fn count(&self, pattern: impl Into<Pattern>) -> usize {
        self.log.count(pattern)
    }

    /// Connects, and waits until the daemon has registered the connection.
    pub(crate) fn join(&self, listener: &str) -> Stream {
        let before = self.connected();
        let stream = self.connect(listener);
        self.wait_connected(before + 1);
        stream
    }

    /// Connects; the daemon may not have accepted yet.
    pub(crate) fn connect(&self, listener: &str) -> Stream {
        Stream::connect(&self.url(listener))
    }

    /// How many connections the daemon has registered since its start.
    pub(crate) fn connected(&self) -> usize {
        self.count(Event::Connected)
    }

    pub(crate) fn wait_connected(&self, count: usize) {
        self.wait_count(Event::Connected, count);
    }

    /// How many endpoints left for another reason than that they closed their connection.
    pub(crate) fn disconnected(&self) -> usize {
        self.count(Event::Left) - self.count(Event::Left.reason("closed"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("the daemon can be signalled");
    }

    /// Stops the process, as a debugger would, and waits until it has stopped. `SIGCONT` continues it.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let pid = Pid::from_raw(self.pid() as i32);
        let stopped = retry(|| Ok(waitpid(pid, Some(WaitPidFlag::WUNTRACED))?)).expect("it is our child");
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    }

    /// Replaces the configuration and has the daemon reload it.
    #[track_caller]
    pub(crate) fn reload(&self, config: &str) {
        self.reload_until(config, Event::Reloaded);
    }

    /// Like [`Daemon::reload`], for a configuration that the daemon must refuse.
    #[track_caller]
    pub(crate) fn reload_refused(&self, config: &str) {
        self.reload_until(config, Event::ReloadRefused);
    }

    #[track_caller]
    fn reload_until(&self, config: &str, outcome: Event) {
        let before = self.count(outcome);
        self.setup.write_config(config);
        self.signal(Signal::SIGHUP);
        self.wait_count(outcome, before + 1);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        wait(&mut self.child).expect("the daemon ends in time")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Kills the daemon as a crash would, and keeps its scratch directory for the next one.
    pub(crate) fn crash(mut self) -> Setup {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.setup, Setup::new(""))
    }

    /// Like [`Daemon::crash`]; the next daemon listens on the same ports.
    pub(crate) fn crash_for_restart(self) -> Setup {
        let mut config = String::new();
        for (index, table) in self.setup.config().split("[[listener]]").enumerate() {
            let name = table.split_once("name = \"").and_then(|(_, rest)| rest.split('"').next());
            let port = name.filter(|_| table.contains(":0\"")).map(|name| format!(":{}\"", self.port(name)));
            config += if index > 0 { "[[listener]]" } else { "" };
            config += &port.map_or(table.to_owned(), |port| table.replace(":0\"", &port));
        }
        self.setup.write_config(&config);
        self.crash()
    }

    /// Anonymous memory in use, in bytes (proc_pid_status(5), `RssAnon`).
    pub(crate) fn memory(&self) -> usize {
        self.status_field("RssAnon:") * 1024
    }

    /// How often it has gone to sleep, which is at least how often it has woken up.
    pub(crate) fn wakeups(&self) -> usize {
        self.status_field("voluntary_ctxt_switches:")
    }

    fn status_field(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is running");
        let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel reports it");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it is running").count()
    }

    /// Waits until it has `count` descriptors open.
    #[track_caller]
    pub(crate) fn wait_descriptors(&self, count: usize) {
        until(&format!("{count} descriptors"), || self.descriptors() == count);
    }

    /// Processor time used so far (proc_pid_stat(5), fields 14 and 15).
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it is running");
        let fields = stat.rsplit(") ").next().expect("a line").split(' ');
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Duration::from_millis(ticks * 1000 / hertz.unsigned_abs())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let text = self.log.raw().text();
            let lines: Vec<&str> = text.lines().collect();
            let skipped = lines.len().saturating_sub(60);
            eprintln!("--- the daemon's log, without its first {skipped} lines\n{}\n---", lines[skipped..].join("\n"));
        }
    }
}

/// Waits until a child has ended; `None` at the deadline.
pub(crate) fn wait(child: &mut Child) -> Option<ExitStatus> {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}
