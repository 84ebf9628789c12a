//! Tracks what was sent and what every receiver has received: checks number, order and content, and reports the
//! progress of the slowest receiver.

use std::time::{Duration, Instant};

use crate::message::{self, TestMessage};

/// For how many messages the content and the time of sending are kept: more than any window.
const RING: usize = 512;

/// The messages of one run.
pub(crate) struct DeliveryTracker {
    /// The number of the next message for each receiver.
    next: Vec<u32>,
    /// For each slot of the ring: how many receivers have its message next.
    waiting_at: [u32; RING],
    /// The next message for the slowest receiver.
    slowest: u32,
    sent: u32,
    messages: Box<[TestMessage; RING]>,
    sent_at: Vec<Instant>,
    deliveries: u64,
    latencies: Option<Vec<Duration>>,
}

impl DeliveryTracker {
    /// Creates a tracker for this many receivers, with nothing sent.
    pub(crate) fn new(receivers: usize) -> DeliveryTracker {
        let mut waiting_at = [0; RING];
        waiting_at[0] = receivers as u32;
        DeliveryTracker {
            next: vec![0; receivers],
            waiting_at,
            slowest: 0,
            sent: 0,
            messages: Box::new([[0; message::LENGTH]; RING]),
            sent_at: vec![Instant::now(); RING],
            deliveries: 0,
            latencies: None,
        }
    }

    /// The number of messages that were sent.
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// How many messages every receiver has received.
    pub(crate) fn complete(&self) -> u32 {
        self.slowest
    }

    /// How many messages all receivers together have received.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Records the latency of each delivery from now on.
    pub(crate) fn keep_latencies(&mut self) {
        self.latencies = Some(Vec::new());
    }

    /// The latencies that were recorded. Ends the recording.
    pub(crate) fn take_latencies(&mut self) -> Vec<Duration> {
        self.latencies.take().unwrap_or_default()
    }

    /// Returns the next message to send and counts it as sent.
    pub(crate) fn send(&mut self) -> TestMessage {
        let message = message::message(self.sent);
        let slot = self.sent as usize % RING;
        self.messages[slot] = message;
        if self.latencies.is_some() {
            self.sent_at[slot] = Instant::now();
        }
        self.sent += 1;
        message
    }

    /// Records that a receiver has received a message.
    ///
    /// # Errors
    /// A description, if it is not the next message for this receiver.
    pub(crate) fn received(&mut self, receiver: usize, bytes: &[u8]) -> Result<(), String> {
        let expected = self.next[receiver];
        let slot = expected as usize % RING;
        if expected == self.sent || bytes != self.messages[slot] {
            return Err(self.describe_error(receiver, bytes));
        }
        self.next[receiver] += 1;
        self.deliveries += 1;
        self.waiting_at[slot] -= 1;
        self.waiting_at[(slot + 1) % RING] += 1;
        while self.slowest < self.sent && self.waiting_at[self.slowest as usize % RING] == 0 {
            self.slowest += 1;
        }
        if let Some(latencies) = &mut self.latencies {
            latencies.push(self.sent_at[slot].elapsed());
        }
        Ok(())
    }

    /// Describes what is missing, for an error message.
    pub(crate) fn missing(&self) -> String {
        let behind = self.next.iter().filter(|&&next| next < self.sent).count();
        let lost: u64 = self.next.iter().map(|&next| u64::from(self.sent - next)).sum();
        format!("{lost} of {} deliveries are missing, at {behind} receivers", self.deliveries + lost)
    }

    fn describe_error(&self, receiver: usize, bytes: &[u8]) -> String {
        let expected = self.next[receiver];
        match message::number(bytes) {
            Some(number) if number < expected => format!("receiver {receiver}: message {number} was received twice"),
            Some(number) => format!("receiver {receiver}: received message {number} where {expected} was next"),
            None => format!(
                "receiver {receiver}: received {:?} where message {expected} was next",
                bytes.escape_ascii().to_string()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_receiver_counts() {
        let mut tracker = DeliveryTracker::new(2);
        let messages: Vec<TestMessage> = (0..3).map(|_| tracker.send()).collect();
        for message in &messages {
            tracker.received(0, message).unwrap();
        }
        assert_eq!(tracker.complete(), 0);
        tracker.received(1, &messages[0]).unwrap();
        assert_eq!((tracker.complete(), tracker.deliveries()), (1, 4));
        assert!(tracker.missing().starts_with("2 of 6 "));
    }

    #[test]
    fn gaps_repeats_and_other_bytes_are_errors() {
        let mut tracker = DeliveryTracker::new(1);
        let messages: Vec<TestMessage> = (0..3).map(|_| tracker.send()).collect();
        assert!(tracker.received(0, &messages[1]).unwrap_err().contains("message 1 where 0"));
        tracker.received(0, &messages[0]).unwrap();
        assert!(tracker.received(0, &messages[0]).unwrap_err().contains("twice"));
        assert!(tracker.received(0, b"what").is_err());
    }
}
