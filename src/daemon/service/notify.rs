//! Notifications to the service manager (sd_notify(3)): ready, reloading, stopping, the watchdog, and a status line.
//!
//! No crate is used for this: the existing ones block while the manager does not read, and read the environment each
//! time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use upcall_engine::Time;

/// The shortest time between two status lines.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// The delay before a message is sent again for which the manager's queue had no room.
const RETRY: Duration = Duration::from_millis(100);

/// The manager should end the daemon if a drain takes this much longer than its grace period.
const MARGIN: Duration = Duration::from_secs(10);

const READY: &str = "READY=1";
const RELOADING: &str = "RELOADING=1";

/// Sends notifications, if there is a service manager. Never blocks.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Messages that must arrive and that have not been sent yet, because the manager's queue was full.
    unsent: VecDeque<String>,
    retry: Option<Time>,
    /// The interval at which the watchdog is notified that the loop runs.
    watchdog_period: Option<Duration>,
    next_watchdog: Option<Time>,
    figures: Option<Figures>,
    /// The earliest time to send figures again.
    next_figures: Time,
    /// The figures may have changed since they were sent. The number of slow consumers can change without the others.
    stale: bool,
    /// The status line that was sent last.
    status: String,
    /// A remark at the end of the status line.
    remark: &'static str,
}

/// The figures of the status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) struct Figures {
    pub(in crate::daemon) endpoints: usize,
    pub(in crate::daemon) inputs: u64,
    pub(in crate::daemon) upcalls: u64,
}

impl Notifier {
    /// A notifier from the values of `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`.
    pub(in crate::daemon) fn new([address, period, pid]: [Option<OsString>; 3]) -> Notifier {
        let socket = address.and_then(|address| open(&address.into_vec()).ok());
        let ours = pid.is_none_or(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(std::process::id()));
        let period = period.and_then(|period| period.to_str()?.parse().ok()).filter(|period: &u64| *period > 0 && ours);
        // Half of the period, so that one late notification does not cause a restart (sd_watchdog_enabled(3)).
        let watchdog_period =
            period.map(|period| Duration::from_micros(period.div_ceil(2))).filter(|_| socket.is_some());
        Notifier { socket, watchdog_period, ..Notifier::default() }
    }

    /// Reports that every listener is bound.
    pub(in crate::daemon) fn ready(&mut self, now: Time) {
        self.next_watchdog = self.watchdog_period.map(|_| now);
        self.send_reliably(now, READY.into());
    }

    /// Reports that a reload begins. The manager compares the time with that of its request.
    pub(in crate::daemon) fn reloading(&mut self, now: Time) {
        // Of several unsent reloads, only the last is kept.
        if let [.., reloading, ready] = self.unsent.make_contiguous()
            && reloading.starts_with(RELOADING)
            && ready == READY
        {
            self.unsent.truncate(self.unsent.len() - 2);
        }
        self.send_reliably(now, format!("{RELOADING}\nMONOTONIC_USEC={}", now.since(Time(0)).as_micros()));
    }

    /// Reports that a reload is over.
    pub(in crate::daemon) fn reloaded(&mut self, now: Time, refused: bool) {
        self.remark = if refused { "; the last reload was refused, see the log" } else { "" };
        self.send_reliably(now, READY.into());
        (self.stale, self.next_figures) = (true, now);
    }

    /// Reports that a drain begins, which takes no longer than `grace`.
    pub(in crate::daemon) fn stopping(&mut self, now: Time, grace: Duration) {
        self.remark = "; draining";
        let timeout = grace.saturating_add(MARGIN).as_micros();
        self.send_reliably(now, format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={timeout}"));
        (self.stale, self.next_figures) = (true, now);
    }

    /// Reports why the start fails.
    pub(in crate::daemon) fn failed(&mut self, why: &str) {
        let _ = self.send(&format!("STATUS={}", why.lines().next().unwrap_or_default()));
    }

    /// Whether there is a service manager, so that figures are worth collecting.
    pub(in crate::daemon) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// The next time at which something must be sent.
    pub(in crate::daemon) fn deadline(&self) -> Option<Time> {
        self.socket.as_ref()?;
        let figures = self.stale.then_some(self.next_figures);
        [self.next_watchdog, self.retry, figures].into_iter().flatten().min()
    }

    /// Sends what is due. `slow` counts the slow consumers; it is called only if a status line is sent.
    pub(in crate::daemon) fn turn(&mut self, now: Time, figures: Figures, slow: impl FnOnce() -> usize) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.send_unsent(now);
        }
        if let (Some(next), Some(watchdog_period)) = (self.next_watchdog, self.watchdog_period)
            && next <= now
        {
            // If this one is lost, the next one is still in time.
            let _ = self.send("WATCHDOG=1");
            self.next_watchdog = Some(now + watchdog_period);
        }
        self.stale |= self.figures != Some(figures);
        if self.stale && self.next_figures <= now {
            let Figures { endpoints, inputs, upcalls } = figures;
            let (slow, remark) = (slow(), self.remark);
            let text = format!(
                "STATUS=endpoints: {endpoints}, inputs: {inputs}, upcalls: {upcalls}, slow consumers: {slow}{remark}"
            );
            // A status line that cannot be sent now is replaced by the next one.
            if text != self.status && self.send(&text).is_ok() {
                self.status = text;
            }
            // An endpoint may stop being slow without any change of the other figures.
            (self.figures, self.stale, self.next_figures) = (Some(figures), slow > 0, now + FIGURES_EVERY);
        }
    }

    fn send_reliably(&mut self, now: Time, message: String) {
        if self.socket.is_some() {
            self.unsent.push_back(message);
            self.send_unsent(now);
        }
    }

    /// Sends the messages that must arrive, in order. A message that cannot be sent at all is dropped.
    fn send_unsent(&mut self, now: Time) {
        self.retry = None;
        while let Some(message) = self.unsent.front() {
            match self.send(message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.retry = Some(now + RETRY);
                    return;
                }
                _ => drop(self.unsent.pop_front()),
            }
        }
    }

    fn send(&self, message: &str) -> io::Result<()> {
        // By address each time, because the manager may have been restarted.
        let Some((socket, manager)) = &self.socket else { return Ok(()) };
        socket.send_to_addr(message.as_bytes(), manager).map(drop)
    }
}

/// The address is a path, or a name in the abstract namespace after an @.
fn open(address: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time(0) + Duration::from_millis(milliseconds)
    }

    fn figures(inputs: u64) -> Figures {
        Figures { endpoints: 2, inputs, upcalls: 0 }
    }

    fn received(manager: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 500];
        let count = manager.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }

    /// A notifier, and a manager of this name.
    fn pair(name: &str) -> (Notifier, UnixDatagram) {
        let name = format!("@upcalld-{name}-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name[1..]).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        (Notifier::new([Some(name.into()), None, None]), manager)
    }

    #[test]
    fn without_a_manager_nothing_is_ever_due() {
        let mut notifier = Notifier::new([None, Some("3000000".into()), None]);
        notifier.ready(at(0));
        notifier.reloading(at(1));
        notifier.reloaded(at(1), true);
        notifier.stopping(at(2), Duration::from_secs(5));
        assert_eq!(notifier.deadline(), None);
    }

    #[test]
    fn figures_are_sent_when_they_change_and_once_a_second_at_most() {
        let (mut notifier, manager) = pair("figures");
        let mut sent = 0;
        for now in 0..10_000 {
            // They change for five seconds.
            notifier.turn(at(now), figures(now.min(4_999)), || 0);
            sent += usize::from(received(&manager).is_some());
        }
        assert_eq!(sent, 6, "5 while it changes, and the last state");
        assert_eq!(notifier.deadline(), None, "an idle notifier sets no deadline");
    }

    #[test]
    fn a_slow_consumer_is_reported_once_and_its_end_too() {
        let (mut notifier, manager) = pair("slow");
        for now in 0..10_000 {
            notifier.turn(at(now), figures(1), || usize::from(now < 3_000));
        }
        let all: Vec<String> = std::iter::from_fn(|| received(&manager)).collect();
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].ends_with("slow consumers: 1") && all[1].ends_with("slow consumers: 0"), "{all:?}");
        assert_eq!(notifier.deadline(), None);
    }

    #[test]
    fn a_manager_that_does_not_read_costs_no_memory() {
        let (mut notifier, manager) = pair("full");
        while notifier.send("STATUS=full").is_ok() {}
        notifier.ready(at(0));
        for now in 1..1_000 {
            notifier.reloading(at(now));
            notifier.reloaded(at(now), false);
        }
        notifier.stopping(at(1_000), Duration::ZERO);
        while received(&manager).is_some() {}
        notifier.turn(at(2_000), figures(0), || 0);
        let all: Vec<String> = std::iter::from_fn(|| received(&manager)).collect();
        let reloading = "RELOADING=1\nMONOTONIC_USEC=999000";
        assert_eq!(all[..4], ["READY=1", reloading, "READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000"]);
    }

    #[test]
    fn the_watchdog_is_notified_twice_a_period() {
        let (mut notifier, manager) = pair("watchdog");
        notifier.watchdog_period = Some(Duration::from_millis(500));
        notifier.turn(at(0), figures(0), || 0);
        assert!(received(&manager).unwrap().starts_with("STATUS="));
        notifier.ready(at(0));
        for now in [0, 500, 1_000] {
            assert_eq!(notifier.deadline(), Some(at(now)));
            notifier.turn(at(now), figures(0), || 0);
            notifier.turn(at(now), figures(0), || 0);
        }
        let all: Vec<String> = std::iter::from_fn(|| received(&manager)).collect();
        assert_eq!(all, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    }

    #[test]
    fn what_must_arrive_is_sent_again_and_nothing_blocks() {
        let (mut notifier, manager) = pair("arrive");
        while notifier.send("STATUS=full").is_ok() {}
        notifier.ready(at(0));
        notifier.stopping(at(0), Duration::from_secs(5));
        assert_eq!(notifier.retry, Some(at(100)));
        while received(&manager).is_some() {}
        notifier.turn(at(100), figures(0), || 3);
        let all: Vec<String> = std::iter::from_fn(|| received(&manager)).collect();
        assert_eq!(all[..2], ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000"]);
        assert_eq!(all[2], "STATUS=endpoints: 2, inputs: 0, upcalls: 0, slow consumers: 3; draining");
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let notifier = |pid: Option<u32>, period: &str| {
            let address = Some("/nowhere".into());
            Notifier::new([address, Some(period.into()), pid.map(|pid| pid.to_string().into())])
        };
        let ours = std::process::id();
        assert_eq!(notifier(Some(ours), "3000000").watchdog_period, Some(Duration::from_millis(1_500)));
        assert_eq!(notifier(None, "3000000").watchdog_period, Some(Duration::from_millis(1_500)));
        assert_eq!(notifier(Some(ours + 1), "3000000").watchdog_period, None);
        assert_eq!(notifier(Some(ours), "0").watchdog_period, None);
        assert!(notifier(None, "soon").is_connected());
        assert!(notifier(None, "1").send("STATUS=no manager").is_err());
        assert!(!Notifier::new([None, Some("3000000".into()), None]).is_connected());
    }
}
