//! What has been sent and what every receiver has got: count, order and content are checked here, and the window is kept.

use std::time::{Duration, Instant};

use crate::message::{self, Message};

/// Messages of which the content and the time of sending are remembered: more than any window.
const RING: usize = 512;

/// The state of one run.
pub(crate) struct Progress {
    /// The number of the message that each receiver is to get next.
    next: Vec<u32>,
    /// How many receivers wait for a message, by its place in the ring.
    waiting: [u32; RING],
    /// The next message of the slowest receiver.
    slowest: u32,
    sent: u32,
    messages: Box<[Message; RING]>,
    sent_at: Vec<Instant>,
    deliveries: u64,
    latencies: Option<Vec<Duration>>,
}

impl Progress {
    /// Nothing sent yet to this many receivers.
    pub(crate) fn new(receivers: usize) -> Progress {
        let mut waiting = [0; RING];
        waiting[0] = receivers as u32;
        Progress {
            next: vec![0; receivers],
            waiting,
            slowest: 0,
            sent: 0,
            messages: Box::new([[0; message::LENGTH]; RING]),
            sent_at: vec![Instant::now(); RING],
            deliveries: 0,
            latencies: None,
        }
    }

    /// Messages sent.
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// Messages that every receiver has got.
    pub(crate) fn complete(&self) -> u32 {
        self.slowest
    }

    /// Messages that receivers have got, all together.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// From now on, how long each delivery took is remembered.
    pub(crate) fn keep_latencies(&mut self) {
        self.latencies = Some(Vec::new());
    }

    /// The latencies that were remembered.
    pub(crate) fn take_latencies(&mut self) -> Vec<Duration> {
        self.latencies.take().unwrap_or_default()
    }

    /// The next message to send, which counts as sent.
    pub(crate) fn send(&mut self) -> Message {
        let message = message::message(self.sent);
        let place = self.sent as usize % RING;
        self.messages[place] = message;
        if self.latencies.is_some() {
            self.sent_at[place] = Instant::now();
        }
        self.sent += 1;
        message
    }

    /// A receiver has got a message.
    ///
    /// # Errors
    /// What is wrong with it: not the next one for this receiver.
    pub(crate) fn arrived(&mut self, receiver: usize, bytes: &[u8]) -> Result<(), String> {
        let expected = self.next[receiver];
        let place = expected as usize % RING;
        if expected == self.sent || bytes != self.messages[place] {
            return Err(self.wrong(receiver, bytes));
        }
        self.next[receiver] += 1;
        self.deliveries += 1;
        self.waiting[place] -= 1;
        self.waiting[(place + 1) % RING] += 1;
        while self.slowest < self.sent && self.waiting[self.slowest as usize % RING] == 0 {
            self.slowest += 1;
        }
        if let Some(latencies) = &mut self.latencies {
            latencies.push(self.sent_at[place].elapsed());
        }
        Ok(())
    }

    /// What is missing, for the message of an error.
    pub(crate) fn missing(&self) -> String {
        let behind = self.next.iter().filter(|&&next| next < self.sent).count();
        let lost: u64 = self.next.iter().map(|&next| u64::from(self.sent - next)).sum();
        format!("{lost} of {} deliveries are missing, at {behind} receivers", self.deliveries + lost)
    }

    fn wrong(&self, receiver: usize, bytes: &[u8]) -> String {
        let expected = self.next[receiver];
        match message::number(bytes) {
            Some(number) if number < expected => format!("receiver {receiver}: message {number} came twice"),
            Some(number) => format!("receiver {receiver}: message {number} came where {expected} was next"),
            None => format!(
                "receiver {receiver}: where message {expected} was next came {:?}",
                bytes.escape_ascii().to_string()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_counts() {
        let mut progress = Progress::new(2);
        let messages: Vec<Message> = (0..3).map(|_| progress.send()).collect();
        for message in &messages {
            progress.arrived(0, message).unwrap();
        }
        assert_eq!(progress.complete(), 0);
        progress.arrived(1, &messages[0]).unwrap();
        assert_eq!((progress.complete(), progress.deliveries()), (1, 4));
        assert!(progress.missing().starts_with("2 of 6 "));
    }

    #[test]
    fn gaps_repeats_and_other_bytes_are_errors() {
        let mut progress = Progress::new(1);
        let messages: Vec<Message> = (0..3).map(|_| progress.send()).collect();
        assert!(progress.arrived(0, &messages[1]).unwrap_err().contains("1 came where 0"));
        progress.arrived(0, &messages[0]).unwrap();
        assert!(progress.arrived(0, &messages[0]).unwrap_err().contains("twice"));
        assert!(progress.arrived(0, b"what").is_err());
    }
}
