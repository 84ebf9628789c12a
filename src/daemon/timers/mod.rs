//! Time: the clocks, the deadlines of the daemon besides those of the engine, and the alarms that wake the loop.
//!
//! Knows which endpoint, peer, connection or listener a deadline is for, but not what happens when it is due.

mod clock;
mod retry_queue;

use std::io;
use std::time::Duration;

use super::tokens::{ConnectionKey, EventToken, PeerKey};
use crate::net::alarm::{Alarm, ClockId};
use crate::net::poller::{Interest, Poller};
use upcall_engine::{EndpointId, Engine, ListenerNumber, Now, Time};

pub(in crate::daemon) use clock::Clock;
pub(in crate::daemon) use retry_queue::RetryQueue;

/// The delay before a read or write is retried for which the kernel had no memory.
const NO_MEMORY: Duration = Duration::from_millis(50);

/// The delay before a Unix datagram is sent again if the peer's queue was full and no socket reports room in it.
const PEER_QUEUE_FULL: Duration = Duration::from_millis(5);

/// The same delay for a peer that has not read for a while.
const PEER_NOT_READING: Duration = Duration::from_millis(100);

/// The delay before accepting is retried if there was no free file descriptor, unless the daemon closes one earlier.
const NO_DESCRIPTORS: Duration = Duration::from_millis(500);

/// The delay before a Unix peer with a sending socket of its own may go back to the shared socket.
const OWN_SOCKET: Duration = Duration::from_secs(1);

/// The time that the far end has to close its side after it has received everything. If the connection were closed
/// earlier, bytes that the far end still sends would cause a reset, and a reset could make it lose unread bytes.
const LINGER: Duration = Duration::from_secs(2);

/// A connection that has left the registry and may not have received everything yet.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Lingering {
    pub(in crate::daemon) key: ConnectionKey,
    /// It is closed at this time at the latest.
    pub(in crate::daemon) until: Time,
}

/// Retry queues, each named by the cause of the retry, and other deadlines. Each queue has its own period.
#[derive(Debug)]
pub(in crate::daemon) struct Timers {
    /// Expires when the next lease may end, or earlier. Its clock keeps running while the machine is suspended.
    lease_alarm: Alarm,
    /// Expires at the earliest of all other deadlines, or earlier.
    alarm: Alarm,
    /// The earliest of the other deadlines at the end of the last turn. Deadlines that were set later are not due yet.
    next: Time,
    /// Not empty while accepting is paused because there were no file descriptors.
    pub(in crate::daemon) no_descriptors: RetryQueue<()>,
    /// Endpoints for whose output the kernel had no memory.
    pub(in crate::daemon) no_memory: RetryQueue<EndpointId>,
    /// Unix peers whose queues were full, and for which no socket reports room.
    pub(in crate::daemon) peer_queue_full: RetryQueue<EndpointId>,
    /// Such peers that have not read for a while.
    pub(in crate::daemon) peer_not_reading: RetryQueue<EndpointId>,
    /// Listeners for whose datagrams the kernel had no memory.
    pub(in crate::daemon) listener_no_memory: RetryQueue<ListenerNumber>,
    /// Peers that may no longer need a sending socket of their own.
    pub(in crate::daemon) own_sockets: RetryQueue<PeerKey>,
    pub(in crate::daemon) lingering: RetryQueue<Lingering>,
}

impl Timers {
    /// Creates the alarms. Errors are those of timerfd_create(2).
    pub(in crate::daemon) fn new() -> io::Result<Timers> {
        Ok(Timers {
            lease_alarm: Alarm::new(ClockId::CLOCK_BOOTTIME)?,
            alarm: Alarm::new(ClockId::CLOCK_MONOTONIC)?,
            next: Time(0),
            no_descriptors: RetryQueue::new(NO_DESCRIPTORS),
            no_memory: RetryQueue::new(NO_MEMORY),
            peer_queue_full: RetryQueue::new(PEER_QUEUE_FULL),
            peer_not_reading: RetryQueue::new(PEER_NOT_READING),
            listener_no_memory: RetryQueue::new(NO_MEMORY),
            own_sockets: RetryQueue::new(OWN_SOCKET),
            lingering: RetryQueue::new(LINGER),
        })
    }

    pub(in crate::daemon) fn watch(&self, poller: &Poller) -> io::Result<()> {
        poller.add(&self.lease_alarm, EventToken::LeaseAlarm.encode(), Interest::Read)?;
        poller.add(&self.alarm, EventToken::Alarm.encode(), Interest::Read)
    }

    pub(in crate::daemon) fn lease_alarm_went_off(&mut self) {
        self.lease_alarm.mark_expired();
    }

    pub(in crate::daemon) fn alarm_went_off(&mut self) {
        self.alarm.mark_expired();
    }

    /// Whether any deadline is due, a lease included.
    pub(in crate::daemon) fn is_due(&self, now: Now, engine: &Engine) -> bool {
        self.next <= now.time || engine.lease_deadline().is_some_and(|deadline| deadline <= now.boot)
    }

    /// Unblocks the endpoints whose retry is due.
    pub(in crate::daemon) fn retry_writes(&mut self, now: Time, engine: &mut Engine) {
        for queue in [&mut self.no_memory, &mut self.peer_queue_full, &mut self.peer_not_reading] {
            while let Some(endpoint) = queue.pop(now) {
                engine.writable(endpoint);
            }
        }
    }

    pub(in crate::daemon) fn set_lease_alarm(&mut self, engine: &Engine) -> io::Result<()> {
        engine.lease_deadline().map_or(Ok(()), |deadline| self.lease_alarm.set(deadline.0))
    }

    /// Finds the earliest deadline of the queues here and of `others`. Leases have a separate alarm.
    pub(in crate::daemon) fn update<const N: usize>(&mut self, others: [Option<Time>; N]) {
        let own = [
            self.no_descriptors.next(),
            self.no_memory.next(),
            self.peer_queue_full.next(),
            self.peer_not_reading.next(),
            self.listener_no_memory.next(),
            self.own_sockets.next(),
            self.lingering.next(),
        ];
        self.next = earliest(own).min(earliest(others));
    }

    /// Sets the alarm to the earliest deadline. If that fails, returns how long to wait for the deadline, after a turn
    /// that began at `now`.
    pub(in crate::daemon) fn arm(&mut self, now: Time) -> Option<Duration> {
        // `Time(u64::MAX)` stands for no deadline, and sets no alarm.
        let is_armed = self.alarm.set(self.next.0).is_ok();
        (!is_armed).then(|| self.next.since(Clock::about(now)))
    }
}

/// The earliest of these, or the largest time if none is set. Without branches, because most are never set.
fn earliest<const N: usize>(deadlines: [Option<Time>; N]) -> Time {
    let never = Time(u64::MAX);
    deadlines.into_iter().fold(never, |next, deadline| next.min(deadline.unwrap_or(never)))
}
