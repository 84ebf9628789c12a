//! What the operating system counts for a process: CPU time, memory and wakeups.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, getpid};

/// A process to measure, by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredProcess(Pid);

impl MeasuredProcess {
    /// The process with this id.
    pub(crate) fn new(pid: u32) -> MeasuredProcess {
        MeasuredProcess(Pid::from_raw(pid as i32))
    }

    /// This process.
    pub(crate) fn current() -> MeasuredProcess {
        MeasuredProcess(getpid())
    }

    /// User and system time of all its threads since its start, with a resolution of a nanosecond
    /// (clock_getcpuclockid(3)).
    pub(crate) fn cpu(self) -> io::Result<Duration> {
        let clock: ClockId = clock_getcpuclockid(self.0)?;
        Ok(clock_gettime(clock)?.into())
    }

    /// Resident memory in bytes: all of it, and the anonymous part, which no file backs (proc_pid_status(5)).
    pub(crate) fn memory(self) -> io::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        Ok((field(&status, "VmRSS:") * 1024, field(&status, "RssAnon:") * 1024))
    }

    /// How many times its threads gave up the processor to wait, and were woken up later.
    pub(crate) fn wakeups(self) -> io::Result<u64> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            sum += field(&status, "voluntary_ctxt_switches:");
        }
        Ok(sum)
    }
}

/// The number after a name at the beginning of a line; 0 if there is none.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_memory() {
        let (all, own) = MeasuredProcess::current().memory().unwrap();
        assert!(all > own && own > 0);
        assert!(MeasuredProcess::current().cpu().unwrap() > Duration::ZERO);
        assert_eq!(field("a:\t12 kB\nb: 3\n", "b:"), 3);
    }
}
