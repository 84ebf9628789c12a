//! Other programs as clients: nc, socat, Python.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;

use super::daemon::wait;
use super::output::Output;

/// A running program whose stdin is ours and whose stdout is read; killed when dropped.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Output,
    name: String,
}

impl Program {
    /// Starts a program; `None` when it is not installed.
    pub(crate) fn start<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> Option<Program> {
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env_remove("UPCALL_URL");
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("cannot start {name}: {error}"),
        };
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let stdin = child.stdin.take();
        Some(Program { child, stdin, stdout, name: name.into() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Types something.
    pub(crate) fn type_in(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is still open");
        stdin.write_all(text.as_bytes()).expect("the program reads");
    }

    /// Types a lot and ends its stdin, in a thread: the program may read slowly, or never.
    pub(crate) fn feed(&mut self, text: String) {
        let mut stdin = self.stdin.take().expect("stdin is still open");
        // Whether it has read all of this shows in what it prints; when it ends, so does this.
        thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    }

    /// Ends its stdin.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn output(&self) -> &Output {
        &self.stdout
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub(crate) fn wait_output(&self, text: &str) {
        if !self.stdout.wait_count(text, 1) {
            panic!("{} has not printed {text:?}, but {:?}", self.name, self.stdout.text());
        }
    }

    /// Waits until it has ended by itself and all of its output is here.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = wait(&mut self.child).unwrap_or_else(|| panic!("{} does not end", self.name));
        assert!(self.stdout.wait_end(), "{} has ended, so its output has", self.name);
        status
    }

    /// kill -9
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
