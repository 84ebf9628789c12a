//! `upcall-client` as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;

/// The client with these arguments, for this daemon. `send` and `listen` speak text unless the arguments name a
/// protocol: scripted daemons know nothing else.
pub(crate) fn client(url: &str, arguments: &[&str]) -> Command {
    client_for("text", url, arguments)
}

/// Like [`client`], but `send` and `listen` speak native.
pub(crate) fn native_client(url: &str, arguments: &[&str]) -> Command {
    client_for("native", url, arguments)
}

fn client_for(protocol: &str, url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upcall-client"));
    command.env_remove("UPCALL_URL").env_remove("UPCALL_TOKEN_FILE").arg(url);
    match arguments {
        [name @ ("send" | "listen"), rest @ ..] if !arguments.contains(&"--protocol") => {
            command.args([name, "--protocol", protocol]).args(rest);
        }
        _ => {
            command.args(arguments);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the client to its end with `input` on its standard input.
pub(crate) fn run(url: &str, arguments: &[&str], input: &[u8]) -> Finished {
    let mut command = client(url, arguments);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    let input = input.to_vec();
    thread::spawn(move || stdin.write_all(&input));
    running.finish()
}

/// Runs the client, speaking native, to its end.
pub(crate) fn run_native(url: &str, arguments: &[&str]) -> Finished {
    Running::start(&mut native_client(url, arguments)).finish()
}

/// A client that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        Finished {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A running client; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        Running { child: command.spawn().unwrap() }
    }

    pub(crate) fn finish(mut self) -> Finished {
        let mut stdout = self.child.stdout.take();
        let collector = thread::spawn(move || {
            let mut text = Vec::new();
            stdout.as_mut().map(|stdout| stdout.read_to_end(&mut text));
            text
        });
        let mut stderr = Vec::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_end(&mut stderr).unwrap();
        }
        let status = self.wait();
        Output { status, stdout: collector.join().unwrap(), stderr }.into()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Standard output, line by line.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.child.stdout.take().unwrap()).lines().map(Result::unwrap)
    }

    /// Standard error, line by line.
    pub(crate) fn error_lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.child.stderr.take().unwrap()).lines().map(Result::unwrap)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A scratch directory, and a path for a socket in it.
pub(crate) fn socket_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    (directory, path)
}

/// Both ends of a pipe.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}
