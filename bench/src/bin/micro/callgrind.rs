//! Counts instructions with callgrind, a tool of valgrind: the same for the same program on the same machine.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cases::Case;

/// The instructions for one unit of each case, by the name of the case.
pub(crate) type Counts = BTreeMap<String, f64>;

/// The version of valgrind; `None` if it is not installed.
pub(crate) fn version() -> Option<String> {
    output_of("valgrind", &["--version"])
}

/// What the counts depend on besides the code: the compiler, the C library (malloc, memcpy), the processor and
/// valgrind.
pub(crate) fn machine(valgrind: &str) -> String {
    let libc = output_of("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|| "another libc".to_owned());
    let vectors = if has_avx2() { ", avx2" } else { "" };
    format!("{}, {}{vectors}, {libc}, {valgrind}", env!("BUILT_WITH"), std::env::consts::ARCH)
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Counts all cases, one at a time on each core.
pub(crate) fn count(cases: &[Case]) -> io::Result<Counts> {
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(Counts::new()));
    let work = || -> io::Result<()> {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let wrong = |error| io::Error::other(format!("{}: {error}", case.name()));
            let count = count_one(&case.name()).map_err(wrong)?;
            counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(case.name(), count);
        }
        Ok(())
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err(io::Error::other("a worker panicked"));
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(panicked))
    })?;
    Ok(counts.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

fn count_one(name: &str) -> io::Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*upcall_micro_counted*"]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    let output = valgrind.arg(std::env::current_exe()?).args(["run", name]).output()?;
    let units: Option<u64> = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    let Some(units) = units.filter(|units| *units > 0 && output.status.success()) else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {}", output.status, stderr.trim())));
    };
    let text = std::fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    match total.filter(|total| *total > 0) {
        Some(total) => Ok(total as f64 / units as f64),
        None => Err(io::Error::other("valgrind has not found the function to count")),
    }
}
