//! CPU time, memory and wakeups of the daemon's process and of this one, as the operating system reports them
//! (proc(5)).
//!
//! A figure that it does not report is `None`, because a measurement without it is still useful.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;
use upcall_wire::escape::Escaped;

/// The process of a daemon.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Process {
    pid: u32,
    name: String,
}

/// CPU time that a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cpu {
    /// User and system time as the kernel accounts it, in clock ticks of usually 10 ms.
    pub(super) ticks: Duration,
    /// The same in nanoseconds, if the scheduler counts it.
    pub(super) schedstat: Option<Duration>,
}

impl Cpu {
    /// The time used since `before`.
    pub(super) fn since(self, before: Cpu) -> Cpu {
        let schedstat = self.schedstat.zip(before.schedstat).map(|(now, before)| now.saturating_sub(before));
        Cpu { ticks: self.ticks.saturating_sub(before.ticks), schedstat }
    }

    /// The more exact of the two figures.
    pub(super) fn best(self) -> Duration {
        self.schedstat.unwrap_or(self.ticks)
    }
}

impl Process {
    /// The process with this id, if there is one.
    pub(super) fn new(pid: u32) -> Option<Process> {
        let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
        Some(Process { pid, name: Escaped(name.trim_ascii_end()).to_string() })
    }

    /// Its name and id, for the report.
    pub(super) fn label(&self) -> String {
        format!("{}, pid {}", self.name, self.pid)
    }

    /// The CPU time of all its threads.
    pub(super) fn cpu(&self) -> Option<Cpu> {
        let stat = fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let ticks = ticks(&String::from_utf8_lossy(&stat))?;
        let second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
        let ticks = Duration::from_secs_f64(ticks as f64 / second as f64);
        Some(Cpu { ticks, schedstat: self.schedstat() })
    }

    /// The scheduler's figure, summed over the threads: the file of the process itself covers only its first thread.
    fn schedstat(&self) -> Option<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid)).ok()? {
            let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            sum += stat.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
        }
        // Kernels without these statistics have the file, but only zeros in it.
        (sum > 0).then(|| Duration::from_nanos(sum))
    }

    /// Its resident anonymous memory, in bytes.
    pub(super) fn memory(&self) -> Option<u64> {
        // The counter that every user may read lags behind by some dozen pages per processor, so the exact one is
        // preferred.
        let exact = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok();
        let kilobytes = exact.and_then(|map| field(&map, "Anonymous:")).or_else(|| self.status("RssAnon:"))?;
        Some(kilobytes * 1_024)
    }

    /// How often it has gone to sleep.
    pub(super) fn voluntary_switches(&self) -> Option<u64> {
        self.status("voluntary_ctxt_switches:")
    }

    fn status(&self, key: &str) -> Option<u64> {
        let status = fs::read(format!("/proc/{}/status", self.pid)).ok()?;
        field(&String::from_utf8_lossy(&status), key)
    }
}

/// User and system time, in ticks, from a line of `/proc/PID/stat`. The name in it may contain any character, including
/// a closing bracket.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn field(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The CPU time that this program has used.
pub(super) fn own_cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_parsed() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 700 300 11 12 20 0 1 0\n";
        assert_eq!(ticks(stat), Some(1_000));
        assert_eq!(ticks("42"), None);
        let status = "Name:\tupcalld\nRssAnon:\t     420 kB\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!((field(status, "RssAnon:"), field(status, "voluntary_ctxt_switches:")), (Some(420), Some(7)));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), None);
    }

    #[test]
    fn this_process_is_known() {
        let own = Process::new(std::process::id()).unwrap();
        let before = own.cpu().unwrap();
        let mut sum = 0u64;
        while own.cpu().unwrap().since(before).best() < Duration::from_millis(1) {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
        }
        assert!(own.memory().unwrap() > 0 && own_cpu() > Duration::ZERO);
        assert!(own.voluntary_switches().is_some());
        assert!(Process::new(0).is_none());
    }
}
