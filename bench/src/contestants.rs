//! The contestants: the programs that are measured, and the protocols of their clients.

use upcall_wire::address::Transport;

use crate::drivers::ProtocolDriver;
use crate::drivers::mqtt::MqttDriver;
use crate::drivers::native::{self, NativeDriver};
use crate::drivers::nats::NatsDriver;
use crate::drivers::redis::RedisDriver;
use crate::drivers::text::TextDriver;
use crate::message::LENGTH;
use crate::programs::on_path;

/// Bytes of a native upcall besides its payload.
const OVERHEAD: usize = native::HEADER + native::UPCALL;

/// The protocol of upcalld's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientProtocol {
    /// Lines, or one message in each datagram.
    Text,
    /// Frames.
    Native,
}

/// A program in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// The bare loop for the transport.
    Floor,
    /// The floor with as many bytes per message as a native upcall, which shows the cost of the bytes alone.
    FloorAsNative,
    /// One of the builds of upcalld.
    Upcalld {
        /// The index of the build.
        build: usize,
        /// The protocol of its clients.
        protocol: ClientProtocol,
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

    /// Its name in the report. `builds` is the number of builds of upcalld.
    pub(crate) fn label(self, builds: usize) -> String {
        match self {
            Contestant::Floor => "floor".into(),
            Contestant::FloorAsNative => format!("floor, {} bytes", LENGTH + OVERHEAD),
            Contestant::Upcalld { build, protocol } => {
                let protocol = if protocol == ClientProtocol::Text { "text" } else { "native" };
                let letter = char::from(b'A' + build as u8);
                if builds > 1 { format!("upcalld {letter} {protocol}") } else { format!("upcalld {protocol}") }
            }
            Contestant::Ncat => "ncat --broker".into(),
            Contestant::Redis => "Redis".into(),
            Contestant::Nats => "NATS".into(),
            Contestant::Mosquitto => "mosquitto".into(),
        }
    }

    /// Whether it is a build of upcalld.
    pub(crate) fn is_upcalld(self) -> bool {
        matches!(self, Contestant::Upcalld { .. })
    }

    /// The program that must be installed; `None` for upcalld and the floors.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Contestant::Floor | Contestant::FloorAsNative | Contestant::Upcalld { .. } => None,
            Contestant::Ncat => Some("ncat"),
            Contestant::Redis => Some("redis-server"),
            Contestant::Nats => Some("nats-server"),
            Contestant::Mosquitto => Some("mosquitto"),
        }
    }

    /// Its settings, for the report.
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

    /// Why it is left out of a workload with this transport and number of endpoints; `None` if it takes part.
    pub(crate) fn left_out_reason(self, transport: Transport, endpoints: usize) -> Option<String> {
        if let Some(program) = self.program() {
            if transport.is_datagram() {
                return Some("supports only streams".into());
            }
            if on_path(program).is_none() {
                return Some("is not installed".into());
            }
        }
        match (self, transport) {
            (Contestant::Nats, Transport::Unix) => Some("has no Unix sockets".into()),
            (Contestant::Ncat, Transport::Unix) => Some("is not compared over Unix sockets".into()),
            (Contestant::Ncat, _) if endpoints > 1000 => Some("accepts about 1,000 connections (select)".into()),
            _ => None,
        }
    }

    /// The protocol of its clients over a stream.
    pub(crate) fn driver(self) -> Box<dyn ProtocolDriver> {
        match self {
            Contestant::Floor | Contestant::Upcalld { protocol: ClientProtocol::Text, .. } => {
                Box::new(TextDriver::ECHOES)
            }
            Contestant::FloorAsNative => Box::new(TextDriver { padding: OVERHEAD, ..TextDriver::ECHOES }),
            Contestant::Upcalld { protocol: ClientProtocol::Native, .. } => Box::new(NativeDriver::default()),
            Contestant::Ncat => Box::new(TextDriver { echoes: false, ..TextDriver::ECHOES }),
            Contestant::Redis => Box::new(RedisDriver),
            Contestant::Nats => Box::new(NatsDriver),
            Contestant::Mosquitto => Box::new(MqttDriver),
        }
    }
}
