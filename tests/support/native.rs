//! A native client for tests, on any transport. It acknowledges and orders datagrams as a client must, and fails the
//! test at once when something is missing that was not announced, or comes twice on a stream.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{Code, Filters, Frame, Hello, Resume, Send, Welcome, kind};

use super::inbox::{Inbox, Received, Upcall};
use super::retry::ready_within;
use super::{Daemon, Datagram, Stream};

/// How long to wait for an answer to a datagram before it is sent again.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long to wait for an answer before the test fails.
const ANSWER: Duration = Duration::from_secs(20);

/// How a client reaches the daemon.
#[derive(Debug)]
pub(crate) enum Link {
    Stream(Stream),
    Datagrams(Datagram),
}

/// A client.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) link: Link,
    pub(crate) inbox: Inbox,
    pub(crate) welcome: Option<Welcome>,
    /// The id of the last SEND.
    pub(crate) message: u64,
    /// The id of the last SUBSCRIBE or UNSUBSCRIBE.
    pub(crate) request: u32,
    /// Whether it acknowledges datagrams.
    pub(crate) acknowledges: bool,
    nonce: u64,
}

impl Native {
    /// Connects, and sends nothing yet.
    pub(crate) fn connect(url: &str) -> Native {
        let is_datagram = url.starts_with("udp:") || url.starts_with("unix-datagram:");
        let link = if is_datagram { Link::Datagrams(Datagram::open(url)) } else { Link::Stream(Stream::connect(url)) };
        Native::over(link)
    }

    pub(crate) fn over(link: Link) -> Native {
        let inbox = Inbox::new(matches!(link, Link::Datagrams(_)));
        Native { link, inbox, welcome: None, message: 0, request: 0, acknowledges: true, nonce: 0 }
    }

    /// Registers for everything.
    pub(crate) fn join(daemon: &Daemon, listener: &str) -> Native {
        Native::join_as(daemon, listener, &Hello::new(0))
    }

    /// Registers with this HELLO; the nonce, the padding and the cookie are set here.
    pub(crate) fn join_as(daemon: &Daemon, listener: &str, hello: &Hello<'_>) -> Native {
        let mut native = Native::connect(&daemon.url(listener));
        native.register(hello);
        native
    }

    /// Sends HELLO; the answer must be WELCOME.
    #[track_caller]
    pub(crate) fn register(&mut self, hello: &Hello<'_>) -> Welcome {
        match self.hello(hello) {
            Received::Welcome(welcome) => welcome,
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Sends HELLO until it is answered; the answer is a WELCOME, an ERROR, or the end.
    pub(crate) fn hello(&mut self, hello: &Hello<'_>) -> Received {
        let hello = self.send_hello(hello);
        self.hello_answer(hello)
    }

    /// Connects and sends HELLO while the daemon is stopped, so that it finds the HELLO as soon as it accepts the
    /// connection.
    pub(crate) fn hello_at_accept(daemon: &Daemon, listener: &str, hello: &Hello<'_>) -> (Native, Received) {
        let url = daemon.url(listener);
        daemon.stop();
        let mut native = Native::connect(&url);
        let hello = native.send_hello(hello);
        daemon.signal(Signal::SIGCONT);
        let answer = native.hello_answer(hello);
        (native, answer)
    }

    /// Sends HELLO, once, with the nonce and the padding that are returned.
    fn send_hello<'a>(&mut self, hello: &Hello<'a>) -> Hello<'a> {
        static NONCES: AtomicU64 = AtomicU64::new(0x1122_3344_5566_7788);
        self.nonce = NONCES.fetch_add(1, Ordering::Relaxed);
        self.inbox.begin(self.nonce);
        let hello = Hello { nonce: self.nonce, padding: 16, ..hello.clone() };
        self.raw(&Frame::Hello(hello.clone()).to_vec());
        hello
    }

    fn hello_answer(&mut self, mut hello: Hello<'_>) -> Received {
        let end = Instant::now() + ANSWER;
        loop {
            assert!(Instant::now() < end, "HELLO is not answered");
            let is_answer = |item: &Received| {
                matches!(item, Received::Welcome(_) | Received::Retry(_) | Received::End(_) | Received::Bye(_))
                    || matches!(item, Received::Error { about: kind::HELLO, .. })
            };
            let patience = if matches!(self.link, Link::Stream(_)) { ANSWER } else { PATIENCE };
            match self.take_within(patience, is_answer) {
                Some(Received::Retry(cookie)) => hello.cookie = Some(cookie),
                Some(Received::Welcome(welcome)) => {
                    self.welcome = Some(welcome);
                    self.message = welcome.last_message;
                    if !welcome.resumed {
                        self.request = 0;
                    }
                    return Received::Welcome(welcome);
                }
                Some(other) => return other,
                None => {}
            }
            self.raw(&Frame::Hello(hello.clone()).to_vec());
        }
    }

    /// What resumes its session at its current position.
    pub(crate) fn session(&self) -> Resume {
        Resume { id: self.welcome().id, secret: self.welcome().secret, last: self.inbox.position }
    }

    #[track_caller]
    pub(crate) fn welcome(&self) -> Welcome {
        self.welcome.expect("it is registered")
    }

    /// Another connection, which resumes the session at the current position.
    pub(crate) fn resume(&self, url: &str) -> Native {
        let mut native = Native::connect(url);
        (native.message, native.request, native.inbox.position) = (self.message, self.request, self.inbox.position);
        native.register(&Hello { resume: Some(self.session()), ..Hello::new(0) });
        native
    }

    /// Sends bytes as they are: on a stream, or as a datagram.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        match &self.link {
            Link::Stream(stream) => stream.send(bytes),
            Link::Datagrams(socket) => socket.send(bytes),
        }
    }

    /// Puts an envelope around the frames if the transport needs one.
    pub(crate) fn wrap(&self, frames: &[u8]) -> Vec<u8> {
        // The inbox knows the key before the test has taken the WELCOME, and what came with it is acknowledged.
        let key = self.inbox.key().or(self.welcome.map(|welcome| welcome.key));
        match (&self.link, key) {
            (Link::Datagrams(_), Some(key)) => {
                let mut bytes = Vec::new();
                Envelope { key, number: 0 }.write(&mut bytes);
                [&bytes, frames].concat()
            }
            _ => frames.to_vec(),
        }
    }

    /// Sends the bytes of frames, as those of a registered endpoint.
    pub(crate) fn frames(&self, bytes: &[u8]) {
        self.raw(&self.wrap(bytes));
    }

    pub(crate) fn send_frame(&self, frame: &Frame<'_>) {
        self.frames(&frame.to_vec());
    }

    /// Sends an input once, and asks for a receipt. Returns its id.
    pub(crate) fn send(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> u64 {
        self.message += 1;
        self.send_again(self.message, topic, payload.as_ref());
        self.message
    }

    pub(crate) fn send_again(&self, id: u64, topic: &str, payload: &[u8]) {
        self.send_frame(&Frame::Send(Send { id, receipt: true, topic, payload }));
    }

    /// Sends an input until there is a receipt. Returns its sequence, and to how many other endpoints it is due.
    #[track_caller]
    pub(crate) fn send_confirmed(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> (u64, u32) {
        let id = self.send(topic, payload.as_ref());
        let end = Instant::now() + ANSWER;
        loop {
            assert!(Instant::now() < end, "SEND {id} is not answered; {:?} is there", self.inbox.received);
            let is_answer = |item: &Received| match item {
                Received::Receipt(receipt) => receipt.id == id,
                Received::Error { about, reference, .. } => *about == kind::SEND && *reference == id,
                Received::End(_) => true,
                _ => false,
            };
            let patience = if matches!(self.link, Link::Stream(_)) { ANSWER } else { PATIENCE };
            match self.take_within(patience, is_answer) {
                Some(Received::Receipt(receipt)) => return (receipt.sequence, receipt.due),
                None | Some(Received::Error { code: Code::Busy, .. }) => self.send_again(id, topic, payload.as_ref()),
                Some(other) => panic!("SEND {id} is answered by {other:?}"),
            }
        }
    }

    /// Changes the filters. Returns from which sequence on they are in force, and which they are.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, add: bool, filters: &[&str]) -> (u64, Vec<String>) {
        self.request += 1;
        let change = Filters { request: self.request, filters: filters.to_vec() };
        self.send_frame(&if add { Frame::Subscribe(change) } else { Frame::Unsubscribe(change) });
        let request = self.request;
        match self.take(|item| matches!(item, Received::Subscribed { .. } | Received::Error { .. } | Received::End(_)))
        {
            Received::Subscribed { request: same, from, filters, .. } if same == request => (from, filters),
            other => panic!("SUBSCRIBE {request} is answered by {other:?}"),
        }
    }

    /// Reads what there is, or waits for it at most this long. Returns whether there was anything.
    pub(crate) fn pump(&mut self, timeout: Duration) -> bool {
        if self.inbox.ended || !ready_within(self, PollFlags::POLLIN, timeout) {
            return false;
        }
        match &self.link {
            Link::Stream(stream) => self.inbox.read(stream),
            Link::Datagrams(socket) => {
                let ack = self.inbox.receive(socket);
                if let Some(ack) = ack.filter(|_| self.acknowledges) {
                    self.send_frame(&Frame::Ack(ack));
                }
            }
        }
        true
    }

    /// The first item that is wanted, within this time. The others stay in the inbox.
    pub(crate) fn take_within(&mut self, time: Duration, wanted: impl Fn(&Received) -> bool) -> Option<Received> {
        let end = Instant::now() + time;
        let mut seen = 0;
        loop {
            if let Some(index) = (seen..self.inbox.received.len()).find(|index| wanted(&self.inbox.received[*index])) {
                return self.inbox.received.remove(index);
            }
            seen = self.inbox.received.len();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || (!self.pump(left) && self.inbox.ended) {
                return None;
            }
        }
    }

    #[track_caller]
    pub(crate) fn take(&mut self, wanted: impl Fn(&Received) -> bool) -> Received {
        let found = self.take_within(ANSWER, wanted);
        found.unwrap_or_else(|| panic!("it has not come; there is {:?}", self.inbox.received))
    }

    /// The next item.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Received {
        self.take(|_| true)
    }

    /// The next upcall.
    #[track_caller]
    pub(crate) fn upcall(&mut self) -> Upcall {
        match self.take(|item| matches!(item, Received::Upcall(_) | Received::Gap(_) | Received::End(_))) {
            Received::Upcall(upcall) => upcall,
            other => panic!("instead of an upcall, {other:?} came"),
        }
    }

    /// The next ERROR: its code, and the kind and reference it is about.
    #[track_caller]
    pub(crate) fn error(&mut self) -> (Code, u8, u64) {
        match self.take(|item| matches!(item, Received::Error { .. } | Received::End(_))) {
            Received::Error { code, about, reference, .. } => (code, about, reference),
            other => panic!("instead of an error, {other:?} came"),
        }
    }

    /// All that the daemon has sent before it answers a PING.
    #[track_caller]
    pub(crate) fn so_far(&mut self) -> VecDeque<Received> {
        let end = Instant::now() + ANSWER;
        loop {
            self.send_frame(&Frame::Ping { nonce: 4711, cookie: None });
            if self.take_within(PATIENCE, |item| matches!(item, Received::Pong(4711))).is_some() {
                break;
            }
            assert!(Instant::now() < end && !self.inbox.ended, "no answer; there is {:?}", self.inbox.received);
        }
        // Over a stream it may have been slow, and asked more than once.
        self.inbox.received.retain(|item| *item != Received::Pong(4711));
        std::mem::take(&mut self.inbox.received)
    }

    /// Everything until the end of the stream, or until a BYE in a datagram.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            let item = self.next();
            let is_last = matches!((&item, &self.link), (Received::End(_), _) | (Received::Bye(_), Link::Datagrams(_)));
            all.push(item);
            if is_last {
                return all;
            }
        }
    }
}

impl AsFd for Native {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Stream(stream) => stream.as_fd(),
            Link::Datagrams(socket) => socket.as_fd(),
        }
    }
}
