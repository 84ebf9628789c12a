//! What is measured: all workloads, and which contestants take part in each.

use upcall_wire::address::Transport;

use crate::contestants::{ClientProtocol, Contestant};
use crate::figures::{CPU, P50, READY, SERVED};
use crate::numbers::thousands;

/// What a workload does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkloadKind {
    /// One publisher sends as fast as the window admits.
    FanOut,
    /// One message at a time, to one endpoint.
    RoundTrip,
    /// At most a thousand messages a second, one at a time.
    Lone,
    /// Endpoints on which nothing happens.
    Idle,
    /// The start of the program.
    Start,
}

impl WorkloadKind {
    /// The figure for the summary.
    pub(crate) fn figure(self) -> &'static str {
        match self {
            WorkloadKind::FanOut | WorkloadKind::Lone => CPU,
            WorkloadKind::RoundTrip => P50,
            WorkloadKind::Idle => SERVED,
            WorkloadKind::Start => READY,
        }
    }
}

/// A workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// What it does.
    pub(crate) kind: WorkloadKind,
    /// The transport.
    pub(crate) transport: Transport,
    /// How many endpoints receive each message.
    pub(crate) endpoints: usize,
    /// Whether the peers of upcalld take part.
    pub(crate) peers: bool,
}

impl Workload {
    /// Its name, for `--only`.
    pub(crate) fn name(&self) -> String {
        let transport = self.transport.name();
        match self.kind {
            WorkloadKind::FanOut => format!("fan-out {transport} 1→{}", thousands(self.endpoints)),
            WorkloadKind::RoundTrip => format!("round trip {transport}"),
            WorkloadKind::Lone => format!("lone {transport} 1→{}", thousands(self.endpoints)),
            WorkloadKind::Idle => format!("idle {transport} {}", thousands(self.endpoints)),
            WorkloadKind::Start => "start".into(),
        }
    }

    /// The contestants, with this number of builds of upcalld.
    pub(crate) fn contestants(&self, builds: usize) -> Vec<Contestant> {
        let mut all = Vec::new();
        if self.kind != WorkloadKind::Start {
            all.push(Contestant::Floor);
        }
        if self.kind == WorkloadKind::FanOut && !self.transport.is_datagram() {
            all.push(Contestant::FloorAsNative);
        }
        for build in 0..builds {
            all.push(Contestant::Upcalld { build, protocol: ClientProtocol::Text });
            if !matches!(self.kind, WorkloadKind::Start) {
                all.push(Contestant::Upcalld { build, protocol: ClientProtocol::Native });
            }
        }
        if self.peers {
            all.extend(Contestant::PEERS);
        }
        all
    }
}

/// All workloads, in the order of the report.
pub(crate) fn all() -> Vec<Workload> {
    use Transport::{Tcp, Udp, Unix, UnixDatagram};
    let mut workloads = Vec::new();
    let mut add = |kind, transport: Transport, endpoints, peers| {
        workloads.push(Workload { kind, transport, endpoints, peers: peers && !transport.is_datagram() });
    };
    for endpoints in [10, 100, 1000, 10_000] {
        add(WorkloadKind::FanOut, Tcp, endpoints, endpoints < 10_000);
    }
    for endpoints in [10, 100, 1000] {
        add(WorkloadKind::FanOut, Unix, endpoints, endpoints == 100);
    }
    for transport in [Udp, UnixDatagram] {
        add(WorkloadKind::FanOut, transport, 100, false);
    }
    for transport in [Tcp, Unix, Udp, UnixDatagram] {
        add(WorkloadKind::RoundTrip, transport, 1, true);
    }
    for transport in [Tcp, Unix] {
        add(WorkloadKind::Lone, transport, 100, true);
    }
    add(WorkloadKind::Idle, Tcp, 10_000, true);
    add(WorkloadKind::Start, Tcp, 0, false);
    workloads
}
