//! The calls of a [`Client`] that send, subscribe and close. Items that arrive while a call waits are kept for the
//! iterator.

use std::time::{Duration, Instant};

use upcall_wire::topic::is_topic;

use super::Error;
use super::check::check_filters;
use super::client::Client;
use super::driver::DriverEvent;
use super::item::{Item, Receipt, Subscription};
use crate::machine::{Event, InputId};

impl Client {
    /// Sends an input without a topic, and waits for its receipt. Items that arrive in the meantime are kept for the
    /// iterator.
    ///
    /// A lost connection does not fail the call: the input is sent again after reconnecting, and accepted at most once.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the daemon does not accept the input; [`Error::Unknown`] if the daemon lost the session
    /// before the receipt arrived, for example because it restarted; [`Error::TimedOut`] after
    /// [`Builder::timeout`](crate::Builder::timeout), in which case the input may still be accepted and an
    /// [`Item::SendResult`] follows; [`Error::Overflow`] if the buffer for other items is full; otherwise the error
    /// that ended the client.
    pub fn send(&mut self, payload: &[u8]) -> Result<Receipt, Error> {
        self.send_on("", payload)
    }

    /// Sends an input with a topic, and waits for its receipt. An empty topic means no topic.
    ///
    /// # Errors
    ///
    /// Those of [`Client::send`], and [`Error::Invalid`] for text that is not a topic.
    pub fn send_on(&mut self, topic: &str, payload: &[u8]) -> Result<Receipt, Error> {
        // The answer cannot be among the items that arrived before.
        let kept = self.kept_items().len();
        let input = self.submit(topic, payload)?;
        self.await_item(kept, "a receipt", move |item| match item {
            Item::SendResult { input: of, result } if *of == input => Some(result.clone()),
            _ => None,
        })
    }

    /// Sends an input without waiting for its receipt; the result is an [`Item::SendResult`]. An empty topic means no
    /// topic. Blocks only while 64 inputs wait for their receipts.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for text that is not a topic; [`Error::TimedOut`] if there is no room within
    /// [`Builder::timeout`](crate::Builder::timeout); [`Error::Overflow`] if the buffer for items is full; otherwise
    /// the error that ended the client.
    pub fn submit(&mut self, topic: &str, payload: &[u8]) -> Result<InputId, Error> {
        let until = self.call_deadline();
        loop {
            if let Some(input) = self.queue(topic, payload)? {
                self.driver.work();
                self.process_events();
                return Ok(input);
            }
            self.turn(until, "receipts of earlier inputs")?;
        }
    }

    /// Like [`Client::submit`], but never blocks, and does not send yet. Queued inputs are sent by the next other call
    /// that sends or receives, so that small inputs share a system call or a datagram. Returns `None` while 64 inputs
    /// wait for their receipts.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for text that is not a topic; otherwise the error that ended the client.
    pub fn queue(&mut self, topic: &str, payload: &[u8]) -> Result<Option<InputId>, Error> {
        if !topic.is_empty() && !is_topic(topic) {
            let message = "a topic is 1 to 128 bytes long, has no control characters and does not end in an asterisk";
            return Err(Error::Invalid(message.into()));
        }
        self.check_running()?;
        Ok(self.driver.machine.send(topic, payload))
    }

    /// Whether [`Client::submit`] accepts an input without waiting.
    pub fn has_room(&self) -> bool {
        self.driver.machine.has_room()
    }

    /// Waits until every input has a result. The results arrive as [`Item::SendResult`]s.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if that takes longer than `timeout`; [`Error::Overflow`] if the buffer for items is full;
    /// otherwise the error that ended the client.
    pub fn flush(&mut self, timeout: Duration) -> Result<(), Error> {
        let until = Instant::now().checked_add(timeout);
        while !self.driver.machine.is_flushed() {
            self.check_running()?;
            self.turn(until, "all receipts")?;
        }
        Ok(())
    }

    /// Adds filters, and waits until they are in force. A filter is a topic, or a prefix of topics followed by an
    /// asterisk.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for text that is not a filter, and if no filter is given; [`Error::Refused`] if there are too
    /// many; [`Error::TimedOut`] after [`Builder::timeout`](crate::Builder::timeout); otherwise the error that ended
    /// the client.
    pub fn subscribe(&mut self, filters: &[&str]) -> Result<Subscription, Error> {
        check_filters(filters)?;
        let request = self.driver.machine.subscribe(filters);
        self.await_subscription(request)
    }

    /// Removes filters, and waits until the change is in force. Once the last filter is removed, nothing is due to the
    /// client.
    ///
    /// # Errors
    ///
    /// The same as those of [`Client::subscribe`].
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Subscription, Error> {
        check_filters(filters)?;
        let request = self.driver.machine.unsubscribe(filters);
        self.await_subscription(request)
    }

    /// Sends a PING, and waits for the answer. Returns the round-trip time.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if no answer arrives within `timeout`; otherwise the error that ended the client.
    pub fn ping(&mut self, timeout: Duration) -> Result<Duration, Error> {
        let nonce = self.driver.machine.ping();
        let until = Instant::now().checked_add(timeout);
        let answer = self.await_event(until, "an answer", |event| match event {
            Event::Pong { nonce: of, round_trip } if *of == nonce => Some(Ok(*round_trip)),
            _ => None,
        });
        self.driver.machine.forget_ping(nonce);
        answer
    }

    /// Ends the session: waits for outstanding receipts, sends BYE, and waits for the daemon's answer. Returns the
    /// remaining items, among them the upcalls that were due until then.
    ///
    /// A client that has already ended returns its remaining items as well. Inputs without a receipt are among them, as
    /// [`Item::SendResult`]s with an error.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if that takes longer than `timeout`; [`Error::Overflow`] if the buffer for items is full;
    /// otherwise the reason why the daemon did not answer.
    pub fn close(mut self, timeout: Duration) -> Result<Vec<Item>, Error> {
        let until = Instant::now().checked_add(timeout);
        while !self.has_ended() && !self.driver.machine.is_flushed() {
            self.turn(until, "all receipts")?;
        }
        self.driver.machine.leave();
        self.driver.work();
        self.process_events();
        while !self.has_ended() {
            self.turn(until, "the answer to BYE")?;
        }
        match self.take_error() {
            None | Some(Error::Closed) => Ok(self.take_items()),
            Some(error) => Err(error),
        }
    }

    fn call_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.driver.policy.call_timeout)
    }

    /// Waits for work and does it, once. `what` names what the call waits for.
    fn turn(&mut self, until: Option<Instant>, what: &str) -> Result<(), Error> {
        self.check_deadline(until, what)?;
        if !self.has_room_for_items() {
            return Err(Error::Overflow);
        }
        self.driver.turn(until);
        self.process_events();
        Ok(())
    }

    fn check_deadline(&self, until: Option<Instant>, what: &str) -> Result<(), Error> {
        if until.is_some_and(|until| until <= Instant::now()) {
            let place = self.driver.place();
            return Err(Error::TimedOut(format!("timed out while waiting for {what} from {place}")));
        }
        Ok(())
    }

    /// Waits for the item that is the answer, and removes it. The first `seen` items are known not to be the answer.
    fn await_item<T>(
        &mut self,
        mut seen: usize,
        what: &str,
        answer: impl Fn(&Item) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let until = self.call_deadline();
        loop {
            while let Some(item) = self.kept_items().get(seen) {
                if let Some(result) = answer(item) {
                    self.remove_answer(seen);
                    return result;
                }
                seen += 1;
            }
            self.check_running()?;
            self.turn(until, what)?;
        }
    }

    fn await_subscription(&mut self, request: u64) -> Result<Subscription, Error> {
        let until = self.call_deadline();
        self.await_event(until, "an answer", |event| match event {
            Event::Subscribed { request: of, from, everything, filters } if *of == request => {
                Some(Ok(Subscription { from: *from, everything: *everything, filters: filters.clone() }))
            }
            Event::NotSubscribed { request: of, code, text } if *of == request => {
                Some(Err(Error::refused(*code, text)))
            }
            _ => None,
        })
    }

    /// Waits for the event that is the answer. Items that arrive in the meantime are kept, without a limit.
    fn await_event<T>(
        &mut self,
        until: Option<Instant>,
        what: &str,
        answer: impl Fn(&Event) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut found = None;
        self.driver.work();
        loop {
            while let Some(event) = self.driver.event() {
                if let DriverEvent::Machine(event) = &event {
                    found = found.or_else(|| answer(event));
                }
                self.process(event);
            }
            if let Some(result) = found {
                return result;
            }
            self.check_running()?;
            self.check_deadline(until, what)?;
            self.driver.turn(until);
        }
    }
}
