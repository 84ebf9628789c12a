//! The load in upcalld's native protocol over datagrams, written from upcall-protocol(7): datagrams are acknowledged,
//! inputs get receipts, and upcalls are accepted in order.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::datagrams::{DatagramAddress, LoadSocket, SocketPoll};
use super::tracker::DeliveryTracker;
use super::{LoadClients, invalid_data};
use crate::drivers::native::{RawFrame, WANT_RECEIPT, frame, hello, kind, u64_at};
use crate::message::TestMessage;
use crate::sys::DatagramBatch;

/// The most SEND frames without a receipt.
const MAX_UNANSWERED: u32 = 64;

/// Bytes of a datagram's header.
const DATAGRAM: usize = 20;

/// How many SEND frames fit into a datagram of 1,200 bytes, beside an ACK.
const SENDS_PER_DATAGRAM: usize = 14;

/// How long to wait for a receipt before SEND frames are repeated.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// The code of an ERROR that reports that inputs are held.
const BUSY: u16 = 11;

/// The receivers; the last of them is also the publisher.
pub(crate) struct NativeDatagrams {
    window: u32,
    clients: Vec<NativeDatagramClient>,
    poll: SocketPoll,
    batch: DatagramBatch,
    /// The id of the last SEND.
    last: u64,
    unanswered: VecDeque<(u64, TestMessage)>,
    /// When the last SEND or the last RECEIPT was handled.
    active: Instant,
}

struct NativeDatagramClient {
    socket: LoadSocket,
    key: u64,
    /// The last sequence that was accepted.
    position: u64,
    received: ReceivedNumbers,
    /// Datagrams were received that are not acknowledged yet.
    ack_pending: bool,
}

/// The numbers of the datagrams that were received, as an ACK carries them.
#[derive(Debug, Default, PartialEq, Eq)]
struct ReceivedNumbers {
    largest: u64,
    bitmap: u64,
}

impl ReceivedNumbers {
    fn note(&mut self, number: u64) {
        if number > self.largest {
            let by = number - self.largest;
            let bitmap = u64::try_from(u128::from(self.bitmap) << by.min(64) & u128::from(u64::MAX)).unwrap_or(0);
            let before = if (1..=64).contains(&by) && self.largest > 0 { 1 << (by - 1) } else { 0 };
            *self = ReceivedNumbers { largest: number, bitmap: bitmap | before };
        } else if (1..=64).contains(&(self.largest - number)) {
            self.bitmap |= 1 << (self.largest - number - 1);
        }
    }
}

impl NativeDatagrams {
    /// Registers clients, so that each message has this number of deliveries.
    pub(crate) fn join(address: &DatagramAddress, deliveries: usize) -> io::Result<NativeDatagrams> {
        let mut poll = SocketPoll::new()?;
        let mut batch = DatagramBatch::new(2048);
        let mut clients = Vec::new();
        for index in 0..deliveries {
            let client = NativeDatagramClient::join(address, index, &mut batch)?;
            poll.add(&client.socket, index)?;
            clients.push(client);
        }
        let window = address.window().min(MAX_UNANSWERED);
        let active = Instant::now();
        Ok(NativeDatagrams { window, clients, poll, batch, last: 0, unanswered: VecDeque::new(), active })
    }

    /// Sends the inputs without a receipt from this index on, some perhaps again.
    fn send(&mut self, from: usize) -> io::Result<()> {
        self.active = Instant::now();
        let publisher = self.clients.len() - 1;
        let publisher = &mut self.clients[publisher];
        let unanswered = self.unanswered.make_contiguous();
        let datagrams: Vec<Vec<u8>> = unanswered[from..]
            .chunks(SENDS_PER_DATAGRAM)
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

    fn read(&mut self, index: usize, tracker: &mut DeliveryTracker) -> io::Result<()> {
        let client = &mut self.clients[index];
        for i in 0..client.socket.receive(&mut self.batch)? {
            let bytes = self.batch.datagram(i);
            if !bytes.starts_with(&[0, kind::DATAGRAM]) || u64_at(bytes, 4) != Some(client.key) {
                continue;
            }
            let number = u64_at(bytes, 12).unwrap_or(0);
            let mut early = false;
            let mut rest = &bytes[DATAGRAM..];
            while let Some(frame) = RawFrame::read(rest) {
                rest = &rest[frame.used..];
                match frame.kind {
                    kind::UPCALL => early |= !client.upcall(index, &frame, tracker)?,
                    kind::RECEIPT => {
                        self.active = Instant::now();
                        let id = u64_at(frame.body, 0);
                        self.unanswered.retain(|(unanswered, _)| Some(*unanswered) != id);
                    }
                    kind::ERROR if frame.body.starts_with(&BUSY.to_be_bytes()) => {}
                    kind::GAP | kind::ERROR | kind::BYE => {
                        return Err(invalid_data(format!(
                            "client {index}: a frame of kind {:#x}: {:?}",
                            frame.kind, frame.body
                        )));
                    }
                    _ => {}
                }
            }
            // A datagram with an early upcall is dropped. It must not be acknowledged, so that it is sent again.
            if number > 0 && !early {
                client.received.note(number);
                client.ack_pending = true;
            }
        }
        // The publisher sends its inputs first and acknowledges in the same datagram, as upcall-client does.
        if index + 1 == self.clients.len() { Ok(()) } else { self.acknowledge(index) }
    }

    /// Acknowledges what a client has received, unless that is already done.
    fn acknowledge(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        let mut out = datagram(client.key);
        if client.acknowledge_in(&mut out) { client.socket.send(&[&out]) } else { Ok(()) }
    }
}

impl NativeDatagramClient {
    fn join(address: &DatagramAddress, index: usize, batch: &mut DatagramBatch) -> io::Result<NativeDatagramClient> {
        let mut socket = LoadSocket::open(address, index)?;
        let nonce = index as u64 + 1;
        let begin = Instant::now();
        socket.send(&[&hello(nonce)])?;
        while begin.elapsed() < Duration::from_secs(5) {
            if socket.receive(batch)? == 0 {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let welcome = RawFrame::read(batch.datagram(0)).filter(|frame| frame.kind == kind::WELCOME);
            let Some(welcome) = welcome else {
                let answer = batch.datagram(0).escape_ascii();
                return Err(invalid_data(format!("expected WELCOME, received \"{answer}\"")));
            };
            let field = |at| u64_at(welcome.body, at).unwrap_or(0);
            return Ok(NativeDatagramClient {
                socket,
                key: field(32),
                position: field(48) - 1,
                received: ReceivedNumbers::default(),
                ack_pending: false,
            });
        }
        Err(invalid_data("no WELCOME was received in time"))
    }

    /// Accepts an upcall that is next in order or was received before. Returns false for one that is early.
    fn upcall(&mut self, index: usize, frame: &RawFrame, tracker: &mut DeliveryTracker) -> io::Result<bool> {
        let sequence = u64_at(frame.body, 0).unwrap_or(0);
        if sequence <= self.position {
            return Ok(true);
        }
        if frame.body.get(20..24) != Some(&(self.position as u32).to_be_bytes()[..]) {
            return Ok(false);
        }
        self.position = sequence;
        tracker.received(index, frame.payload()).map_err(invalid_data)?;
        Ok(true)
    }

    /// Adds an ACK to a datagram if one is pending. Returns whether it added one.
    fn acknowledge_in(&mut self, out: &mut Vec<u8>) -> bool {
        let ack_pending = std::mem::take(&mut self.ack_pending);
        if ack_pending {
            let ReceivedNumbers { largest, bitmap } = self.received;
            frame(kind::ACK, 0, &[&largest.to_be_bytes(), &bitmap.to_be_bytes()], out);
        }
        ack_pending
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

impl LoadClients for NativeDatagrams {
    fn receivers(&self) -> usize {
        self.clients.len()
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn publish(&mut self, count: u32, tracker: &mut DeliveryTracker) -> io::Result<()> {
        let from = self.unanswered.len();
        for _ in 0..count {
            self.last += 1;
            self.unanswered.push_back((self.last, tracker.send()));
        }
        self.send(from)
    }

    fn turn(&mut self, timeout: Duration, tracker: &mut DeliveryTracker) -> io::Result<()> {
        self.acknowledge(self.clients.len() - 1)?;
        for event in 0..self.poll.wait(timeout)? {
            self.read(self.poll.index(event), tracker)?;
        }
        if !self.unanswered.is_empty() && self.active.elapsed() > RETRY_AFTER { self.send(0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_numbers_become_a_bitmap() {
        let mut received = ReceivedNumbers::default();
        for number in [1, 2, 4] {
            received.note(number);
        }
        assert_eq!(received, ReceivedNumbers { largest: 4, bitmap: 0b110 });
        received.note(3);
        assert_eq!(received, ReceivedNumbers { largest: 4, bitmap: 0b111 });
        received.note(68);
        assert_eq!(received, ReceivedNumbers { largest: 68, bitmap: 1 << 63 });
        received.note(200);
        assert_eq!(received, ReceivedNumbers { largest: 200, bitmap: 0 });
    }
}
