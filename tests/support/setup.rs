//! How to start the daemon under test: a process of its own, in a scratch directory of its own.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use super::Event;
use super::daemon::{Daemon, wait};
use super::log::Log;
use super::output::Output;

const PROGRAM: &str = env!("CARGO_BIN_EXE_upcalld");

/// How to start a daemon. `SCRATCH` in the configuration and the arguments stands for its scratch directory.
///
/// A daemon that is started logs JSON, unless the test gives a `--log-format` of its own or asks for
/// [`Setup::configured_log_format`]. One that is [run](Setup::run) to its end logs as it does for users.
pub(crate) struct Setup {
    scratch: TempDir,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    /// Its standard input and output, for the wrapper to pass on.
    descriptors: Vec<OwnedFd>,
    logs_json: bool,
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
        let setup = Setup { scratch, wrapper: vec![], arguments: vec![], descriptors: vec![], logs_json: true };
        setup.write_config(config);
        let config = setup.config_path().display().to_string();
        setup.args(&["-c", &config])
    }

    /// Leaves the format of the log to the configuration file.
    pub(crate) fn configured_log_format(self) -> Setup {
        Setup { logs_json: false, ..self }
    }

    pub(crate) fn args(mut self, arguments: &[&str]) -> Setup {
        self.logs_json &= !arguments.contains(&"--log-format");
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

    /// Hands at most two sockets over, as a service manager does (sd_listen_fds(3)), under names separated by colons.
    /// If there is one name more than there are sockets, the last socket gets both. `more` is shell code to run first.
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

    /// Replaces the file atomically: a daemon that reads it at the same time sees the old or the new one.
    pub(crate) fn write_config(&self, config: &str) {
        let new = self.scratch().join("upcalld.toml.new");
        fs::write(&new, self.fill_in(config)).expect("the scratch directory can be written");
        fs::rename(&new, self.config_path()).expect("the configuration can be replaced");
    }

    pub(crate) fn config(&self) -> String {
        fs::read_to_string(self.config_path()).expect("the configuration is there")
    }

    fn fill_in(&self, text: &str) -> String {
        text.replace("SCRATCH", &self.scratch().display().to_string())
    }

    fn spawn(&self, stdout: Stdio, arguments: &[&str]) -> Child {
        let mut words = self.wrapper.iter().map(String::as_str).chain([PROGRAM]);
        let mut command = Command::new(words.next().expect("at least the program itself"));
        command.args(words).args(&self.arguments).args(arguments);
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
    #[track_caller]
    pub(crate) fn start(self) -> Daemon {
        let daemon = self.start_silent();
        daemon.log().wait(Event::Ready, 1);
        daemon
    }

    /// Starts the daemon without waiting, because its log cannot be read or is not in a format that the harness knows.
    pub(crate) fn start_silent(self) -> Daemon {
        let format: &[&str] = if self.logs_json { &["--log-format", "json"] } else { &[] };
        let mut child = self.spawn(Stdio::null(), format);
        let log = Log::of(Output::of(child.stderr.take().expect("stderr is piped")));
        Daemon::new(child, log, self)
    }

    /// Runs a daemon that is expected to end by itself, until it does.
    pub(crate) fn run(self) -> Ended {
        let mut child = self.spawn(Stdio::piped(), &[]);
        let stderr = Output::of(child.stderr.take().expect("stderr is piped"));
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let Some(status) = wait(&mut child) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the daemon did not end by itself:\n{}", stderr.text());
        };
        assert!(stdout.wait_end() && stderr.wait_end(), "no other process holds its output");
        Ended { status, stdout: stdout.text(), stderr: stderr.text(), setup: self }
    }
}

impl Ended {
    /// The exit status; a signal is a failure of the test.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{}:\n{}", self.status, self.stderr))
    }
}
