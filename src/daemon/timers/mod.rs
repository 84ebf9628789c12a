//! Time: the clocks, the deadlines that the daemon keeps besides the engine's, and the alarms that wake the loop for
//! them.
//!
//! Knows which endpoint, peer, connection or listener a deadline is for, but not what is done when it comes.

mod clock;
mod deadlines;

use std::io;
use std::time::Duration;

use super::tokens::{ConnectionKey, PeerKey, Token};
use crate::net::alarm::{Alarm, ClockId};
use crate::net::poller::{Interest, Poller};
use upcall_engine::{EndpointId, Engine, ListenerNumber, Now, Time};

pub(in crate::daemon) use clock::Clock;
pub(in crate::daemon) use deadlines::Deadlines;

/// How long until a read or write is retried after the kernel had no memory for it.
const NO_MEMORY: Duration = Duration::from_millis(50);

/// How long until a Unix datagram is sent again after the peer's queue was full, where no socket reports when the queue
/// has room.
const PEER_QUEUE_FULL: Duration = Duration::from_millis(5);

/// The same for a peer that has not read for a while.
const PEER_NOT_READING: Duration = Duration::from_millis(100);

/// How long until accepting is retried after there was no free file descriptor, unless we close one of our own before.
const NO_DESCRIPTORS: Duration = Duration::from_millis(500);

/// How long a Unix peer whose queue was full must have had room before it shares a socket with the others again.
const OWN_SOCKET: Duration = Duration::from_secs(1);

/// How long a connection that we have ended may take to end its own side after it has acknowledged everything. If it
/// were closed earlier, a reset would answer what it still sends, and could cost it what it has not read yet.
const LINGER: Duration = Duration::from_secs(2);

/// A connection that has left the registry, and may still be reading.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Lingering {
    pub(in crate::daemon) key: ConnectionKey,
    /// It is closed then at the latest.
    pub(in crate::daemon) until: Time,
}

/// Retry queues, named by their cause, and other deadlines. Each queue has a period of its own.
#[derive(Debug)]
pub(in crate::daemon) struct Timers {
    /// Goes off when the next lease may end, or earlier. Its clock goes on while the machine is suspended.
    lease_alarm: Alarm,
    /// Goes off at the earliest of all other deadlines, or earlier.
    alarm: Alarm,
    /// The earliest of the other deadlines as of the end of the last turn. A deadline that was set since is not due
    /// yet.
    next: Time,
    /// Not empty while accepting pauses: there were no file descriptors.
    pub(in crate::daemon) no_descriptors: Deadlines<()>,
    /// The kernel had no memory for what is due to these endpoints.
    pub(in crate::daemon) no_memory: Deadlines<EndpointId>,
    /// The queues of these Unix peers were full, and no socket reports when they have room.
    pub(in crate::daemon) peer_queue_full: Deadlines<EndpointId>,
    /// The same for peers that have not read for a while.
    pub(in crate::daemon) peer_not_reading: Deadlines<EndpointId>,
    /// The kernel had no memory for what these listeners receive.
    pub(in crate::daemon) listener_no_memory: Deadlines<ListenerNumber>,
    /// Peers that may no longer need a sending socket of their own.
    pub(in crate::daemon) own_sockets: Deadlines<PeerKey>,
    pub(in crate::daemon) lingering: Deadlines<Lingering>,
}

impl Timers {
    /// Makes the alarms. Errors are those of timerfd_create(2).
    pub(in crate::daemon) fn new() -> io::Result<Timers> {
        Ok(Timers {
            lease_alarm: Alarm::new(ClockId::CLOCK_BOOTTIME)?,
            alarm: Alarm::new(ClockId::CLOCK_MONOTONIC)?,
            next: Time(0),
            no_descriptors: Deadlines::new(NO_DESCRIPTORS),
            no_memory: Deadlines::new(NO_MEMORY),
            peer_queue_full: Deadlines::new(PEER_QUEUE_FULL),
            peer_not_reading: Deadlines::new(PEER_NOT_READING),
            listener_no_memory: Deadlines::new(NO_MEMORY),
            own_sockets: Deadlines::new(OWN_SOCKET),
            lingering: Deadlines::new(LINGER),
        })
    }

    pub(in crate::daemon) fn watch(&self, poller: &Poller) -> io::Result<()> {
        poller.add(&self.lease_alarm, Token::LeaseAlarm.encode(), Interest::Read)?;
        poller.add(&self.alarm, Token::Alarm.encode(), Interest::Read)
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

    /// Lets the endpoints whose retry is due write again.
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

    /// Finds the earliest deadline: of the queues here and of `others`. Leases have an alarm of their own.
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

    /// Sets the alarm to the earliest deadline. Where that fails, returns how long to wait for it, after a turn that
    /// began at `now`.
    pub(in crate::daemon) fn arm(&mut self, now: Time) -> Option<Duration> {
        // The end of time sets no alarm.
        let is_armed = self.alarm.set(self.next.0).is_ok();
        (!is_armed).then(|| self.next.since(Clock::about(now)))
    }
}

/// The earliest of these, or the end of time. Without branches: most are never set.
fn earliest<const N: usize>(deadlines: [Option<Time>; N]) -> Time {
    let never = Time(u64::MAX);
    deadlines.into_iter().fold(never, |next, deadline| next.min(deadline.unwrap_or(never)))
}
