//! A small model of the daemon with one client. It has no sockets, and its decisions are random or the caller's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{
    Code, ErrorFrame, Frame, FrameDecoder, Gap, GapReason, Hello, Receipt, Upcall, Welcome, kind,
};

const COOKIE: u64 = 0xc00c1e;

/// Something due to the client: an upcall or a gap.
#[derive(Debug, Clone, Copy)]
struct DueItem {
    prev: u64,
    /// The sequence of an upcall, or the last of a gap that begins after `prev`.
    sequence: u64,
    is_gap: bool,
    acked: bool,
    sent: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct ModelSession {
    id: u64,
    secret: [u8; 16],
    key: u64,
    start: u64,
    items: Vec<DueItem>,
    last_message: u64,
    receipts: BTreeMap<u64, (u64, u32)>,
    number: u64,
    /// The items that each datagram carried.
    carried: BTreeMap<u64, Vec<usize>>,
}

pub(super) struct Model {
    pub(super) datagrams: bool,
    pub(super) log_id: u64,
    /// Every input: whether it is due to the client, and its payload.
    pub(super) log: Vec<(bool, Vec<u8>)>,
    pub(super) session: Option<ModelSession>,
    welcome: Option<(u64, Vec<u8>)>,
    connected: bool,
    decoder: FrameDecoder,
    pub(super) out: Vec<Vec<u8>>,
    random: Rng,
}

impl Model {
    pub(super) fn new(datagrams: bool, seed: u64) -> Model {
        Model {
            datagrams,
            log_id: 1,
            log: Vec::new(),
            session: None,
            welcome: None,
            connected: false,
            decoder: FrameDecoder::default(),
            out: Vec::new(),
            random: Rng::with_seed(seed),
        }
    }

    /// The connection is lost; the session stays.
    pub(super) fn disconnect(&mut self) {
        self.decoder = FrameDecoder::default();
        self.connected = false;
        self.out.clear();
    }

    /// The daemon restarts, and has lost everything.
    pub(super) fn restart(&mut self) {
        self.disconnect();
        self.session = None;
        self.welcome = None;
        self.log_id += 1;
        self.log.clear();
    }

    /// Appends an input, of the client or of another endpoint.
    pub(super) fn append(&mut self, due: bool, payload: &[u8]) -> u64 {
        self.log.push((due, payload.to_vec()));
        let sequence = self.log.len() as u64;
        if let Some(session) = self.session.as_mut().filter(|_| due) {
            let prev = session.items.last().map_or(session.start - 1, |item| item.sequence);
            session.items.push(DueItem { prev, sequence, is_gap: false, acked: false, sent: None });
        }
        sequence
    }

    /// Replaces the first items without an acknowledgement by a gap, and a few of the items after them.
    pub(super) fn skip(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(from) = session.items.iter().position(|item| !item.acked) else { return };
        let to = self.random.usize(from..session.items.len().min(from + 9));
        let gap = DueItem {
            prev: session.items[from].prev,
            sequence: session.items[to].sequence,
            is_gap: true,
            acked: false,
            sent: None,
        };
        // Earlier datagrams name items by their index, which has changed.
        session.carried.clear();
        session.items.splice(from..=to, [gap]);
    }

    pub(super) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if !self.datagrams {
            let (mut decoder, mut rest) = (std::mem::take(&mut self.decoder), bytes);
            while let Some(frame) = decoder.next(&mut rest, 1 << 20).expect("the client follows the protocol") {
                self.handle(now, frame);
            }
            self.decoder = decoder;
            return;
        }
        match Envelope::split(bytes) {
            None => self.handle(now, Frame::take(&mut { bytes }).expect("a bare frame")),
            Some((envelope, mut frames)) => {
                assert_eq!(envelope.number, 0);
                while !frames.is_empty() && self.session.as_ref().is_some_and(|session| session.key == envelope.key) {
                    self.handle(now, Frame::take(&mut frames).expect("the client follows the protocol"));
                }
            }
        }
    }

    fn send(&mut self, frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        if let Some(session) = self.session.as_ref().filter(|_| self.datagrams) {
            Envelope { key: session.key, number: 0 }.write(&mut bytes);
        }
        frame.write(&mut bytes);
        self.out.push(bytes);
    }

    fn handle(&mut self, now: Instant, frame: Frame<'_>) {
        if let Frame::Hello(hello) = &frame {
            return self.hello(hello);
        }
        let Some(session) = &mut self.session else { return };
        match frame {
            Frame::Ack(ack) => {
                for (number, items) in &session.carried {
                    if ack.contains(*number) {
                        items.iter().for_each(|&item| session.items[item].acked = true);
                    }
                }
            }
            Frame::Send(send) if send.id == session.last_message + 1 => {
                session.last_message = send.id;
                let sequence = self.append(true, send.payload);
                let session = self.session.as_mut().expect("it was here");
                session.receipts.insert(send.id, (sequence, 7));
                self.send(&Frame::Receipt(Receipt { id: send.id, sequence, due: 7, repeat: false }));
            }
            Frame::Send(send) if send.id <= session.last_message => {
                if session.last_message - send.id >= 64 {
                    let (code, about, reference) = (Code::Stale, kind::SEND, send.id);
                    return self.send(&Frame::Error(ErrorFrame { code, about, reference, text: "too old" }));
                }
                let (sequence, due) = session.receipts[&send.id];
                self.send(&Frame::Receipt(Receipt { id: send.id, sequence, due, repeat: true }));
            }
            Frame::Send(_) => assert!(self.datagrams, "on a stream they arrive in order"),
            Frame::Ping { nonce, .. } => self.send(&Frame::Pong { nonce }),
            Frame::Subscribe(request) => {
                let (request, filters) = (request.request, request.filters.clone());
                self.send(&Frame::Subscribed { request, from: 1, everything: false, filters });
            }
            Frame::Bye(_) => self.send(&Frame::Bye("closed")),
            other => panic!("{other:?}"),
        }
        let _ = now;
    }

    fn hello(&mut self, hello: &Hello<'_>) {
        let nonce = hello.nonce;
        if self.datagrams && hello.cookie != Some(COOKIE) {
            return self.out.push(Frame::Retry { nonce, cookie: COOKIE }.to_vec());
        }
        if let Some((_, welcome)) = self.welcome.as_ref().filter(|(of, _)| *of == nonce) {
            return self.out.push(welcome.clone());
        }
        let resumed = match (&mut self.session, &hello.resume) {
            (Some(session), Some(resume)) if (session.id, session.secret) == (resume.id, resume.secret) => {
                for item in &mut session.items {
                    (item.acked, item.sent) = (item.sequence <= resume.last, None);
                }
                session.carried.clear();
                session.number = 0;
                session.key = self.random.u64(1..);
                true
            }
            (_, Some(resume)) => {
                // A restarted daemon that checks the sequence first.
                let is_ahead = resume.last > self.log.len() as u64;
                let error = ErrorFrame {
                    code: if is_ahead { Code::Malformed } else { Code::UnknownSession },
                    about: kind::HELLO,
                    reference: nonce,
                    text: "there is no such session",
                };
                return self.out.push(Frame::Error(error).to_vec());
            }
            _ => false,
        };
        if !resumed {
            self.session = Some(ModelSession {
                id: self.random.u64(1..),
                secret: [self.random.u8(..); 16],
                key: self.random.u64(1..),
                start: self.log.len() as u64 + 1,
                items: Vec::new(),
                last_message: 0,
                receipts: BTreeMap::new(),
                number: 0,
                carried: BTreeMap::new(),
            });
        }
        self.connected = true;
        let session = self.session.as_ref().expect("there is one by now");
        let welcome = Frame::Welcome(Welcome {
            version: 1,
            resumed,
            lease: if self.datagrams { 30_000 } else { 0 },
            id: session.id,
            secret: session.secret,
            key: session.key,
            log: self.log_id,
            start: hello.resume.filter(|_| resumed).map_or(session.start, |resume| resume.last + 1),
            next: self.log.len() as u64 + 1,
            nonce,
            last_message: session.last_message,
            max_message: 60_000,
        });
        self.welcome = Some((nonce, welcome.to_vec()));
        self.out.push(welcome.to_vec());
    }

    /// Sends what is due: in datagrams of a few items, which are repeated until they are acknowledged.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(session) = self.session.as_mut().filter(|_| self.connected) else { return };
        let mut to_send: Vec<usize> = Vec::new();
        for (at, item) in session.items.iter().enumerate().filter(|(_, item)| !item.acked).take(24) {
            let again = self.datagrams && item.sent.is_some_and(|sent| now - sent > Duration::from_millis(300));
            if item.sent.is_none() || again {
                to_send.push(at);
            }
        }
        while !to_send.is_empty() {
            let count = self.random.usize(1..=to_send.len().min(4));
            let items: Vec<usize> = to_send.drain(..count).collect();
            let mut bytes = Vec::new();
            if self.datagrams {
                session.number += 1;
                Envelope { key: session.key, number: session.number }.write(&mut bytes);
                session.carried.insert(session.number, items.clone());
            }
            for at in items {
                let DueItem { prev, sequence, is_gap, .. } = session.items[at];
                session.items[at].sent = Some(now);
                session.items[at].acked |= !self.datagrams;
                if is_gap {
                    let gap = Gap { first: prev + 1, last: sequence, reason: GapReason::SlowConsumer };
                    Frame::Gap(gap).write(&mut bytes);
                } else {
                    let payload = &self.log[sequence as usize - 1].1;
                    let prev = prev as u32;
                    Frame::Upcall(Upcall { sequence, source: 1, time: 0, prev, topic: "", payload }).write(&mut bytes);
                }
            }
            self.out.push(bytes);
        }
    }

    /// The start of the session, and the sequences that were due from there on.
    pub(super) fn due(&self) -> (u64, Vec<u64>) {
        let start = self.session.as_ref().map_or(1, |session| session.start);
        let all = self.log.iter().enumerate().filter(|(_, (due, _))| *due).map(|(at, _)| at as u64 + 1);
        (start, all.filter(|sequence| *sequence >= start).collect())
    }
}
