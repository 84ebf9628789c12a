//! What the operating system has counted for a process: CPU time, memory, how often it was woken.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, getpid};

/// A process, by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(Pid);

impl Process {
    /// The process with that id.
    pub(crate) fn new(pid: u32) -> Process {
        Process(Pid::from_raw(pid as i32))
    }

    /// This one.
    pub(crate) fn ours() -> Process {
        Process(getpid())
    }

    /// User and system time of all its threads since it began, to the nanosecond (clock_getcpuclockid(3)).
    pub(crate) fn cpu(self) -> io::Result<Duration> {
        let clock: ClockId = clock_getcpuclockid(self.0)?;
        Ok(clock_gettime(clock)?.into())
    }

    /// Resident memory in bytes: all of it, and what is its own alone (no files). From proc_pid_status(5).
    pub(crate) fn memory(self) -> io::Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        Ok((field(&status, "VmRSS:") * 1024, field(&status, "RssAnon:") * 1024))
    }

    /// How often its threads have given up the processor to wait: each time, something woke them.
    pub(crate) fn waits(self) -> io::Result<u64> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            sum += field(&status, "voluntary_ctxt_switches:");
        }
        Ok(sum)
    }
}

/// The number behind a name at the beginning of a line; 0 where there is none.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_use_time_and_memory() {
        let (all, own) = Process::ours().memory().unwrap();
        assert!(all > own && own > 0);
        assert!(Process::ours().cpu().unwrap() > Duration::ZERO);
        assert_eq!(field("a:\t12 kB\nb: 3\n", "b:"), 3);
    }
}
