//! The client's side of the native protocol without I/O: bytes and the time in, bytes and events out.
//!
//! This is the lower-level interface. [`Client`](crate::Client) drives a `Machine` over sockets of its own; use it
//! directly to bring your own event loop, or to test. Unlike `Client`, it may change between minor versions.
//!
//! ```text
//! receive:  bytes → frames → ordering: upcalls in order
//!                          → sending: receipts for inputs
//!                          → subscriptions: answers to requests
//! transmit: what each of them has to send → bytes of a stream, or datagrams
//! timing:   when to send something again
//! ```
//!
//! A machine is deterministic: it has no clock, and its random numbers are derived from the seed. A driver
//!
//! 1. calls [`Machine::connect`] when it has a connection, or a datagram socket;
//! 2. passes received bytes to [`Machine::receive`];
//! 3. calls [`Machine::transmit`] and sends what that appends, until there is nothing more;
//! 4. calls [`Machine::expire`] at the time that [`Machine::due`] returns, and continues with step 3;
//! 5. takes events from [`Machine::event`] after each of these;
//! 6. calls [`Machine::disconnected`] when the connection is lost, and later starts again with step 1.
//!
//! Inputs without a receipt, filters and the position in the log survive a lost connection.
//!
//! A driver for a blocking stream that sends one input, and waits for its receipt:
//!
//! ```
//! # use std::os::linux::net::SocketAddrExt;
//! # use clap::Parser;
//! # let name = format!("upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &format!("unix://@{name}")];
//! # let daemon = upcalld::cli::DaemonOptions::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
//! # let mut socket = loop {
//! #     match std::os::unix::net::UnixStream::connect_addr(&address) {
//! #         Ok(socket) => break socket,
//! #         Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
//! #     }
//! # };
//! # let seed = 7;
//! use std::io::{ErrorKind, Read, Write};
//! use std::time::{Duration, Instant};
//! use upcall_client::machine::{Carrier, Event, Machine, Settings};
//!
//! let mut machine = Machine::new(Settings::new(Carrier::Stream), seed);
//! machine.connect(Instant::now());
//! machine.send("door/front", b"open");
//! let (mut output, mut buffer) = (Vec::new(), [0; 4096]);
//! let sequence = 'connected: loop {
//!     while machine.transmit(Instant::now(), &mut output) {}
//!     socket.write_all(&output)?;
//!     output.clear();
//!
//!     let wait = machine.due().map(|due| due.saturating_duration_since(Instant::now()));
//!     socket.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
//!     match socket.read(&mut buffer) {
//!         Ok(0) => machine.disconnected(),
//!         Ok(length) => machine.receive(Instant::now(), &buffer[..length]),
//!         Err(error) if error.kind() == ErrorKind::WouldBlock => {}
//!         Err(error) => return Err(error),
//!     }
//!     machine.expire(Instant::now());
//!
//!     while let Some(event) = machine.event() {
//!         match event {
//!             Event::Receipt { sequence, .. } => break 'connected sequence,
//!             Event::Disconnected(reason) => panic!("{reason:?}"),
//!             _ => {}
//!         }
//!     }
//! };
//! assert_eq!(sequence, 1);
//! # Ok::<(), std::io::Error>(())
//! ```

mod event;
mod ordering;
mod receive;
mod sending;
mod settings;
mod state;
mod subscriptions;
mod timing;
mod transmit;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_wire::frame::datagram::Arrivals;
use upcall_wire::frame::{Code, FrameDecoder, Resume};

pub use event::{DisconnectReason, Event, InputId, Loss, Upcall};
pub use settings::{Carrier, ResumeTicket, Settings};

use ordering::UpcallOrder;
use sending::SendQueue;
use state::{Lifecycle, Ping, Registration};
use subscriptions::Subscriptions;
use timing::{Attempt, RoundTrip};

/// The client's side of the protocol.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    random: Rng,
    registration: Registration,
    lifecycle: Lifecycle,
    session: Option<ResumeTicket>,
    /// Whether the daemon has refused to resume the session, so that the next HELLO begins a new one.
    session_refused: bool,
    order: UpcallOrder,
    inputs: SendQueue,
    subscriptions: Subscriptions,
    pings: Vec<Ping>,
    /// The nonces of PINGs to answer.
    pongs: Vec<u64>,
    decoder: FrameDecoder,
    arrivals: Arrivals,
    /// Whether datagrams have arrived since the last ACK.
    ack_due: bool,
    round_trip: RoundTrip,
    /// When the last authentic bytes arrived.
    last_received: Option<Instant>,
    /// The interval of PINGs: that of the settings, or a third of the lease if that is shorter.
    ping_interval: Duration,
    /// When the machine sends its own next PING.
    ping_at: Option<Instant>,
    events: VecDeque<Event>,
}

impl Machine {
    /// Creates a machine without a connection. The seed determines its random numbers. It should be unpredictable to
    /// others; in a test, a fixed seed makes the run reproducible.
    pub fn new(settings: Settings, seed: u64) -> Machine {
        let session = settings.resume;
        let is_stream = settings.carrier == Carrier::Stream;
        Machine {
            random: Rng::with_seed(seed),
            registration: Registration::Disconnected,
            lifecycle: Lifecycle::Active,
            session,
            session_refused: false,
            order: UpcallOrder::new(is_stream, session.map_or(0, |session| session.last)),
            inputs: SendQueue::new(),
            subscriptions: Subscriptions::new(settings.filters.clone(), session.map_or(1, |session| session.request)),
            pings: Vec::new(),
            pongs: Vec::new(),
            decoder: FrameDecoder::default(),
            arrivals: Arrivals::default(),
            ack_due: false,
            round_trip: RoundTrip::default(),
            last_received: None,
            ping_interval: settings.ping_interval,
            ping_at: None,
            events: VecDeque::new(),
            settings,
        }
    }

    /// Begins a registration over a new connection, or a datagram socket. Has no effect once [`Machine::is_over`].
    pub fn connect(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        self.decoder = FrameDecoder::default();
        self.pongs.clear();
        self.ack_due = false;
        self.last_received = Some(now);
        self.ping_at = None;
        let last = self.order.last();
        let known = self.session.filter(|_| !self.session_refused);
        self.begin_hello(known.map(|ResumeTicket { id, secret, .. }| Resume { id, secret, last }));
    }

    /// Makes a HELLO the next thing to send: it resumes this session, or begins a new one.
    fn begin_hello(&mut self, resume: Option<Resume>) {
        if resume.is_none() {
            self.subscriptions.begin_hello();
        }
        let (nonce, attempt) = (self.random.u64(1..), Attempt::default());
        self.registration = Registration::AwaitingWelcome { nonce, cookie: None, resume, attempt };
    }

    /// Reports that the connection is lost: it was closed, or broke.
    pub fn disconnected(&mut self) {
        if !matches!(self.registration, Registration::Disconnected) {
            self.end(if self.is_leaving() { DisconnectReason::Left } else { DisconnectReason::Closed });
        }
    }

    /// Ends the registration, and the machine if the reason is final or it is leaving.
    fn end(&mut self, reason: DisconnectReason) {
        self.registration = Registration::Disconnected;
        self.ping_at = None;
        self.pings.retain(|ping| ping.by_caller);
        for ping in &mut self.pings {
            (ping.cookie, ping.attempt) = (None, Attempt::default());
        }
        if reason.is_final() || self.is_leaving() {
            self.lifecycle = Lifecycle::Over;
        }
        self.events.push_back(Event::Disconnected(reason));
        if self.is_over() {
            self.abandon_inputs();
        }
    }

    /// Gives up all inputs without a receipt, and reports each of them.
    fn abandon_inputs(&mut self) {
        for (input, was_sent) in self.inputs.abandon() {
            self.events.push_back(match was_sent {
                true => Event::Unknown { input },
                false => Event::Rejected { input, code: Code::Refused, text: "it was never sent".into() },
            });
        }
    }

    /// Whether this client is registered.
    pub fn is_ready(&self) -> bool {
        matches!(self.registration, Registration::Registered { .. })
    }

    /// Whether the machine has ended for good, so that [`Machine::connect`] has no effect.
    pub fn is_over(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Over)
    }

    fn is_leaving(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Leaving(_))
    }

    /// The ticket that resumes the session, once there is one. Everything that was returned as an event counts as
    /// processed.
    pub fn session(&self) -> Option<ResumeTicket> {
        let (last, request) = (self.order.last(), self.subscriptions.next_id());
        self.session.map(|session| ResumeTicket { last, request, ..session })
    }

    /// The largest payload of an input, in bytes; `None` while not registered.
    pub fn max_message(&self) -> Option<usize> {
        match self.registration {
            Registration::Registered { max_message, .. } => Some(max_message),
            _ => None,
        }
    }

    /// Whether [`Machine::send`] accepts another input. At most 64 can be without a receipt.
    pub fn has_room(&self) -> bool {
        self.inputs.has_room() && matches!(self.lifecycle, Lifecycle::Active)
    }

    /// Whether every input has been answered.
    pub fn is_flushed(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Queues an input, which is sent until it is answered. The caller guarantees that the topic is empty or valid
    /// ([`upcall_wire::topic::is_topic`]). Returns the number that [`Event::Receipt`], [`Event::Rejected`] or
    /// [`Event::Unknown`] will have, or `None` if there is no room.
    pub fn send(&mut self, topic: &str, payload: &[u8]) -> Option<InputId> {
        self.has_room().then(|| self.inputs.push(topic, payload))
    }

    /// Adds filters. Returns the number that [`Event::Subscribed`] or [`Event::NotSubscribed`] will have.
    pub fn subscribe(&mut self, filters: &[&str]) -> u64 {
        self.subscriptions.change(true, filters)
    }

    /// Removes filters. Returns the number that [`Event::Subscribed`] or [`Event::NotSubscribed`] will have.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> u64 {
        self.subscriptions.change(false, filters)
    }

    /// Sends a PING as soon as this client is registered. Returns the nonce that [`Event::Pong`] will have.
    pub fn ping(&mut self) -> u64 {
        self.add_ping(true)
    }

    /// Cancels a [`Machine::ping`].
    pub fn forget_ping(&mut self, nonce: u64) {
        self.pings.retain(|ping| ping.nonce != nonce);
    }

    fn add_ping(&mut self, by_caller: bool) -> u64 {
        let nonce = self.random.u64(1..);
        self.pings.push(Ping { nonce, cookie: None, by_caller, attempt: Attempt::default() });
        nonce
    }

    /// Leaves: sends BYE as soon as every input has been answered. Upcalls that are due until the daemon answers still
    /// arrive.
    pub fn leave(&mut self) {
        if matches!(self.lifecycle, Lifecycle::Active) {
            self.lifecycle = Lifecycle::Leaving(Attempt::default());
            if matches!(self.registration, Registration::Disconnected) {
                self.end(DisconnectReason::Left);
            }
        }
    }

    /// Leaves immediately, and gives up the inputs without a receipt.
    pub fn leave_now(&mut self) {
        self.abandon_inputs();
        self.leave();
    }

    /// Takes the next event.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn is_stream(&self) -> bool {
        self.settings.carrier == Carrier::Stream
    }
}

#[cfg(test)]
mod tests;
