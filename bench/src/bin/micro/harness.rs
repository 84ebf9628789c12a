//! An engine without sockets, driven in turns as the daemon drives it. Its endpoints accept everything that is written.

use std::hint::black_box;
use std::io;
use std::time::{Duration, SystemTime};

use upcall_engine::{
    Audience, EndpointId, Engine, Entropy, Event, ExpectedProtocol, Now, Patience, Policy, Progress, Registration,
    Settings, Terms, Time,
};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::format::Format;
use upcall_wire::frame::Hello;

/// 64 bytes.
pub(crate) const MESSAGE: &[u8; 64] = b"a message of 64 bytes, that a line feed ends like most of them.\n";

/// The largest message, in bytes: the default of the daemon.
pub(crate) const MAX_MESSAGE: usize = 60 << 10;

/// The most datagrams, and bytes, that are sent at once.
const MAX_RUN: (usize, usize) = (64, 65_000);

/// An engine and its endpoints.
pub(crate) struct EngineHarness {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    ready: Vec<EndpointId>,
    /// How many endpoints have left.
    pub(crate) left: u64,
}

impl EngineHarness {
    /// An engine without endpoints. Its log is small, so that it is soon full and its pages are reused.
    pub(crate) fn new(format: &str) -> io::Result<EngineHarness> {
        let settings = Settings {
            format: Format::parse(format).map_err(|error| io::Error::other(error.to_string()))?,
            audience: Audience::All,
            max_endpoints: 20_000,
            lease: Duration::from_secs(120),
            max_message: MAX_MESSAGE,
            session_ttl: Duration::from_secs(300),
            message_timeout: Some(Duration::from_secs(30)),
            max_behind: 1 << 20,
            patience: Patience::Limited(Duration::from_secs(1)),
            policy: Policy::Disconnect,
            farewell: Duration::from_secs(5),
        };
        Ok(EngineHarness {
            engine: Engine::new(settings, 2 << 20, Entropy::seeded(1)),
            now: Now { time: Time(0), boot: Time(0), wall: SystemTime::UNIX_EPOCH },
            ready: Vec::new(),
            left: 0,
        })
    }

    /// Registers a text endpoint.
    pub(crate) fn register_text(&mut self, transport: Transport, receives: bool) -> io::Result<EndpointId> {
        self.register(ExpectedProtocol::Text, transport, receives)
    }

    /// Registers a native stream that receives what passes these filters, or everything if there are none.
    pub(crate) fn register_native(&mut self, filters: &[&str]) -> io::Result<EndpointId> {
        let id = self.register(ExpectedProtocol::Auto, Transport::Tcp, true)?;
        self.engine.detected_native(self.now, id);
        let hello = Hello { filters: filters.to_vec(), ..Hello::new(1) };
        let terms = Terms { sends: true, receives: true, history: false, max_sessions: None };
        let refused = |error| io::Error::other(format!("HELLO was refused: {error:?}"));
        self.engine.handle_hello(self.now, id, &hello, terms).map_err(refused)?;
        Ok(id)
    }

    fn register(&mut self, protocol: ExpectedProtocol, transport: Transport, receives: bool) -> io::Result<EndpointId> {
        let registration = Registration {
            protocol,
            tag: 1,
            listener: 1,
            transport,
            peer: peer(),
            receives,
            max_per_listener: None,
            max_per_source: None,
        };
        let refused = |refusal| io::Error::other(format!("not registered: {refusal:?}"));
        self.engine.register(self.now, registration).map_err(refused)
    }

    /// Ends a turn: handles deadlines, writes everything, and takes the events.
    pub(crate) fn end_turn(&mut self) {
        self.engine.expire(self.now);
        loop {
            let mut ready = std::mem::take(&mut self.ready);
            self.engine.take_ready(&mut ready);
            let any = !ready.is_empty();
            for id in ready.drain(..) {
                self.write(id);
            }
            self.ready = ready;
            self.engine.end_turn(self.now);
            while let Some(event) = self.engine.next_event() {
                self.left += u64::from(matches!(event, Event::Left { .. }));
            }
            if !any && !self.engine.has_ready() {
                break;
            }
        }
        black_box((self.engine.deadline(), self.engine.lease_deadline(), self.engine.intake()));
    }

    /// Writes all that is due to an endpoint, as the daemon does.
    fn write(&mut self, id: EndpointId) {
        let (now, (count, bytes)) = (self.now, MAX_RUN);
        let Some(endpoint) = self.engine.endpoint(id) else { return };
        if endpoint.transport.is_datagram() {
            while let Some(run) = self.engine.datagram_run(id, bytes, count) {
                let count = black_box(run).count;
                if self.engine.advance_run(now, id, count, true) == Progress::Done {
                    return;
                }
            }
            self.engine.advance_run(now, id, 0, true);
            return;
        }
        loop {
            if black_box(self.engine.single_slice(id)).is_some() {
                return self.engine.advance_all(now, id);
            }
            let pending = black_box(&self.engine.slices(id)).bytes();
            if self.engine.advance(now, id, pending) == Progress::Done {
                return;
            }
        }
    }

    /// Reports a full socket for all endpoints that are ready.
    pub(crate) fn block_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        self.engine.take_ready(&mut ready);
        ready.drain(..).for_each(|id| self.engine.blocked(self.now, id));
        self.ready = ready;
        self.engine.end_turn(self.now);
    }

    /// Advances all clocks.
    pub(crate) fn advance_time(&mut self, time: Duration) {
        let Now { time: monotonic, boot, wall } = self.now;
        self.now = Now { time: monotonic + time, boot: boot + time, wall: wall + time };
    }
}

/// The address of all endpoints.
pub(crate) fn peer() -> Peer {
    Peer::inet(([127, 0, 0, 1], 1).into())
}
