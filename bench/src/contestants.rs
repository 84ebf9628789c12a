//! Who is measured, and over what.

use crate::drivers::{Driver, mqtt::Mqtt, native, native::Native, nats::Nats, redis::Redis, text::Text};
use crate::message::LENGTH;
use crate::servers::on_path;

/// What a native upcall has beside its payload, in bytes.
const OVERHEAD: usize = native::HEADER + native::UPCALL;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Unix stream sockets.
    Unix,
    /// Unix datagram sockets.
    UnixDatagram,
}

impl Transport {
    /// Its name, as upcalld has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Unix => "unix",
            Transport::UnixDatagram => "unix-datagram",
        }
    }

    /// Connections, not datagrams.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Unix)
    }
}

/// What is spoken to upcalld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Lines, or a datagram a message.
    Text,
    /// Frames.
    Native,
}

/// A program in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// The bare loop for the transport.
    Floor,
    /// The same with as many bytes for each message as a native upcall has: what these bytes cost whoever sends them.
    FloorAsNative,
    /// One of the builds of upcalld.
    Upcalld {
        /// Which.
        build: usize,
        /// How its clients speak.
        protocol: Protocol,
    },
    /// `ncat --broker`.
    Ncat,
    /// Redis pub/sub.
    Redis,
    /// NATS.
    Nats,
    /// mosquitto with quality of service 0.
    Mosquitto,
}

impl Contestant {
    /// The peers of upcalld.
    pub(crate) const PEERS: [Contestant; 4] =
        [Contestant::Ncat, Contestant::Redis, Contestant::Nats, Contestant::Mosquitto];

    /// Its name in the report; `builds` is how many of upcalld there are.
    pub(crate) fn label(self, builds: usize) -> String {
        match self {
            Contestant::Floor => "floor".into(),
            Contestant::FloorAsNative => format!("floor, {} bytes", LENGTH + OVERHEAD),
            Contestant::Upcalld { build, protocol } => {
                let protocol = if protocol == Protocol::Text { "text" } else { "native" };
                let letter = char::from(b'A' + build as u8);
                if builds > 1 { format!("upcalld {letter} {protocol}") } else { format!("upcalld {protocol}") }
            }
            Contestant::Ncat => "ncat --broker".into(),
            Contestant::Redis => "Redis".into(),
            Contestant::Nats => "NATS".into(),
            Contestant::Mosquitto => "mosquitto".into(),
        }
    }

    /// One of the builds of upcalld.
    pub(crate) fn is_upcalld(self) -> bool {
        matches!(self, Contestant::Upcalld { .. })
    }

    /// The program that has to be installed, if it is none of ours.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Contestant::Floor | Contestant::FloorAsNative | Contestant::Upcalld { .. } => None,
            Contestant::Ncat => Some("ncat"),
            Contestant::Redis => Some("redis-server"),
            Contestant::Nats => Some("nats-server"),
            Contestant::Mosquitto => Some("mosquitto"),
        }
    }

    /// How it is configured, in a few words.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Contestant::Floor | Contestant::FloorAsNative => "a bare loop",
            Contestant::Upcalld { .. } => "defaults",
            Contestant::Ncat => "--max-conns 1015",
            Contestant::Redis => "pub/sub, no persistence",
            Contestant::Nats => "defaults",
            Contestant::Mosquitto => "QoS 0, anonymous, no persistence, TCP_NODELAY",
        }
    }

    /// Why it cannot do a work with so many endpoints, if it cannot.
    pub(crate) fn obstacle(self, transport: Transport, endpoints: usize) -> Option<String> {
        if let Some(program) = self.program() {
            if !transport.is_stream() {
                return Some("speaks over streams only".into());
            }
            if on_path(program).is_none() {
                return Some("is not installed".into());
            }
        }
        match (self, transport) {
            (Contestant::Nats, Transport::Unix) => Some("has no Unix sockets".into()),
            (Contestant::Ncat, Transport::Unix) => Some("is not compared over Unix sockets".into()),
            (Contestant::Ncat, _) if endpoints > 1000 => Some("takes about 1,000 connections (select)".into()),
            _ => None,
        }
    }

    /// What its clients say over a stream.
    pub(crate) fn driver(self) -> Box<dyn Driver> {
        match self {
            Contestant::Floor | Contestant::Upcalld { protocol: Protocol::Text, .. } => Box::new(Text::ECHOES),
            Contestant::FloorAsNative => Box::new(Text { padding: OVERHEAD, ..Text::ECHOES }),
            Contestant::Upcalld { protocol: Protocol::Native, .. } => Box::new(Native::default()),
            Contestant::Ncat => Box::new(Text { echoes: false, ..Text::ECHOES }),
            Contestant::Redis => Box::new(Redis),
            Contestant::Nats => Box::new(Nats),
            Contestant::Mosquitto => Box::new(Mqtt),
        }
    }
}
