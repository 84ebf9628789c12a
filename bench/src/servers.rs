//! Starts the programs to measure, one for each measurement, on the core that servers and load share.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use upcall_wire::address::Transport;

use crate::contestants::Contestant;
use crate::process::MeasuredProcess;
use crate::programs::on_path;
use crate::sys::prepare_child;

/// How long the start of a server may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Where servers run.
pub(crate) struct ServerHost {
    /// The core that servers and load share.
    pub(crate) core: usize,
    /// For configuration, sockets and the output of servers. Removed at the end.
    directory: tempfile::TempDir,
    /// The builds of upcalld to measure.
    pub(crate) builds: Vec<PathBuf>,
    /// A copy of each build, so that a build during the run does not change what is measured.
    copies: Vec<PathBuf>,
}

/// The address of a server.
#[derive(Debug, Clone)]
pub(crate) enum ServerAddress {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A Unix socket.
    Path(PathBuf),
}

/// A running server. Dropping this ends it.
pub(crate) struct RunningServer {
    child: Child,
    /// Its address.
    pub(crate) address: ServerAddress,
    /// The time from the start of the process until it was ready.
    pub(crate) startup: Duration,
}

impl RunningServer {
    /// Its process.
    pub(crate) fn process(&self) -> MeasuredProcess {
        MeasuredProcess::new(self.child.id())
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ServerHost {
    /// Prepares servers of these builds, on this core.
    pub(crate) fn new(core: usize, builds: Vec<PathBuf>) -> io::Result<ServerHost> {
        let directory = tempfile::Builder::new().prefix("upcall-bench").tempdir()?;
        let mut copies = Vec::new();
        for (index, build) in builds.iter().enumerate() {
            let copy = directory.path().join(format!("upcalld-{index}"));
            let copied = fs::copy(build, &copy);
            copied.map_err(|error| io::Error::new(error.kind(), format!("--upcalld {}: {error}", build.display())))?;
            copies.push(copy);
        }
        Ok(ServerHost { core, directory, builds, copies })
    }

    /// Starts a server for this transport and waits until it is ready.
    pub(crate) fn start(&self, contestant: Contestant, transport: Transport) -> io::Result<RunningServer> {
        // Another program may take the free port before the server binds it.
        let mut tries = 3;
        loop {
            tries -= 1;
            match self.try_start(contestant, transport) {
                Err(error) if tries == 0 => {
                    let output = fs::read(self.output_file()).unwrap_or_default();
                    let output = String::from_utf8_lossy(&output[output.len().saturating_sub(1000)..]).into_owned();
                    return Err(io::Error::other(format!("{error}; its output: {output}")));
                }
                Err(_) => {}
                done => return done,
            }
        }
    }

    fn output_file(&self) -> PathBuf {
        self.directory.path().join("output")
    }

    fn try_start(&self, contestant: Contestant, transport: Transport) -> io::Result<RunningServer> {
        let address = self.free_address(transport)?;
        let notify = self.directory.path().join("notify");
        let _ = fs::remove_file(&notify);
        let notify = UnixDatagram::bind(&notify)?;
        notify.set_read_timeout(Some(START_TIMEOUT))?;
        let mut command = self.command(contestant, transport, &address)?;
        let output = File::create(self.output_file())?;
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        if matches!(contestant, Contestant::Floor | Contestant::FloorAsNative) {
            command.stdout(Stdio::piped());
        }
        prepare_child(&mut command, self.core);
        let begin = Instant::now();
        let child =
            command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{contestant:?}: {error}")))?;
        let mut server = RunningServer { child, address, startup: Duration::ZERO };
        match contestant {
            Contestant::Floor | Contestant::FloorAsNative => {
                let Some(output) = server.child.stdout.take() else { return Err(io::Error::other("no output")) };
                if BufReader::new(output).read_line(&mut String::new())? == 0 {
                    return Err(io::Error::other("the floor has ended"));
                }
            }
            Contestant::Upcalld { .. } => wait_until_ready(&notify, &mut server.child)?,
            _ => wait_until_connected(&server.address, &mut server.child)?,
        }
        server.startup = begin.elapsed();
        Ok(server)
    }

    fn free_address(&self, transport: Transport) -> io::Result<ServerAddress> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(match transport {
            Transport::Tcp => ServerAddress::Inet(TcpListener::bind(any)?.local_addr()?),
            Transport::Udp => ServerAddress::Inet(UdpSocket::bind(any)?.local_addr()?),
            Transport::Unix | Transport::UnixDatagram => {
                let path = self.directory.path().join("socket");
                let _ = fs::remove_file(&path);
                ServerAddress::Path(path)
            }
        })
    }

    fn command(&self, contestant: Contestant, transport: Transport, address: &ServerAddress) -> io::Result<Command> {
        let directory = self.directory.path();
        let (port, address) = match address {
            ServerAddress::Inet(address) => (address.port().to_string(), address.to_string()),
            ServerAddress::Path(path) => (String::new(), path.display().to_string()),
        };
        let mut command;
        match contestant {
            Contestant::Floor | Contestant::FloorAsNative => {
                command = Command::new("/proc/self/exe");
                command.args(["floor", &format!("--{}", transport.name()), &address]);
            }
            Contestant::Upcalld { build, .. } => {
                let file = directory.join("upcalld.toml");
                fs::write(&file, upcalld(transport, &address))?;
                command = Command::new(&self.copies[build]);
                command.arg("--config").arg(file).args(["--log-inputs", "never"]);
                command.env("NOTIFY_SOCKET", directory.join("notify"));
            }
            Contestant::Ncat => {
                command = Command::new("ncat");
                command.args(["--broker", "--listen", "--max-conns", "1015", "127.0.0.1", &port]);
            }
            Contestant::Redis => {
                command = Command::new("redis-server");
                command.args(["--save", "", "--appendonly", "no", "--maxclients", "15000", "--tcp-backlog", "4096"]);
                command.arg("--dir").arg(directory);
                match transport {
                    Transport::Unix => command.args(["--port", "0", "--unixsocket", &address]),
                    _ => command.args(["--bind", "127.0.0.1", "--port", &port]),
                };
            }
            Contestant::Nats => {
                command = Command::new(on_path("nats-server").unwrap_or_default());
                command.args(["-a", "127.0.0.1", "-p", &port]);
            }
            Contestant::Mosquitto => {
                let file = directory.join("mosquitto.conf");
                fs::write(&file, mosquitto(transport, &port, &address))?;
                command = Command::new(on_path("mosquitto").unwrap_or_default());
                command.arg("-c").arg(file);
            }
        }
        Ok(command)
    }
}

/// The configuration of upcalld: all defaults, except the format, so that upcalld sends the same bytes as the others.
fn upcalld(transport: Transport, address: &str) -> String {
    let transport = transport.name();
    format!(
        "[[listener]]\nname = \"bench\"\ntransport = \"{transport}\"\naddress = \"{address}\"\n\n\
         [upcall]\nformat = \"{{data}}\"\n"
    )
}

fn mosquitto(transport: Transport, port: &str, address: &str) -> String {
    let listener = match transport {
        Transport::Unix => format!("listener 0 {address}"),
        _ => format!("listener {port} 127.0.0.1"),
    };
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    let user = user.map(|user| format!("user {user}\n")).unwrap_or_default();
    format!("{user}{listener}\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\nlog_type error\n")
}

/// Waits until the server reports that it is ready, as it does to systemd (sd_notify(3)).
fn wait_until_ready(notify: &UnixDatagram, child: &mut Child) -> io::Result<()> {
    notify.set_read_timeout(Some(Duration::from_millis(200)))?;
    let begin = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        match notify.recv(&mut bytes) {
            Ok(length) if bytes[..length].starts_with(b"READY=1") => return Ok(()),
            Ok(_) => {}
            Err(_) => check_running(child, begin)?,
        }
    }
}

fn wait_until_connected(address: &ServerAddress, child: &mut Child) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        let connected = match address {
            ServerAddress::Inet(address) => TcpStream::connect(address).map(drop),
            ServerAddress::Path(path) => UnixStream::connect(path).map(drop),
        };
        if connected.is_ok() {
            return Ok(());
        }
        check_running(child, begin)?;
        sleep(Duration::from_millis(2));
    }
}

fn check_running(child: &mut Child, begin: Instant) -> io::Result<()> {
    match child.try_wait()? {
        Some(status) => Err(io::Error::other(format!("it ended immediately with {status}"))),
        None if begin.elapsed() > START_TIMEOUT => Err(io::Error::other("it was not ready in time")),
        None => Ok(()),
    }
}
