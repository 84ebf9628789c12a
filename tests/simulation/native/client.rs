//! A native client: the core of the library, the program around it, and its connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use upcall_client::machine::{Carrier, DisconnectReason, Event, Machine, ResumeTicket, Settings};
use upcall_engine::Time;
use upcall_wire::frame::Code;

use super::ledger::Ledger;
use super::streams::End;
use crate::world::World;

/// How long a client waits for its welcome before it tries again.
const GREETING: Duration = Duration::from_secs(10);

/// What is known of an input that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Taken,
    Refused,
    Unknown,
}

/// An input.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) fate: Fate,
}

pub(crate) struct Client {
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) connected: bool,
    /// The connection of a stream client.
    pub(crate) line: Option<u64>,
    /// What it could not write yet.
    unwritten: Vec<u8>,
    /// The address of a datagram client, and what its socket holds.
    pub(crate) address: u64,
    pub(crate) inbox: VecDeque<Vec<u8>>,
    pub(crate) prompt: bool,
    pub(crate) stalled: bool,
    pub(crate) retry_at: Option<Time>,
    pub(crate) greet_by: Option<Time>,
    /// Another program goes on with its session: it does not come back.
    pub(crate) replaced: bool,
    /// How the machine ended.
    pub(crate) over: Option<DisconnectReason>,
    /// What was saved of it, and what it had been told by then.
    pub(crate) saved: Option<(ResumeTicket, Ledger)>,
    pub(crate) ledger: Ledger,
    /// By ticket.
    pub(crate) sent: BTreeMap<u64, Sent>,
    /// Those of the programs before this one.
    pub(crate) old: Vec<Sent>,
    /// Requests that are not answered.
    pub(crate) requests: BTreeSet<u64>,
}

impl Client {
    pub(crate) fn new(settings: Settings, seed: u64, address: u64, now: Time) -> Client {
        Client {
            machine: Machine::new(settings.clone(), seed),
            settings,
            connected: false,
            line: None,
            unwritten: Vec::new(),
            address,
            inbox: VecDeque::new(),
            prompt: false,
            stalled: false,
            retry_at: Some(now),
            greet_by: None,
            replaced: false,
            over: None,
            saved: None,
            ledger: Ledger::default(),
            sent: BTreeMap::new(),
            old: Vec::new(),
            requests: BTreeSet::new(),
        }
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.settings.carrier == Carrier::Stream
    }

    pub(crate) fn is_stalled(&self, everybody_reads: bool) -> bool {
        self.stalled && !everybody_reads
    }
}

impl World {
    /// What has arrived is in the sockets of clients.
    pub(crate) fn deliver_to_clients(&mut self) {
        for (address, bytes) in self.natives.down.arrived(self.now) {
            let client = self.natives.clients.iter_mut().find(|client| client.connected && client.address == address);
            if let Some(client) = client.filter(|client| client.inbox.len() < 100) {
                client.inbox.push_back(bytes);
            }
        }
    }

    /// A client does what it has to do now, unless it is stalled.
    pub(crate) fn work(&mut self, index: usize) {
        let client = &mut self.natives.clients[index];
        if client.is_stalled(self.everybody_reads) {
            return;
        }
        if client.retry_at.is_some_and(|at| at <= self.now) {
            client.retry_at = None;
            if !self.natives.closing {
                self.connect(index);
            }
        }
        if self.natives.clients[index].greet_by.is_some_and(|by| by <= self.now) {
            self.hang_up(index, End::Eof);
        }
        if !self.natives.clients[index].connected {
            return self.note_events(index);
        }
        let now = self.natives.instant(self.now);
        if !self.receive(index) {
            self.hang_up(index, End::Eof);
        }
        self.note_events(index);
        self.natives.clients[index].machine.expire(now);
        self.transmit(index);
        self.note_events(index);
    }

    fn connect(&mut self, index: usize) {
        let now = self.natives.instant(self.now);
        let line = self.natives.clients[index].is_stream().then(|| self.accept());
        let client = &mut self.natives.clients[index];
        client.line = line;
        client.unwritten.clear();
        client.inbox.clear();
        client.connected = true;
        client.greet_by = Some(self.now + GREETING);
        client.machine.connect(now);
    }

    /// Takes what has come; says whether the connection is still there.
    fn receive(&mut self, index: usize) -> bool {
        let now = self.natives.instant(self.now);
        let client = &mut self.natives.clients[index];
        let everything = client.prompt || self.everybody_reads;
        let Some(tag) = client.line else {
            while let Some(datagram) = client.inbox.pop_front() {
                client.machine.receive(now, &datagram);
            }
            return true;
        };
        let Some(line) = self.natives.lines.get_mut(&tag) else { return false };
        let count = if everything { line.down.len() } else { self.rng.usize(..=line.down.len()) };
        let bytes: Vec<u8> = line.down.drain(..count).collect();
        client.machine.receive(now, &bytes);
        line.endpoint.is_some() || !line.down.is_empty()
    }

    fn transmit(&mut self, index: usize) {
        let now = self.natives.instant(self.now);
        let natives = &mut self.natives;
        let client = &mut natives.clients[index];
        let Some(tag) = client.line else {
            let mut datagram = Vec::new();
            while client.machine.transmit(now, &mut datagram) {
                natives.up.send(&mut self.rng, self.now, client.address, &datagram);
                datagram.clear();
            }
            return;
        };
        let Some(line) = natives.lines.get_mut(&tag) else { return };
        if client.unwritten.is_empty() {
            while client.unwritten.len() < 10_000 && client.machine.transmit(now, &mut client.unwritten) {}
        }
        let room = 20_000usize.saturating_sub(line.up.len()).min(client.unwritten.len());
        let count = if self.everybody_reads { room } else { self.rng.usize(..=room) };
        line.up.extend(client.unwritten.drain(..count));
    }

    /// The client's side of the connection is no more.
    pub(crate) fn hang_up(&mut self, index: usize, how: End) {
        let client = &mut self.natives.clients[index];
        client.machine.disconnected();
        self.drop_line(index, how);
        self.note_events(index);
    }

    /// The client lets go of its connection.
    pub(crate) fn drop_line(&mut self, index: usize, how: End) {
        let client = &mut self.natives.clients[index];
        client.connected = false;
        client.greet_by = None;
        if let Some(line) = client.line.take().and_then(|tag| self.natives.lines.get_mut(&tag)) {
            line.open = false;
            line.end = Some(how);
            line.capacity = if how == End::Silent { line.capacity } else { usize::MAX };
            line.down.clear();
        }
    }

    /// What the core of a client tells its program.
    pub(crate) fn note_events(&mut self, index: usize) {
        while let Some(event) = self.natives.clients[index].machine.event() {
            self.note_event(index, event);
        }
    }

    fn note_event(&mut self, index: usize, event: Event) {
        let natives = &mut self.natives;
        let (client, truth, figures) = (&mut natives.clients[index], &natives.truth, &mut natives.figures);
        match event {
            Event::Welcomed { resumed, start, next, .. } => {
                assert!(start <= next);
                let ticket = client.machine.session().unwrap();
                client.ledger.welcomed(truth.find(ticket.log), ticket.id, start, resumed);
                client.greet_by = None;
                figures.sessions_lost += u64::from(!resumed && client.settings.resume.is_some());
            }
            Event::Upcall(upcall) => {
                let (log, _) = client.ledger.present().unwrap();
                let input = &truth.inputs(log, &self.inputs)[upcall.sequence as usize - 1];
                assert_eq!((&upcall.topic, upcall.source), (&input.topic, input.source));
                assert!(upcall.payload == input.data, "the payload of {} is another", upcall.sequence);
                client.ledger.tell(upcall.sequence, upcall.sequence, false);
                figures.upcalls += 1;
            }
            Event::Gap { first, last, .. } => {
                client.ledger.tell(first, last, true);
                figures.gaps += 1;
            }
            Event::Receipt { input: ticket, sequence, repeat, .. } => {
                let (log, number) = client.ledger.present().unwrap();
                let input = &truth.inputs(log, &self.inputs)[sequence as usize - 1];
                let sent = client.sent.get_mut(&ticket).unwrap();
                assert_eq!((&input.topic, input.source), (&sent.topic, number));
                assert!(input.data == sent.payload, "the receipt names another input");
                assert_eq!(std::mem::replace(&mut sent.fate, Fate::Taken), Fate::Open);
                figures.receipts += 1;
                figures.repeats += u64::from(repeat);
            }
            Event::Unknown { input: ticket } => {
                client.sent.get_mut(&ticket).unwrap().fate = Fate::Unknown;
                figures.unknown += 1;
            }
            Event::Rejected { input: ticket, .. } => client.sent.get_mut(&ticket).unwrap().fate = Fate::Refused,
            Event::Subscribed { request, from, everything, filters } => {
                let (log, number) = client.ledger.present().unwrap();
                let filters = (!everything).then(|| filters.into_iter().collect());
                let agrees = truth.agrees(log, number, from, &filters);
                assert!(agrees, "#{number} was told {filters:?} from {from}, and that is not so");
                assert!(client.requests.remove(&request));
                figures.subscribed += 1;
            }
            Event::NotSubscribed { request, code, .. } => {
                assert_eq!(code, Code::NotPermitted);
                assert!(client.requests.remove(&request));
            }
            Event::Pong { .. } => {}
            Event::DaemonError { code, text } => panic!("{code:?}: {text}"),
            Event::Disconnected(cause) => self.down(index, cause),
        }
    }

    fn down(&mut self, index: usize, cause: DisconnectReason) {
        // It was refused; or its HELLO took more than a second, and it was held to be a text client.
        let refused =
            matches!(&cause, DisconnectReason::NotNative(text) if text.starts_with(b"upcalld: ") || text[0] == b'<');
        assert!(
            refused || !matches!(cause, DisconnectReason::NotNative(_) | DisconnectReason::Protocol(_)),
            "{cause:?}"
        );
        let how = if self.rng.bool() { End::Eof } else { End::Reset };
        self.drop_line(index, how);
        let pause = Duration::from_millis(self.rng.u64(..1_000));
        let client = &mut self.natives.clients[index];
        match client.machine.is_over() || client.replaced {
            true => client.over = Some(cause),
            false => client.retry_at = Some(self.now + pause),
        }
    }
}
