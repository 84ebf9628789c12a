//! The programs that are measured: how each is started for one measurement, fairly and alone, on the core that all share.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::contestants::{Contestant, Transport};
use crate::process::Process;
use crate::sys::tame;

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(10);

/// Where servers run.
pub(crate) struct Host {
    /// The core that servers and load share.
    pub(crate) core: usize,
    /// For configuration, sockets and what servers say. Removed at the end.
    directory: tempfile::TempDir,
    /// The daemons to measure.
    pub(crate) builds: Vec<PathBuf>,
    /// A copy of each: whoever builds another one meanwhile does not change what is measured.
    copies: Vec<PathBuf>,
}

/// A place where a server can be reached.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// TCP or UDP.
    Inet(SocketAddr),
    /// A Unix socket.
    Path(PathBuf),
}

/// A server that runs. It ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it is.
    pub(crate) place: Place,
    /// From starting it until it was ready.
    pub(crate) took: Duration,
}

impl Server {
    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process::new(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    /// For these builds, on that core.
    pub(crate) fn new(core: usize, builds: Vec<PathBuf>) -> io::Result<Host> {
        let directory = tempfile::Builder::new().prefix("upcall-bench").tempdir()?;
        let mut copies = Vec::new();
        for (place, build) in builds.iter().enumerate() {
            let copy = directory.path().join(format!("upcalld-{place}"));
            let copied = fs::copy(build, &copy);
            copied.map_err(|error| io::Error::new(error.kind(), format!("--upcalld {}: {error}", build.display())))?;
            copies.push(copy);
        }
        Ok(Host { core, directory, builds, copies })
    }

    /// Starts a server for that transport, and waits until it is ready.
    pub(crate) fn start(&self, who: Contestant, transport: Transport) -> io::Result<Server> {
        // Somebody else may take the port between our looking for one and the server's binding it.
        let mut tries = 3;
        loop {
            tries -= 1;
            match self.attempt(who, transport) {
                Err(error) if tries == 0 => {
                    let said = fs::read(self.said()).unwrap_or_default();
                    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(1000)..]).into_owned();
                    return Err(io::Error::other(format!("{error}; it said: {said}")));
                }
                Err(_) => {}
                done => return done,
            }
        }
    }

    fn said(&self) -> PathBuf {
        self.directory.path().join("said")
    }

    fn attempt(&self, who: Contestant, transport: Transport) -> io::Result<Server> {
        let place = self.place(transport)?;
        let notify = self.directory.path().join("notify");
        let _ = fs::remove_file(&notify);
        let notify = UnixDatagram::bind(&notify)?;
        notify.set_read_timeout(Some(START))?;
        let mut command = self.command(who, transport, &place)?;
        let said = File::create(self.said())?;
        command.stdin(Stdio::null()).stderr(said.try_clone()?).stdout(said);
        if matches!(who, Contestant::Floor | Contestant::FloorAsNative) {
            command.stdout(Stdio::piped());
        }
        tame(&mut command, self.core);
        let begin = Instant::now();
        let child = command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{who:?}: {error}")))?;
        let mut server = Server { child, place, took: Duration::ZERO };
        match who {
            Contestant::Floor | Contestant::FloorAsNative => {
                let Some(output) = server.child.stdout.take() else { return Err(io::Error::other("no output")) };
                if BufReader::new(output).read_line(&mut String::new())? == 0 {
                    return Err(io::Error::other("the floor has ended"));
                }
            }
            Contestant::Upcalld { .. } => until_ready(&notify, &mut server.child)?,
            _ => until_connected(&server.place, &mut server.child)?,
        }
        server.took = begin.elapsed();
        Ok(server)
    }

    fn place(&self, transport: Transport) -> io::Result<Place> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(match transport {
            Transport::Tcp => Place::Inet(TcpListener::bind(any)?.local_addr()?),
            Transport::Udp => Place::Inet(UdpSocket::bind(any)?.local_addr()?),
            Transport::Unix | Transport::UnixDatagram => {
                let path = self.directory.path().join("socket");
                let _ = fs::remove_file(&path);
                Place::Path(path)
            }
        })
    }

    fn command(&self, who: Contestant, transport: Transport, place: &Place) -> io::Result<Command> {
        let directory = self.directory.path();
        let (port, address) = match place {
            Place::Inet(address) => (address.port().to_string(), address.to_string()),
            Place::Path(path) => (String::new(), path.display().to_string()),
        };
        let mut command;
        match who {
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

/// The configuration of upcalld: everything at its default, but what makes both sides write the same bytes.
fn upcalld(transport: Transport, address: &str) -> String {
    let transport = transport.name();
    format!(
        "[[listener]]\nname = \"bench\"\ntransport = \"{transport}\"\naddress = \"{address}\"\n\n[upcall]\nformat = \"{{data}}\"\n"
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

/// Until systemd would be told that it is ready (sd_notify(3)).
fn until_ready(notify: &UnixDatagram, child: &mut Child) -> io::Result<()> {
    notify.set_read_timeout(Some(Duration::from_millis(200)))?;
    let begin = Instant::now();
    let mut bytes = [0; 4096];
    loop {
        match notify.recv(&mut bytes) {
            Ok(length) if bytes[..length].starts_with(b"READY=1") => return Ok(()),
            Ok(_) => {}
            Err(_) => still_there(child, begin)?,
        }
    }
}

fn until_connected(place: &Place, child: &mut Child) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        let connected = match place {
            Place::Inet(address) => TcpStream::connect(address).map(drop),
            Place::Path(path) => UnixStream::connect(path).map(drop),
        };
        if connected.is_ok() {
            return Ok(());
        }
        still_there(child, begin)?;
        sleep(Duration::from_millis(2));
    }
}

fn still_there(child: &mut Child, begin: Instant) -> io::Result<()> {
    match child.try_wait()? {
        Some(status) => Err(io::Error::other(format!("it has ended at once, with {status}"))),
        None if begin.elapsed() > START => Err(io::Error::other("it is not ready in time")),
        None => Ok(()),
    }
}

/// Where a program is: daemons may be where only root looks for programs.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|place| place.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file()
}
