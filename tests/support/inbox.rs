//! What a native client of a test has received: decoded, checked for holes, in order.

use std::collections::VecDeque;
use std::io::Read;

use upcall_wire::frame::datagram::{Arrivals, Envelope};
use upcall_wire::frame::{Ack, Code, Frame, FrameDecoder, Gap, Receipt, Welcome};

use super::{Datagram, Stream};

/// Larger than any payload of the tests.
const MAX: usize = 1 << 20;

/// Something that the daemon has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    Welcome(Welcome),
    /// The cookie.
    Retry(u64),
    Upcall(Upcall),
    Receipt(Receipt),
    Gap(Gap),
    Subscribed {
        request: u32,
        from: u64,
        everything: bool,
        filters: Vec<String>,
    },
    Error {
        code: Code,
        about: u8,
        reference: u64,
        text: String,
    },
    Ping(u64),
    Pong(u64),
    Bye(String),
    /// The end of a stream, and the text before it that was not a frame.
    End(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upcall {
    pub(crate) sequence: u64,
    pub(crate) source: u64,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    prev: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) received: VecDeque<Received>,
    /// The last sequence that was received or announced as a gap.
    pub(crate) position: u64,
    pub(crate) ended: bool,
    /// Upcalls that came again, over datagrams.
    pub(crate) duplicates: u64,
    /// How many datagrams with a number came: all of them.
    pub(crate) numbered: u64,
    pub(crate) is_datagram: bool,
    key: Option<u64>,
    nonce: u64,
    welcome: bool,
    arrivals: Arrivals,
    early: Vec<Received>,
    decoder: FrameDecoder,
    begun: bool,
    text: Vec<u8>,
}

impl Inbox {
    pub(super) fn new(is_datagram: bool) -> Inbox {
        Inbox { is_datagram, ..Inbox::default() }
    }

    /// The key of the session, once a WELCOME has come.
    pub(super) fn key(&self) -> Option<u64> {
        self.key
    }

    /// A HELLO with this nonce is about to be sent.
    pub(crate) fn begin(&mut self, nonce: u64) {
        (self.nonce, self.key, self.welcome) = (nonce, None, false);
        (self.arrivals, self.early) = (Arrivals::default(), Vec::new());
    }

    /// Reads once from a stream that has something.
    pub(super) fn read(&mut self, mut stream: &Stream) {
        let mut buffer = vec![0; 1 << 16];
        match stream.read(&mut buffer) {
            Ok(0) => self.end(String::from_utf8_lossy(&self.text).into_owned()),
            Ok(count) => self.bytes(&buffer[..count]),
            Err(error) => self.end(error.to_string()),
        }
    }

    fn end(&mut self, text: String) {
        self.ended = true;
        self.received.push_back(Received::End(text));
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        if !self.text.is_empty() || (!self.begun && bytes[0] != 0) {
            return self.text.extend_from_slice(bytes);
        }
        self.begun = true;
        let mut decoder = std::mem::take(&mut self.decoder);
        while let Some(frame) = decoder.next(&mut bytes, MAX).expect("the daemon's frames are well-formed") {
            self.frame(&frame);
        }
        self.decoder = decoder;
    }

    /// Reads the datagrams that are there; the ACK for them, if anything new has come.
    pub(super) fn receive(&mut self, socket: &Datagram) -> Option<Ack> {
        let before = self.numbered;
        for _ in 0..64 {
            let Some(datagram) = socket.receive_now() else { break };
            self.datagram(&datagram);
        }
        self.arrivals.ack().filter(|_| self.numbered > before)
    }

    fn datagram(&mut self, datagram: &[u8]) {
        let Some((envelope, mut frames)) = Envelope::split(datagram) else {
            let mut bare = datagram;
            let frame = Frame::take(&mut bare).expect("the daemon's frames are well-formed");
            assert!(bare.is_empty(), "a bare frame is alone");
            return match &frame {
                Frame::Welcome(welcome) if welcome.nonce != self.nonce || self.welcome => {}
                Frame::Error(error) if error.reference != self.nonce => {}
                frame => self.frame(frame),
            };
        };
        if self.key != Some(envelope.key) {
            return;
        }
        if envelope.number != 0 {
            self.numbered += 1;
            self.arrivals.add(envelope.number);
        }
        while !frames.is_empty() {
            self.frame(&Frame::take(&mut frames).expect("the daemon's frames are well-formed"));
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let owned = |filters: &[&str]| filters.iter().map(|filter| (*filter).to_owned()).collect();
        let item = match frame {
            Frame::Welcome(welcome) => {
                assert_eq!(welcome.nonce, self.nonce, "it answers our HELLO");
                (self.position, self.welcome) = (welcome.start - 1, true);
                self.key = self.is_datagram.then_some(welcome.key);
                Received::Welcome(*welcome)
            }
            Frame::Retry { cookie, .. } => Received::Retry(*cookie),
            Frame::Upcall(upcall) => {
                let (sequence, source, prev) = (upcall.sequence, upcall.source, upcall.prev);
                let (topic, payload) = (upcall.topic.to_owned(), upcall.payload.to_vec());
                return self.put_in_order(Received::Upcall(Upcall { sequence, source, topic, payload, prev }));
            }
            Frame::Gap(gap) => return self.put_in_order(Received::Gap(*gap)),
            Frame::Receipt(receipt) => Received::Receipt(*receipt),
            Frame::Subscribed { request, from, everything, filters } => Received::Subscribed {
                request: *request,
                from: *from,
                everything: *everything,
                filters: owned(filters),
            },
            Frame::Error(error) => Received::Error {
                code: error.code,
                about: error.about,
                reference: error.reference,
                text: error.text.to_owned(),
            },
            Frame::Ping { nonce, .. } => Received::Ping(*nonce),
            Frame::Pong { nonce } => Received::Pong(*nonce),
            Frame::Bye(reason) => Received::Bye((*reason).to_owned()),
            Frame::Skippable(_) => return,
            other => panic!("the daemon sends {other:?}"),
        };
        self.received.push_back(item);
    }

    /// The table of upcall-protocol(7), "Upcalls and gaps".
    fn put_in_order(&mut self, item: Received) {
        self.early.push(item);
        while let Some(index) = self.early.iter().position(|item| self.is_next(item)) {
            let mut item = self.early.swap_remove(index);
            match &mut item {
                Received::Gap(gap) => {
                    gap.first = self.position + 1;
                    self.position = gap.last;
                }
                Received::Upcall(upcall) => self.position = upcall.sequence,
                _ => {}
            }
            self.received.push_back(item);
        }
        let (position, before) = (self.position, self.early.len());
        self.early.retain(|item| last_of(item) > position);
        self.duplicates += (before - self.early.len()) as u64;
        let holes = !self.is_datagram && before > 0;
        assert!(!holes, "behind {position}: {:?}, or something twice", self.early);
    }

    fn is_next(&self, item: &Received) -> bool {
        match item {
            Received::Upcall(upcall) => upcall.sequence > self.position && upcall.prev == self.position as u32,
            Received::Gap(gap) => gap.last > self.position && gap.first - 1 <= self.position,
            _ => false,
        }
    }
}

fn last_of(item: &Received) -> u64 {
    match item {
        Received::Upcall(upcall) => upcall.sequence,
        Received::Gap(gap) => gap.last,
        _ => 0,
    }
}
