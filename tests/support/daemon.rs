//! The daemon under test: a process of its own, in a scratch directory of its own.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::output::Output;
use super::{DEADLINE, Stream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_upcalld");

/// How to start a daemon. `SCRATCH` in the configuration and the arguments stands for its scratch directory.
pub(crate) struct Setup {
    scratch: TempDir,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    /// Given to it as its standard input and output, for the wrapper to do something with.
    descriptors: Vec<OwnedFd>,
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: Output,
    setup: Setup,
}

/// A daemon that ended by itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) setup: Setup,
}

impl Setup {
    pub(crate) fn new(config: &str) -> Setup {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let setup = Setup { scratch, wrapper: vec![], arguments: vec![], descriptors: vec![] };
        setup.write_config(config);
        let config = setup.config_path().display().to_string();
        setup.args(&["-c", &config])
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Setup {
        let arguments: Vec<String> = arguments.iter().map(|argument| self.fill_in(argument)).collect();
        self.arguments.extend(arguments);
        self
    }

    /// Runs the daemon behind a few lines of shell, such as `umask 0` or `ulimit -n 64`.
    pub(crate) fn after_shell(self, commands: &str) -> Setup {
        self.under(&["sh", "-c", &format!("{commands}\nexec \"$@\""), "sh"])
    }

    /// Runs the daemon as arguments of another program, which must become it (exec), not fork it.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Setup {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Hands sockets over as a service manager does (sd_listen_fds(3)), two at most, under names divided by colons. A name
    /// more than there are sockets is another one for the last of them. `more` is shell to be run before.
    pub(crate) fn hand_over(mut self, names: &str, sockets: Vec<OwnedFd>, more: &str) -> Setup {
        assert!(sockets.len() <= 2, "there are no more standard streams");
        let count = names.split(':').count();
        let copies: String = (0..count).map(|at| format!("{}<&{} ", at + 3, at.min(sockets.len() - 1))).collect();
        self.descriptors = sockets;
        self.after_shell(&format!(
            "exec {copies}; exec </dev/null >/dev/null\n\
             export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}\n{more}"
        ))
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.scratch().join("upcalld.toml")
    }

    /// Replaces the file at once: a daemon that reads it meanwhile sees the old or the new one.
    pub(crate) fn write_config(&self, config: &str) {
        let new = self.scratch().join("upcalld.toml.new");
        fs::write(&new, self.fill_in(config)).expect("the scratch directory can be written");
        fs::rename(&new, self.config_path()).expect("the configuration can be replaced");
    }

    fn fill_in(&self, text: &str) -> String {
        text.replace("SCRATCH", &self.scratch().display().to_string())
    }

    fn spawn(&self, stdout: Stdio) -> Child {
        let mut words = self.wrapper.iter().map(String::as_str).chain([PROGRAM]);
        let mut command = Command::new(words.next().expect("at least the program itself"));
        command.args(words).args(&self.arguments);
        for variable in [
            "UPCALLD_CONFIG",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "JOURNAL_STREAM",
            "WATCHDOG_USEC",
        ] {
            command.env_remove(variable);
        }
        let mut given = self.descriptors.iter().map(|fd| Stdio::from(fd.try_clone().expect("a descriptor")));
        let (stdin, stdout) = (given.next().unwrap_or_else(Stdio::null), given.next().unwrap_or(stdout));
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().expect("the daemon can be started")
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(self) -> Daemon {
        let daemon = self.start_silent();
        daemon.wait_log(" ready\n");
        daemon
    }

    /// Starts the daemon without waiting: its log goes elsewhere.
    pub(crate) fn start_silent(self) -> Daemon {
        let mut child = self.spawn(Stdio::null());
        let log = Output::of(child.stderr.take().expect("stderr is piped"));
        Daemon { child, log, setup: self }
    }

    /// Runs a daemon that is expected to end by itself, until it does.
    pub(crate) fn run(self) -> Ended {
        let mut child = self.spawn(Stdio::piped());
        let stderr = Output::of(child.stderr.take().expect("stderr is piped"));
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let Some(status) = wait(&mut child) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon did not end by itself:\n{}", stderr.text());
        };
        assert!(stdout.wait_end() && stderr.wait_end(), "nobody else holds its output");
        Ended { status, stdout: stdout.text(), stderr: stderr.text(), setup: self }
    }
}

impl Ended {
    /// The exit status; a signal is a failure of the test.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{}:\n{}", self.status, self.stderr))
    }
}

impl Daemon {
    pub(crate) fn start(config: &str) -> Daemon {
        Setup::new(config).start()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn log(&self) -> &Output {
        &self.log
    }

    /// Where the listener of this name listens, as the log says: the newest line counts.
    pub(crate) fn url(&self, listener: &str) -> String {
        // Behind the name there may be more to say: "(lab, IPv6 only)".
        let names = [format!(" ({listener})"), format!(" ({listener}, ")];
        let lines = self.log.lines_with("listening on ");
        let mut lines = lines.into_iter().filter(|line| !line.contains("no longer listening on "));
        let line = lines.rfind(|line| names.iter().any(|name| line.contains(name)));
        let line = line.unwrap_or_else(|| panic!("no listener {listener}"));
        let url = line.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next());
        url.expect("a URL follows").to_owned()
    }

    /// The TCP port of the listener of this name.
    pub(crate) fn port(&self, listener: &str) -> u16 {
        let url = self.url(listener);
        url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {url}"))
    }

    /// Waits until the log contains `needle`.
    pub(crate) fn wait_log(&self, needle: &str) {
        self.wait_log_count(needle, 1);
    }

    pub(crate) fn wait_log_count(&self, needle: &str, times: usize) {
        if !self.log.wait_count(needle, times) {
            panic!("the log has {:?} {} times, not {times}", needle, self.log.count(needle));
        }
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
        self.log.count(" connected from ")
    }

    pub(crate) fn wait_connected(&self, count: usize) {
        self.wait_log_count(" connected from ", count);
    }

    /// How many connections left otherwise than by closing themselves.
    pub(crate) fn thrown_out(&self) -> usize {
        self.log.count(" left: ") - self.log.count(" left: closed")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("the daemon can be signalled");
    }

    /// Writes another configuration, has it read, and waits until the log has one more line with `outcome`.
    pub(crate) fn reload(&self, config: &str, outcome: &str) {
        let before = self.log.count(outcome);
        self.setup.write_config(config);
        self.signal(Signal::SIGHUP);
        self.wait_log_count(outcome, before + 1);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        wait(&mut self.child).expect("the daemon ends in time")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Kills it as a crash would, and leaves what it leaves behind.
    pub(crate) fn crash(mut self) -> Setup {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let rest = Setup { scratch, wrapper: vec![], arguments: vec![], descriptors: vec![] };
        std::mem::replace(&mut self.setup, rest)
    }

    /// Anonymous memory in use, in bytes (proc_pid_status(5), `RssAnon`).
    pub(crate) fn memory(&self) -> usize {
        self.status_field("RssAnon:") * 1024
    }

    /// How often it went to sleep so far: the upper bound of its wake-ups.
    pub(crate) fn wakeups(&self) -> usize {
        self.status_field("voluntary_ctxt_switches:")
    }

    fn status_field(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is running");
        let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it is running").count()
    }

    /// Waits until it has no more than `count` descriptors open; how many it has then.
    pub(crate) fn wait_descriptors(&self, count: usize) -> usize {
        let until = Instant::now() + DEADLINE;
        while self.descriptors() > count && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        self.descriptors()
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
            let text = self.log.text();
            let lines: Vec<&str> = text.lines().collect();
            let skipped = lines.len().saturating_sub(60);
            eprintln!("--- the daemon's log, {skipped} lines before it left out\n{}\n---", lines[skipped..].join("\n"));
        }
    }
}

/// Waits until a child has ended, by asking again and again; `None` when it does not in time.
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
