//! The client: registration, items and detaching. The calls that send, subscribe and close are in [`super::calls`].

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::driver::{Driver, DriverEvent};
use super::item::Item;
use super::{Error, Session};
use crate::machine::Event;

/// The most items that are kept while a call waits for its answer.
const MAX_ITEMS: usize = 1 << 20;

/// The most bytes of topics and payloads that are kept with them.
const MAX_BYTES: usize = 64 << 20;

/// An endpoint of a daemon. It sends inputs, and iterates over what it receives.
///
/// The [documentation of the crate](crate) has examples. The calls block, each with a time limit:
///
/// | to | call |
/// |---|---|
/// | connect | [`connect`](Client::connect), or [`builder`](Client::builder) for options |
/// | send | [`send`](Client::send), [`send_on`](Client::send_on) |
/// | send without waiting | [`submit`](Client::submit), [`queue`](Client::queue), [`flush`](Client::flush) |
/// | receive | the iterator, [`next_timeout`](Client::next_timeout), [`try_next`](Client::try_next) |
/// | change filters | [`subscribe`](Client::subscribe), [`unsubscribe`](Client::unsubscribe) |
/// | end | [`close`](Client::close) ends the session, [`detach`](Client::detach) keeps it to be resumed |
///
/// # Time
///
/// A client works only during calls. Over datagrams, make at least three calls per lease (`lease` in the daemon's
/// configuration); otherwise the registration may expire. A call of [`Client::absorb`] is enough.
///
/// # Event loops
///
/// To wait for other things as well, poll the descriptor (`AsFd`) for reading. Whenever it is readable, call
/// [`Client::try_next`] until that returns `None`.
///
/// # Drop
///
/// Over a stream, dropping a client keeps the session, which can be resumed. Over datagrams it ends the session,
/// because the daemon would otherwise continue to send to a socket that no longer exists. Dropping a client never waits
/// for receipts; use [`Client::close`] for that.
pub struct Client {
    pub(super) driver: Driver,
    items: VecDeque<Item>,
    /// The sum of the items' sizes, in bytes.
    bytes: usize,
    state: ClientState,
    was_registered: bool,
    /// The last sequence that the caller took.
    last_taken: u64,
}

#[derive(Debug)]
enum ClientState {
    Running,
    /// It has ended with this error, which has not been returned to the caller yet.
    Failed(Error),
    /// It has ended, and the error has been returned to the caller.
    Ended,
}

impl Client {
    pub(super) fn new(driver: Driver) -> Client {
        let items = VecDeque::new();
        Client { driver, items, bytes: 0, state: ClientState::Running, was_registered: false, last_taken: 0 }
    }

    /// Continues the registration that [`Builder::start`](crate::Builder::start) began. Returns whether it is complete.
    /// Blocks only while it connects; poll the descriptor for reading between calls.
    ///
    /// # Errors
    ///
    /// The same as those of [`Builder::connect`](crate::Builder::connect).
    pub fn register(&mut self) -> Result<bool, Error> {
        self.driver.work();
        self.process_events();
        self.driver.arm();
        match self.take_error() {
            Some(error) if !self.was_registered => Err(error),
            Some(error) => {
                self.state = ClientState::Failed(error);
                Ok(true)
            }
            None => Ok(self.was_registered),
        }
    }

    /// Registers. Blocks until the registration is complete.
    pub(super) fn register_blocking(mut self) -> Result<Client, Error> {
        while !self.register()? {
            self.driver.wait(None);
        }
        Ok(self)
    }

    /// Returns the next item, or `None` if no item arrives within `timeout` or the client has ended.
    ///
    /// # Errors
    ///
    /// The error that ended the client. It is returned once, and no item follows.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Item>, Error> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// Returns the next item, or `None` if there is none now or the client has ended. Blocks only while it reconnects.
    ///
    /// # Errors
    ///
    /// The error that ended the client. It is returned once, and no item follows.
    pub fn try_next(&mut self) -> Result<Option<Item>, Error> {
        self.next_until(Some(Instant::now()))
    }

    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<Item>, Error> {
        let mut has_worked = false;
        loop {
            if let Some(item) = self.take_item() {
                return Ok(Some(item));
            }
            if self.has_ended() {
                return self.take_error().map_or(Ok(None), Err);
            }
            if has_worked && until.is_some_and(|until| until <= Instant::now()) {
                // The caller may poll the descriptor next.
                self.driver.arm();
                return Ok(None);
            }
            self.driver.turn(until);
            self.process_events();
            has_worked = true;
        }
    }

    /// Receives what has arrived, and keeps it for [`Client::next_timeout`]. Call this while the processing of an item
    /// takes long, so that the daemon does not consider the client gone.
    ///
    /// Returns whether there is room for more; always `false` once the client has ended. Without room (1,048,576 items,
    /// or 64 MiB of topics and payloads) nothing is read, and the daemon treats the client as a slow consumer.
    pub fn absorb(&mut self) -> bool {
        let may_receive = self.has_room_for_items() && !self.has_ended();
        if may_receive {
            self.driver.work();
            self.process_events();
            self.driver.arm();
        }
        may_receive && !self.has_ended()
    }

    /// Makes the descriptor readable until the next call that receives, even if nothing has arrived. Use this in a
    /// program that polls the descriptor and leaves items in the client.
    pub fn wake(&mut self) {
        self.driver.wake();
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.driver.is_connected()
    }

    /// The session, which this process or another can resume with [`Builder::resume`](crate::Builder::resume). `None`
    /// before the first registration.
    ///
    /// Items that were taken from this client count as processed. Items that it still holds are delivered again after
    /// the session is resumed.
    pub fn session(&self) -> Option<Session> {
        let mut session = self.driver.machine.session()?;
        session.last = self.last_taken;
        Some(Session(session))
    }

    /// Closes the connection and keeps the session. It can be resumed as long as the daemon keeps it, and then receives
    /// the upcalls in between. `None` before the first registration.
    pub fn detach(mut self) -> Option<Session> {
        self.driver.detach();
        self.session()
    }

    /// Processes everything that the driver reports.
    pub(super) fn process_events(&mut self) {
        while let Some(event) = self.driver.event() {
            self.process(event);
        }
    }

    pub(super) fn process(&mut self, event: DriverEvent) {
        let item = match event {
            DriverEvent::Ended(error) => {
                self.state = ClientState::Failed(error);
                return;
            }
            DriverEvent::Disconnected { error, retry_in } if self.was_registered => {
                Item::Disconnected { error, retry_in }
            }
            DriverEvent::Disconnected { .. } => return,
            DriverEvent::ForeignSender(sender) => Item::ForeignSender(sender),
            DriverEvent::Machine(Event::Welcomed { start, .. }) if !self.was_registered => {
                self.was_registered = true;
                self.last_taken = start.saturating_sub(1);
                return;
            }
            DriverEvent::Machine(event) => match Item::from_event(event) {
                Some(item) => item,
                None => return,
            },
        };
        self.bytes += item.size();
        self.items.push_back(item);
    }

    fn take_item(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.size();
        match &item {
            Item::Upcall(upcall) => self.last_taken = upcall.sequence,
            Item::Gap(gap) => self.last_taken = gap.last,
            Item::Reconnected { resumed: false, start, .. } => self.last_taken = start.saturating_sub(1),
            _ => {}
        }
        Some(item)
    }

    pub(super) fn kept_items(&self) -> &VecDeque<Item> {
        &self.items
    }

    /// Removes the item at this index, which is the answer to a call.
    pub(super) fn remove_answer(&mut self, at: usize) {
        self.items.remove(at);
    }

    pub(super) fn take_items(&mut self) -> Vec<Item> {
        self.bytes = 0;
        std::mem::take(&mut self.items).into()
    }

    pub(super) fn has_room_for_items(&self) -> bool {
        self.items.len() < MAX_ITEMS && self.bytes < MAX_BYTES
    }

    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.state, ClientState::Running)
    }

    /// Fails once the client has ended.
    pub(super) fn check_running(&self) -> Result<(), Error> {
        match &self.state {
            ClientState::Running => Ok(()),
            ClientState::Failed(error) => Err(error.clone()),
            ClientState::Ended => Err(Error::Closed),
        }
    }

    /// The error that ended the client, unless it has been returned to the caller already.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        match &self.state {
            ClientState::Running | ClientState::Ended => None,
            ClientState::Failed(_) => match std::mem::replace(&mut self.state, ClientState::Ended) {
                ClientState::Failed(error) => Some(error),
                ClientState::Running | ClientState::Ended => None,
            },
        }
    }
}

/// Waits for the next item without a time limit. Ends after an error.
impl Iterator for Client {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Result<Item, Error>> {
        self.next_until(None).transpose()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the items, of which there may be many, and the keys and cookies of the machine, which are secrets.
        f.debug_struct("Client")
            .field("place", &self.driver.place())
            .field("state", &self.state)
            .field("is_connected", &self.is_connected())
            .field("session", &self.session())
            .finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The daemon detects the end of a stream. Over datagrams it would continue to send, and hold inputs for this
        // client as for a slow consumer.
        self.driver.leave_unconfirmed();
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.driver.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;
    use crate::Builder;

    fn is_readable(client: &Client) -> bool {
        poll(&mut [PollFd::new(client.as_fd(), PollFlags::POLLIN)], 50u16).unwrap() > 0
    }

    #[test]
    fn wake_lasts_until_the_next_call_also_without_a_connection() {
        let long = Duration::from_secs(1_000_000);
        let builder = Builder::new("unix:///nonexistent/socket").retry_first_connect().reconnect(long, long);
        let mut client = builder.start().unwrap();
        assert_eq!(client.register(), Ok(false));
        assert!(!is_readable(&client));
        client.wake();
        assert!(is_readable(&client));
        assert_eq!(client.try_next(), Ok(None));
        assert!(!is_readable(&client));
    }
}
