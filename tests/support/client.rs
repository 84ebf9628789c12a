//! A daemon made of a thread and a script, and what runs the real client against it. No fixed ports, no sleeps.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use socket2::Socket;

/// Far beyond what anything takes; a test that reaches it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What the daemon puts in front of an input.
pub(crate) const EVENT: &str = "Upcall event: Processing ";

/// Runs `body` in a thread of its own; panics with it, or when the time is over.
pub(crate) fn within<T: Send + 'static>(time: Duration, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || done.send(body()));
    match result.recv_timeout(time) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done within {time:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing"))
        }
    }
}

/// A listening socket on which every connection runs a script.
pub(crate) struct Daemon {
    pub(crate) url: String,
    /// What each script returns: what it was sent, as a rule.
    pub(crate) heard: Receiver<Vec<u8>>,
}

impl Daemon {
    pub(crate) fn tcp(script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static) -> Daemon {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        Daemon::serve(url, Socket::from(listener), script)
    }

    pub(crate) fn unix(path: &Path, script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static) -> Daemon {
        let listener = UnixListener::bind(path).unwrap();
        Daemon::serve(format!("unix://{}", path.display()), Socket::from(listener), script)
    }

    pub(crate) fn abstract_name(name: &str, script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static) -> Daemon {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        Daemon::serve(format!("unix://@{name}"), Socket::from(listener), script)
    }

    /// The same script on every transport that the client speaks.
    pub(crate) fn everywhere(
        directory: &Path,
        script: impl Fn(Socket) -> Vec<u8> + Send + Sync + Clone + 'static,
    ) -> [Daemon; 3] {
        let name = format!("upcall-client-test-{}-{}", std::process::id(), fastrand::u64(..));
        [
            Daemon::tcp(script.clone()),
            Daemon::unix(&directory.join("socket"), script.clone()),
            Daemon::abstract_name(&name, script),
        ]
    }

    fn serve(url: String, listener: Socket, script: impl Fn(Socket) -> Vec<u8> + Send + Sync + 'static) -> Daemon {
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            // Ends with the test, which is the last to hear.
            while let Ok((socket, _)) = listener.accept() {
                if tell.send(script(socket)).is_err() {
                    break;
                }
            }
        });
        Daemon { url, heard }
    }

    pub(crate) fn next_heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.recv_timeout(DEADLINE).unwrap()).into_owned()
    }
}

/// A script: every line is answered by an upcall, until end of file.
pub(crate) fn echo(socket: Socket) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut reader = BufReader::new(&socket);
    loop {
        let start = heard.len();
        match reader.read_until(b'\n', &mut heard) {
            Ok(0) | Err(_) => return heard,
            Ok(_) => {
                let answer = [EVENT.as_bytes(), &heard[start..]].concat();
                if (&socket).write_all(&answer).is_err() {
                    return heard;
                }
            }
        }
    }
}

/// A script: says this, and closes.
pub(crate) fn say(text: &'static str) -> impl Fn(Socket) -> Vec<u8> + Clone {
    move |socket: Socket| {
        let _ = (&socket).write_all(text.as_bytes());
        let _ = socket.shutdown(std::net::Shutdown::Write);
        read_to_end(&socket)
    }
}

/// A script: says this, and stays until the client has closed.
pub(crate) fn say_and_stay(text: &'static str) -> impl Fn(Socket) -> Vec<u8> + Clone {
    move |socket: Socket| {
        let _ = (&socket).write_all(text.as_bytes());
        read_to_end(&socket)
    }
}

/// Everything up to end of file, or until the connection breaks.
pub(crate) fn read_to_end(socket: &Socket) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = { socket }.read_to_end(&mut heard);
    heard
}

/// The client with these arguments, behind the daemon's URL. The daemons that tests play speak text, so it does too.
pub(crate) fn client(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upcall-client"));
    command.env_remove("UPCALL_URL").env_remove("UPCALL_TOKEN_FILE").arg(url);
    match arguments {
        [name @ ("send" | "listen"), rest @ ..] if !arguments.contains(&"--protocol") => {
            command.args([name, "--protocol", "text"]).args(rest);
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

/// A client that runs, and is killed if the test ends first.
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
    pub(crate) fn complaints(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.child.stderr.take().unwrap()).lines().map(Result::unwrap)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of the test's own, and a path for a socket in it.
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
