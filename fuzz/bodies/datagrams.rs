//! The handling of datagrams in the daemon without sockets: the gate, the engine, and peers that send anything at any
//! time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use upcall_engine::{
    Audience, DatagramSource, EndpointId, Engine, Entropy, Event, ExpectedProtocol, Gate, Intake, Now, Patience,
    Policy, Registration, Settings, Time, Verdict,
};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::format::Format;
use upcall_wire::reason::Reason;

/// How many peers send datagrams.
const PEERS: u8 = 8;
/// The number of trusted peers, which are the first ones.
const TRUSTED: u8 = 3;
const MAX_ENDPOINTS: usize = 6;
const LEASE: Duration = Duration::from_secs(30);
/// Bytes of the IP and UDP headers of a datagram.
const HEADERS: usize = 28;

/// The handler, and what must be true of it.
struct DatagramModel {
    engine: Engine,
    gate: Gate<BuildHasherDefault<DefaultHasher>>,
    now: Time,
    /// The registered peers, each with the end of its lease.
    registered: HashMap<u8, (EndpointId, Time)>,
    /// The challenges that were sent: to which peer, when, and the line.
    challenges: Vec<(u8, Time, Vec<u8>)>,
    /// Bytes received from each peer, and bytes of challenges to it, counted as IP packets.
    traffic: [(usize, usize); PEERS as usize],
    /// How many times an untrusted peer has registered with a cookie.
    proved: usize,
}

/// Reads the bytes as commands: a datagram of some peer with some payload, or time that passes.
/// Returns how many times an untrusted peer has registered with a cookie.
pub(crate) fn run(bytes: &[u8]) -> usize {
    let mut model = DatagramModel::new();
    let mut rest = bytes.iter().copied();
    while let Some(command) = rest.next() {
        let mut next = || rest.next().unwrap_or(0);
        match command {
            0..=31 => model.pass_time(u64::from(next()) << (command / 2)),
            _ => {
                let payload = model.payload(command, &mut next);
                model.datagram(command % PEERS, &payload);
            }
        }
        model.turn(command & 64 != 0);
    }
    model.proved
}

impl DatagramModel {
    fn new() -> DatagramModel {
        let settings = Settings {
            max_message: 60 << 10,
            session_ttl: Duration::from_secs(300),
            format: Format::parse("<{seq} {data}>").expect("a valid format"),
            audience: Audience::All,
            max_endpoints: MAX_ENDPOINTS,
            lease: LEASE,
            message_timeout: None,
            max_behind: 4 << 10,
            patience: Patience::Limited(Duration::from_secs(1)),
            policy: Policy::Disconnect,
            farewell: Duration::from_secs(1),
        };
        DatagramModel {
            engine: Engine::new(settings, 16 << 10, Entropy::seeded(1)),
            gate: Gate::with_key(BuildHasherDefault::default()),
            now: Time(0),
            registered: HashMap::new(),
            challenges: Vec::new(),
            traffic: Default::default(),
            proved: 0,
        }
    }

    fn now(&self) -> Now {
        Now { time: self.now, boot: self.now, wall: SystemTime::UNIX_EPOCH }
    }

    fn pass_time(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
    }

    /// A payload that is likely to have an effect (the peer's own challenge, that of another peer, an altered one, a
    /// command), or any bytes.
    fn payload(&self, command: u8, next: &mut impl FnMut() -> u8) -> Vec<u8> {
        let (kind, choice) = (next(), usize::from(next()));
        let line = |offset: usize| {
            let lines = self.challenges.len();
            let line =
                (lines > 0).then(|| self.challenges[(lines - 1).saturating_sub(offset % lines.max(1))].2.clone());
            line.unwrap_or_else(|| b"join 0123456789abcdef\n".to_vec())
        };
        let own =
            || self.challenges.iter().rev().find(|(peer, ..)| *peer == command % PEERS).map(|(.., line)| line.clone());
        let bye = |mut line: Vec<u8>| {
            line.splice(..4, *b"bye");
            line
        };
        match kind % 10 {
            0 => b"join\n".to_vec(),
            1 => b"bye\n".to_vec(),
            2 | 3 => own().unwrap_or_default(),
            4 => line(choice),
            5 => {
                let mut line = own().unwrap_or_else(|| line(0));
                let at = 5 + choice % 16;
                line[at] ^= next().max(1);
                line
            }
            6 => bye(own().unwrap_or_else(|| line(0))),
            7 => bye(line(choice)),
            _ => (0..choice).map(|_| next()).collect(),
        }
    }

    /// Handles a datagram as the daemon does.
    fn datagram(&mut self, peer: u8, payload: &[u8]) {
        if self.engine.intake() != Intake::Open {
            return;
        }
        let address = SocketAddr::from(([192, 0, 2, peer], 4242));
        let known = self.registered.get(&peer).map(|(id, _)| *id);
        let trusted = peer < TRUSTED;
        let source =
            DatagramSource { listener: 1, address: &address, source: &address, trusted, registered: known.is_some() };
        let traffic = &mut self.traffic[usize::from(peer)];
        traffic.0 += payload.len() + HEADERS;
        match self.gate.judge(self.now, &source, payload) {
            Verdict::Drop(dropped) => self.engine.counters_mut().count_dropped(dropped),
            Verdict::Challenge => {
                assert!(!trusted, "a trusted peer was challenged");
                let line = self.gate.challenge(self.now, &source).into_bytes();
                assert!(line.len() + HEADERS <= 3 * (payload.len() + HEADERS), "answer to {}", payload.escape_ascii());
                traffic.1 += line.len() + HEADERS;
                self.challenges.push((peer, self.now, line));
            }
            Verdict::Join => {
                assert!(trusted || self.has_proved(peer, payload, b"join "), "{}", payload.escape_ascii());
                self.proved += usize::from(!trusted && known.is_none());
                self.join(peer);
            }
            Verdict::Bye => {
                let id = known.expect("only a registered peer can leave");
                assert!(trusted || self.has_proved(peer, payload, b"bye "), "{}", payload.escape_ascii());
                self.engine.leave(self.now(), id, Reason::Closed);
            }
            Verdict::Input => {
                assert!(trusted || known.is_some(), "an input of an unregistered peer: {}", payload.escape_ascii());
                assert!(!payload.is_empty());
                let id = if trusted { self.join(peer) } else { known };
                if let Some(id) = id {
                    self.engine.input(self.now(), id, payload);
                }
            }
        }
    }

    /// Whether the payload returns a cookie that was sent to this peer within the last two minutes.
    fn has_proved(&self, peer: u8, payload: &[u8], word: &[u8]) -> bool {
        let cookie = payload.trim_ascii().strip_prefix(word);
        self.challenges.iter().any(|(to, at, line)| {
            let issued = line.trim_ascii().strip_prefix(b"join ");
            *to == peer && cookie == issued && self.now.since(*at) <= Duration::from_secs(120)
        })
    }

    fn join(&mut self, peer: u8) -> Option<EndpointId> {
        let now = self.now();
        let until = now.boot + LEASE;
        if let Some((id, lease)) = self.registered.get_mut(&peer) {
            *lease = until;
            self.engine.renew(now, *id);
            return Some(*id);
        }
        let registration = Registration {
            protocol: ExpectedProtocol::Text,
            tag: peer.into(),
            listener: 1,
            transport: Transport::Udp,
            peer: Peer::Inet(SocketAddr::from(([192, 0, 2, peer], 4242))),
            receives: true,
            max_per_listener: None,
            max_per_source: None,
        };
        match self.engine.register(now, registration) {
            Ok(id) => {
                self.registered.insert(peer, (id, until));
                Some(id)
            }
            Err(_) => {
                assert_eq!(self.engine.len(), MAX_ENDPOINTS, "refused, but the registry is not full");
                None
            }
        }
    }

    /// Ends a turn: deadlines pass, and what is due is sent, unless all sockets are full.
    fn turn(&mut self, full: bool) {
        let now = self.now();
        self.engine.expire(now);
        let mut ready = Vec::new();
        self.engine.take_ready(&mut ready);
        for id in ready {
            // A full socket has no effect on an endpoint with nothing to send.
            if full && self.engine.datagram_run(id, 1, 1).is_some() {
                self.engine.blocked(now, id);
                continue;
            }
            while let Some(run) = self.engine.datagram_run(id, 1 << 10, 8) {
                assert!(run.count > 0 && run.bytes.len().is_multiple_of(run.count), "runs of equal size");
                let count = run.count;
                self.engine.advance_run(now, id, count, true);
            }
            self.engine.advance_run(now, id, 0, true);
        }
        self.engine.end_turn(now);
        if !full {
            let all: Vec<EndpointId> = self.engine.endpoints().map(|(id, _)| id).collect();
            all.into_iter().for_each(|id| self.engine.writable(id));
        }
        while let Some(event) = self.engine.next_event() {
            if let Event::Left { endpoint, reason, .. } = event {
                let (_, until) = self.registered.remove(&(endpoint.tag as u8)).expect("it was registered");
                assert!(reason == Reason::Closed || until <= self.now, "its lease had not ended");
            }
        }
        self.engine.check_invariants();
        assert_eq!(self.engine.len(), self.registered.len());
        for (peer, (id, until)) in &self.registered {
            assert!(*until > self.now, "the lease of {peer} has ended");
            assert!(self.engine.endpoint(*id).is_some());
        }
        for (into, out) in self.traffic {
            assert!(out <= 3 * into, "{out} bytes out, {into} in");
        }
    }
}
