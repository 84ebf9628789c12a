//! What is measured: every work of the table of marks, with who takes part.

use crate::contestants::{Contestant, Protocol, Transport};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One publisher, as fast as the window admits.
    FanOut,
    /// One message at a time, to one endpoint.
    RoundTrip,
    /// A thousand messages a second.
    Lone,
    /// Endpoints on which nothing happens.
    Idle,
    /// Starting.
    Start,
}

impl Kind {
    /// The figure that counts most.
    pub(crate) fn figure(self) -> &'static str {
        match self {
            Kind::FanOut | Kind::Lone => crate::measure::CPU,
            Kind::RoundTrip => crate::measure::P50,
            Kind::Idle => crate::measure::SERVED,
            Kind::Start => crate::measure::READY,
        }
    }
}

/// A work.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// What is done.
    pub(crate) kind: Kind,
    /// Over what.
    pub(crate) transport: Transport,
    /// How many endpoints get each message.
    pub(crate) endpoints: usize,
    /// Whether the other programs take part.
    pub(crate) peers: bool,
}

impl Work {
    /// Its name, for `--only`.
    pub(crate) fn name(&self) -> String {
        let transport = self.transport.name();
        match self.kind {
            Kind::FanOut => format!("fan-out {transport} 1→{}", thousands(self.endpoints)),
            Kind::RoundTrip => format!("round trip {transport}"),
            Kind::Lone => format!("lone {transport} 1→{}", thousands(self.endpoints)),
            Kind::Idle => format!("idle {transport} {}", thousands(self.endpoints)),
            Kind::Start => "start".into(),
        }
    }

    /// Who could take part, with so many builds of upcalld.
    pub(crate) fn contestants(&self, builds: usize) -> Vec<Contestant> {
        let mut all = Vec::new();
        if self.kind != Kind::Start {
            all.push(Contestant::Floor);
        }
        if self.kind == Kind::FanOut && self.transport.is_stream() {
            all.push(Contestant::FloorAsNative);
        }
        for build in 0..builds {
            all.push(Contestant::Upcalld { build, protocol: Protocol::Text });
            if !matches!(self.kind, Kind::Start) {
                all.push(Contestant::Upcalld { build, protocol: Protocol::Native });
            }
        }
        if self.peers {
            all.extend(Contestant::PEERS);
        }
        all
    }
}

/// Every work, in the order of the report.
pub(crate) fn all() -> Vec<Work> {
    use Transport::{Tcp, Udp, Unix, UnixDatagram};
    let mut works = Vec::new();
    let mut add = |kind, transport: Transport, endpoints, peers| {
        works.push(Work { kind, transport, endpoints, peers: peers && transport.is_stream() });
    };
    for endpoints in [10, 100, 1000, 10_000] {
        add(Kind::FanOut, Tcp, endpoints, endpoints < 10_000);
    }
    for endpoints in [10, 100, 1000] {
        add(Kind::FanOut, Unix, endpoints, endpoints == 100);
    }
    for transport in [Udp, UnixDatagram] {
        add(Kind::FanOut, transport, 100, false);
    }
    for transport in [Tcp, Unix, Udp, UnixDatagram] {
        add(Kind::RoundTrip, transport, 1, true);
    }
    for transport in [Tcp, Unix] {
        add(Kind::Lone, transport, 100, true);
    }
    add(Kind::Idle, Tcp, 10_000, true);
    add(Kind::Start, Tcp, 0, false);
    works
}

/// A number for people: 10,000.
pub(crate) fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
