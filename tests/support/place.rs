//! Where the daemon under test listens.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A transport and a kind of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp,
    Tcp6,
    UnixPath,
    UnixAbstract,
    Udp,
    Udp6,
    DatagramPath,
    DatagramAbstract,
}

impl Place {
    /// One of each transport.
    pub(crate) const EACH: [Place; 4] = [Place::Tcp, Place::UnixPath, Place::Udp, Place::DatagramAbstract];

    /// The streams.
    pub(crate) const STREAMS: [Place; 4] = [Place::Tcp, Place::Tcp6, Place::UnixPath, Place::UnixAbstract];

    /// A `[[listener]]` table, with `more` lines in it. `SCRATCH` stands for the daemon's scratch directory.
    pub(crate) fn listener(self, name: &str, more: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let (path, abstract_name) =
            (format!("SCRATCH/{unique}.sock"), format!("@upcalld-test-{}-{unique}", std::process::id()));
        let (transport, address) = match self {
            Place::Tcp => ("tcp", "127.0.0.1:0".into()),
            Place::Tcp6 => ("tcp", "[::1]:0".into()),
            Place::UnixPath => ("unix", path),
            Place::UnixAbstract => ("unix", abstract_name),
            Place::Udp => ("udp", "127.0.0.1:0".into()),
            Place::Udp6 => ("udp", "[::1]:0".into()),
            Place::DatagramPath => ("unix-datagram", path),
            Place::DatagramAbstract => ("unix-datagram", abstract_name),
        };
        listener(name, transport, &address, more)
    }

    /// Like [`Place::listener`], for both protocols.
    pub(crate) fn auto_listener(self, name: &str, more: &str) -> String {
        let protocol = if more.contains("protocol") { "" } else { "protocol = \"auto\"\n" };
        self.listener(name, &format!("{protocol}{more}"))
    }

    /// Whether this machine has it.
    pub(crate) fn is_available(self) -> bool {
        !matches!(self, Place::Tcp6 | Place::Udp6) || TcpListener::bind("[::1]:0").is_ok()
    }

    pub(crate) fn is_datagram(self) -> bool {
        matches!(self, Place::Udp | Place::Udp6 | Place::DatagramPath | Place::DatagramAbstract)
    }
}

/// A `[[listener]]` table, with `more` lines in it. It takes text unless `more` names another protocol.
pub(crate) fn listener(name: &str, transport: &str, address: &str, more: &str) -> String {
    // With "auto", the daemon would send nothing to a silent client for its first second.
    let protocol = if more.contains("protocol") { "" } else { "protocol = \"text\"" };
    format!(
        "[[listener]]\nname = \"{name}\"\ntransport = \"{transport}\"\naddress = \"{address}\"\n{protocol}\n{more}\n"
    )
}
