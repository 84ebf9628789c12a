//! The load in upcalld's native protocol over datagrams, written from upcall-protocol(7): every datagram is acknowledged, every
//! input has its receipt, and upcalls are taken in order.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::datagrams::{Place, Socket, Watch};
use super::tracker::Progress;
use super::{Swarm, wrong};
use crate::drivers::native::{Frame, WANT_RECEIPT, frame, hello, kind, u64_at};
use crate::message::Message;
use crate::sys::Inbox;

/// The most SENDs without a receipt.
const UNANSWERED: u32 = 64;

/// Bytes of a datagram's header.
const DATAGRAM: usize = 20;

/// SENDs in a datagram of at most 1,200 bytes, beside an ACK.
const TOGETHER: usize = 14;

/// When a SEND without an answer is repeated.
const PATIENCE: Duration = Duration::from_millis(300);

/// The code of ERROR that says that inputs have to wait.
const BUSY: u16 = 11;

/// Receivers, the last of which is the publisher.
pub(crate) struct NativeDatagrams {
    window: u32,
    clients: Vec<Client>,
    watch: Watch,
    inbox: Inbox,
    /// The id of the last SEND.
    last: u64,
    unanswered: VecDeque<(u64, Message)>,
    /// When something was sent or answered.
    active: Instant,
}

struct Client {
    socket: Socket,
    key: u64,
    /// The last sequence that was dealt with.
    position: u64,
    arrived: Arrived,
    /// What has arrived is still to be acknowledged.
    owes: bool,
}

/// The numbers of the datagrams that have arrived, as ACK says them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arrived {
    largest: u64,
    bitmap: u64,
}

impl Arrived {
    fn note(&mut self, number: u64) {
        if number > self.largest {
            let by = number - self.largest;
            let bitmap = u64::try_from(u128::from(self.bitmap) << by.min(64) & u128::from(u64::MAX)).unwrap_or(0);
            let before = if (1..=64).contains(&by) && self.largest > 0 { 1 << (by - 1) } else { 0 };
            *self = Arrived { largest: number, bitmap: bitmap | before };
        } else if (1..=64).contains(&(self.largest - number)) {
            self.bitmap |= 1 << (self.largest - number - 1);
        }
    }
}

impl NativeDatagrams {
    /// Registers so many that each message is delivered `deliveries` times.
    pub(crate) fn join(place: &Place, deliveries: usize) -> io::Result<NativeDatagrams> {
        let mut watch = Watch::new()?;
        let mut inbox = Inbox::new(2048);
        let mut clients = Vec::new();
        for index in 0..deliveries {
            let client = Client::join(place, index, &mut inbox)?;
            watch.add(&client.socket, index)?;
            clients.push(client);
        }
        let window = place.window().min(UNANSWERED);
        let active = Instant::now();
        Ok(NativeDatagrams { window, clients, watch, inbox, last: 0, unanswered: VecDeque::new(), active })
    }

    /// Sends, or sends again, all that is unanswered from this place on.
    fn send(&mut self, from: usize) -> io::Result<()> {
        self.active = Instant::now();
        let publisher = self.clients.len() - 1;
        let publisher = &mut self.clients[publisher];
        let unanswered = self.unanswered.make_contiguous();
        let datagrams: Vec<Vec<u8>> = unanswered[from..]
            .chunks(TOGETHER)
            .map(|sends| {
                let mut out = datagram(publisher.key);
                publisher.acknowledge_in(&mut out);
                for (id, message) in sends {
                    frame(kind::SEND, WANT_RECEIPT, &[&id.to_be_bytes(), message], &mut out);
                }
                out
            })
            .collect();
        let datagrams: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        publisher.socket.send(&datagrams)
    }

    fn read(&mut self, index: usize, progress: &mut Progress) -> io::Result<()> {
        let client = &mut self.clients[index];
        for i in 0..client.socket.receive(&mut self.inbox)? {
            let bytes = self.inbox.datagram(i);
            if !bytes.starts_with(&[0, kind::DATAGRAM]) || u64_at(bytes, 4) != Some(client.key) {
                continue;
            }
            let number = u64_at(bytes, 12).unwrap_or(0);
            let mut early = false;
            let mut rest = &bytes[DATAGRAM..];
            while let Some(frame) = Frame::read(rest) {
                rest = &rest[frame.used..];
                match frame.kind {
                    kind::UPCALL => early |= !client.upcall(index, &frame, progress)?,
                    kind::RECEIPT => {
                        self.active = Instant::now();
                        let id = u64_at(frame.body, 0);
                        self.unanswered.retain(|(unanswered, _)| Some(*unanswered) != id);
                    }
                    kind::ERROR if frame.body.starts_with(&BUSY.to_be_bytes()) => {}
                    kind::GAP | kind::ERROR | kind::BYE => {
                        return Err(wrong(format!(
                            "client {index}: a frame of kind {:#x}: {:?}",
                            frame.kind, frame.body
                        )));
                    }
                    _ => {}
                }
            }
            // One that is early is not kept, and so must not be acknowledged: it will come again.
            if number > 0 && !early {
                client.arrived.note(number);
                client.owes = true;
            }
        }
        // The publisher sends something first, if it has anything: as upcall-client does, it acknowledges with that.
        if index + 1 == self.clients.len() { Ok(()) } else { self.acknowledge(index) }
    }

    /// Acknowledges what has arrived at a client, if that was not done yet.
    fn acknowledge(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        let mut out = datagram(client.key);
        if client.acknowledge_in(&mut out) { client.socket.send(&[&out]) } else { Ok(()) }
    }
}

impl Client {
    fn join(place: &Place, index: usize, inbox: &mut Inbox) -> io::Result<Client> {
        let mut socket = Socket::open(place, index)?;
        let nonce = index as u64 + 1;
        let begin = Instant::now();
        socket.send(&[&hello(nonce)])?;
        while begin.elapsed() < Duration::from_secs(5) {
            if socket.receive(inbox)? == 0 {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let welcome = Frame::read(inbox.datagram(0)).filter(|frame| frame.kind == kind::WELCOME);
            let Some(welcome) = welcome else {
                let said = inbox.datagram(0).escape_ascii();
                return Err(wrong(format!("no WELCOME came, but \"{said}\"")));
            };
            let field = |at| u64_at(welcome.body, at).unwrap_or(0);
            return Ok(Client {
                socket,
                key: field(32),
                position: field(48) - 1,
                arrived: Arrived::default(),
                owes: false,
            });
        }
        Err(wrong("no WELCOME came"))
    }

    /// Takes an upcall if it is its turn, or was: false for one that is early.
    fn upcall(&mut self, index: usize, frame: &Frame, progress: &mut Progress) -> io::Result<bool> {
        let sequence = u64_at(frame.body, 0).unwrap_or(0);
        if sequence <= self.position {
            return Ok(true);
        }
        if frame.body.get(20..24) != Some(&(self.position as u32).to_be_bytes()[..]) {
            return Ok(false);
        }
        self.position = sequence;
        progress.arrived(index, frame.payload()).map_err(wrong)?;
        Ok(true)
    }

    /// Adds an ACK to a datagram, if one is owed; says whether it was.
    fn acknowledge_in(&mut self, out: &mut Vec<u8>) -> bool {
        let owes = std::mem::take(&mut self.owes);
        if owes {
            let Arrived { largest, bitmap } = self.arrived;
            frame(kind::ACK, 0, &[&largest.to_be_bytes(), &bitmap.to_be_bytes()], out);
        }
        owes
    }
}

/// The header of a datagram.
fn datagram(key: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(1200);
    out.extend_from_slice(&[0, kind::DATAGRAM, 0, 0]);
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    out
}

impl Swarm for NativeDatagrams {
    fn receivers(&self) -> usize {
        self.clients.len()
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn publish(&mut self, count: u32, progress: &mut Progress) -> io::Result<()> {
        let from = self.unanswered.len();
        for _ in 0..count {
            self.last += 1;
            self.unanswered.push_back((self.last, progress.send()));
        }
        self.send(from)
    }

    fn turn(&mut self, timeout: Duration, progress: &mut Progress) -> io::Result<()> {
        self.acknowledge(self.clients.len() - 1)?;
        for event in 0..self.watch.wait(timeout)? {
            self.read(self.watch.index(event), progress)?;
        }
        if !self.unanswered.is_empty() && self.active.elapsed() > PATIENCE { self.send(0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived() {
        let mut arrived = Arrived::default();
        for number in [1, 2, 4] {
            arrived.note(number);
        }
        assert_eq!(arrived, Arrived { largest: 4, bitmap: 0b110 });
        arrived.note(3);
        assert_eq!(arrived, Arrived { largest: 4, bitmap: 0b111 });
        arrived.note(68);
        assert_eq!(arrived, Arrived { largest: 68, bitmap: 1 << 63 });
        arrived.note(200);
        assert_eq!(arrived, Arrived { largest: 200, bitmap: 0 });
    }
}
