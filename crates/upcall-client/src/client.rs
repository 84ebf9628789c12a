//! A registered endpoint, for programs that may block.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::builder::{Builder, check_filters};
use super::driver::{Driver, News};
use super::item::{InputId, Item, Receipt, Subscription, item};
use super::{Error, Session};
use crate::machine::{Event, Upcall};
use upcall_wire::topic::is_topic;

/// Kept of what comes while a call waits for its answer, in items and in bytes.
pub(super) const MAX_ITEMS: usize = 1 << 20;
pub(super) const MAX_BYTES: usize = 64 << 20;

/// An endpoint of a daemon: sends inputs, and iterates over what it hears of. See the [crate](crate) for examples.
///
/// Belongs to one thread at a time, and works only while it is called: whoever listens should come back within a third of
/// the daemon's `lease` on datagrams. To wait for something else, too, poll its descriptor (`AsFd`) for reading, and call
/// [`Client::try_next`] until it returns none whenever that is readable.
///
/// Dropped, it leaves the session behind on a stream, to be resumed, and ends it on datagrams. [`Client::close`] ends it in any
/// case and makes sure of what was sent; [`Client::hang_up`] leaves it behind in any case.
#[derive(Debug)]
pub struct Client {
    pub(super) driver: Driver,
    pub(super) items: VecDeque<Item>,
    pub(super) bytes: usize,
    /// Why nothing more will come; told once.
    pub(super) end: Option<Error>,
    pub(super) ended: bool,
    /// The last sequence that was taken from here.
    taken: u64,
    welcomed: bool,
}

impl Client {
    /// Connects to the daemon at a URL, and registers. [`Client::builder`] can say more.
    ///
    /// # Errors
    ///
    /// Why it cannot be reached, or refuses.
    pub fn connect(url: &str) -> Result<Client, Error> {
        Client::builder(url).connect()
    }

    /// What a client of the daemon at a URL is to be.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(super) fn begun(driver: Driver) -> Client {
        let items = VecDeque::new();
        Client { driver, items, bytes: 0, end: None, ended: false, taken: 0, welcomed: false }
    }

    /// Continues the registration that [`Builder::start`] began, and returns whether it is complete. Blocks only while a
    /// connection is made; poll the descriptor for reading between two calls.
    ///
    /// # Errors
    ///
    /// As [`Builder::connect`].
    pub fn register(&mut self) -> Result<bool, Error> {
        self.driver.work();
        self.hear();
        self.driver.arm();
        match self.end.take() {
            Some(error) if !self.welcomed => Err(error),
            end => {
                self.end = end;
                Ok(self.welcomed)
            }
        }
    }

    pub(super) fn connected(driver: Driver) -> Result<Client, Error> {
        let mut client = Client::begun(driver);
        while !client.register()? {
            client.driver.wait();
        }
        Ok(client)
    }

    /// Sends an input without a topic, and waits for its receipt. What comes meanwhile is kept for [`Client::next`].
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the daemon does not take it, [`Error::Unknown`] where the daemon was restarted before it had
    /// confirmed the input. After [`Error::TimedOut`] it may still be taken, and its fate comes as an item.
    pub fn send(&mut self, payload: &[u8]) -> Result<Receipt, Error> {
        self.send_on("", payload)
    }

    /// Sends an input with a topic, and waits for its receipt.
    ///
    /// # Errors
    ///
    /// As [`Client::send`]; [`Error::Invalid`] for what is not a topic.
    pub fn send_on(&mut self, topic: &str, payload: &[u8]) -> Result<Receipt, Error> {
        // It cannot be among what was there before.
        let kept = self.items.len();
        let input = self.submit(topic, payload)?;
        self.await_answer(kept, "a receipt", move |item| match item {
            Item::SendResult { input: of, result } if *of == input => Some(result.clone()),
            _ => None,
        })
    }

    /// Sends an input, and does not wait: what becomes of it is an [`Item::SendResult`]. Waits only while 64 inputs wait for
    /// their receipts. The topic may be empty.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is not a topic, [`Error::TimedOut`] where nothing was confirmed for too long.
    pub fn submit(&mut self, topic: &str, payload: &[u8]) -> Result<InputId, Error> {
        let until = self.until();
        loop {
            if let Some(input) = self.queue(topic, payload)? {
                self.driver.work();
                self.hear();
                return Ok(input);
            }
            self.turn(until, "room for an input")?;
        }
    }

    /// As [`Client::submit`], but never waits, and sends nothing yet: what is queued leaves together when any other call is
    /// made, and small inputs share a system call or a datagram. None where 64 inputs wait for their receipts already.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is not a topic; why the client has ended.
    pub fn queue(&mut self, topic: &str, payload: &[u8]) -> Result<Option<InputId>, Error> {
        if !topic.is_empty() && !is_topic(topic) {
            let message = "a topic is 1 to 128 bytes long, has no control characters and does not end in an asterisk";
            return Err(Error::Invalid(message.into()));
        }
        if self.ended {
            return Err(self.end.clone().unwrap_or(Error::Closed));
        }
        Ok(self.driver.machine.send(topic, payload))
    }

    /// Whether [`Client::submit`] takes an input without waiting.
    pub fn has_room(&self) -> bool {
        self.driver.machine.has_room()
    }

    /// Waits until the daemon has confirmed every input that was posted, or said what else became of it.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if that takes longer than `timeout`; else why the client has ended.
    pub fn flush(&mut self, timeout: Duration) -> Result<(), Error> {
        let until = Instant::now().checked_add(timeout);
        while !self.driver.machine.is_settled() {
            if self.ended {
                return Err(self.end.clone().unwrap_or(Error::Closed));
            }
            self.turn(until, "all receipts")?;
        }
        Ok(())
    }

    /// Wants to hear of these filters, too, and waits until that is in force.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is not a filter, [`Error::Refused`] where there are too many.
    pub fn subscribe(&mut self, filters: &[&str]) -> Result<Subscription, Error> {
        check_filters(filters)?;
        let request = self.driver.machine.subscribe(filters);
        self.await_subscription(request)
    }

    /// No longer wants to hear of these filters, and waits until that is in force. Whoever gives up the last one hears of
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Subscription, Error> {
        check_filters(filters)?;
        let request = self.driver.machine.unsubscribe(filters);
        self.await_subscription(request)
    }

    /// Asks the daemon for a sign of life; returns how long it took.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if nothing comes within `timeout`; else why the client has ended.
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

    /// The next item, as soon as there is one; none after the end. An error is the end: no item follows it.
    #[allow(clippy::should_implement_trait, reason = "it is what the Iterator does, too")]
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Item>, Error> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// The next item, if there is one by now.
    ///
    /// # Errors
    ///
    /// Why the client has ended, once.
    pub fn try_next(&mut self) -> Result<Option<Item>, Error> {
        self.next_until(Some(Instant::now()))
    }

    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<Item>, Error> {
        let mut worked = false;
        loop {
            if let Some(item) = self.take() {
                return Ok(Some(item));
            }
            if self.ended {
                return self.end.take().map_or(Ok(None), Err);
            }
            if worked && until.is_some_and(|until| until <= Instant::now()) {
                // Whoever polls the descriptor goes to sleep now.
                self.driver.arm();
                return Ok(None);
            }
            self.driver.turn(until);
            self.hear();
            worked = true;
        }
    }

    /// What resumes the session, in this process or another: [`Builder::resume`]. It says that what was taken from here has
    /// been dealt with, and what has come but was not taken yet has not.
    pub fn session(&self) -> Option<Session> {
        let mut session = self.driver.machine.session()?;
        session.last = self.taken;
        Some(Session(session))
    }

    /// Takes what has come, and keeps it for [`Client::next_timeout`]: for whoever is busy with an item, and does not want to
    /// be taken for gone. Says whether there is room for more; where there is none, nothing is read, and the daemon sees a
    /// slow consumer.
    pub fn absorb(&mut self) -> bool {
        let has_room = self.items.len() < MAX_ITEMS && self.bytes < MAX_BYTES;
        if has_room && !self.ended {
            self.driver.work();
            self.hear();
            self.driver.arm();
        }
        has_room && !self.ended
    }

    /// Makes the descriptor readable, although nothing has been received.
    pub fn wake(&mut self) {
        self.driver.wake();
    }

    /// Whether there is a connection just now.
    pub fn is_connected(&self) -> bool {
        self.driver.is_connected()
    }

    /// Waits for outstanding receipts, says goodbye, and waits until the daemon has answered. That ends the session. What
    /// was due until then and not taken is returned.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if that takes longer than `timeout`; else why the client had ended.
    pub fn close(mut self, timeout: Duration) -> Result<Vec<Item>, Error> {
        let until = Instant::now().checked_add(timeout);
        while !self.ended && !self.driver.machine.is_settled() {
            self.turn(until, "all receipts")?;
        }
        self.driver.machine.leave();
        self.driver.work();
        self.hear();
        while !self.ended {
            self.turn(until, "the daemon's goodbye")?;
        }
        match self.end.take() {
            None | Some(Error::Closed) => Ok(std::mem::take(&mut self.items).into()),
            Some(error) => Err(error),
        }
    }

    /// Ends the connection without a word: the session can be resumed, as long as the daemon keeps it.
    pub fn hang_up(mut self) -> Option<Session> {
        self.driver.hang_up();
        self.session()
    }

    /// Takes note of all that has happened.
    pub(super) fn hear(&mut self) {
        while let Some(news) = self.driver.news() {
            self.note(news);
        }
    }

    pub(super) fn note(&mut self, news: News) {
        let item = match news {
            News::Over(error) => {
                (self.end, self.ended) = (Some(error), true);
                return;
            }
            News::Disconnected { error, retry_in } if self.welcomed => Item::Disconnected { error, retry_in },
            News::Disconnected { .. } => return,
            News::Foreign(foreign) => Item::Foreign(foreign),
            News::Event(Event::Welcomed { start, .. }) if !self.welcomed => {
                self.welcomed = true;
                self.taken = start.saturating_sub(1);
                return;
            }
            News::Event(event) => match item(event) {
                Some(item) => item,
                None => return,
            },
        };
        self.bytes += weight(&item);
        self.items.push_back(item);
    }

    fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= weight(&item);
        match &item {
            Item::Upcall(upcall) => self.taken = upcall.sequence,
            Item::Gap(gap) => self.taken = gap.last,
            Item::Reconnected { resumed: false, start, .. } => self.taken = start.saturating_sub(1),
            _ => {}
        }
        Some(item)
    }
}

fn weight(item: &Item) -> usize {
    match item {
        Item::Upcall(Upcall { topic, payload, .. }) => topic.len() + payload.len(),
        _ => 0,
    }
}

/// Waits for the next item, without end; ends behind an error.
impl Iterator for Client {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Result<Item, Error>> {
        self.next_until(None).transpose()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A stream ends with its socket. Over datagrams the daemon would go on sending, and wait for us as for somebody slow.
        self.driver.leave_behind();
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.driver.as_fd()
    }
}
