//! What is counted: the cases, and what of each.

mod decoding;
mod delivery;
mod idle;

use std::hint::black_box;
use std::io;
use std::thread;

/// Something whose instructions are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// What it does.
    pub(crate) what: &'static str,
    /// What its count is for: one of these.
    pub(crate) unit: &'static str,
    /// How many endpoints take part; none where that means nothing.
    pub(crate) endpoints: Option<usize>,
    work: fn(usize) -> io::Result<u64>,
}

impl Case {
    /// What it is called.
    pub(crate) fn name(&self) -> String {
        match self.endpoints {
            Some(endpoints) => format!("{}, {endpoints} endpoints", self.what),
            None => self.what.to_owned(),
        }
    }

    /// Does it; returns how many units of it are counted. On a thread of its own: where the stack of the first one begins
    /// depends on the environment, and what copying costs depends on that.
    pub(crate) fn run(&self) -> io::Result<u64> {
        let (work, endpoints) = (self.work, self.endpoints.unwrap_or(0));
        thread::spawn(move || work(endpoints)).join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
    }
}

/// All cases. Those that differ in the number of endpoints only follow each other, the fewest first: what a unit costs must
/// not grow with them.
pub(crate) fn all() -> Vec<Case> {
    type Work = fn(usize) -> io::Result<u64>;
    let plain: [(_, _, Work); 11] = [
        ("append, nobody reads text", "input", |_| delivery::append(None)),
        ("append, text as it is", "input", |_| delivery::append(Some("{data}"))),
        ("append, text in the default format", "input", |_| delivery::append(Some(delivery::DEFAULT))),
        ("native sends by themselves", "input", |_| delivery::frames_by_themselves()),
        ("native sends in runs", "input", |_| delivery::sends()),
        ("text lines in runs", "input", |_| delivery::lines()),
        ("decode frames, 64 KiB a read", "frame", |_| decoding::frames(64 << 10)),
        ("decode frames, 100 B a read", "frame", |_| decoding::frames(100)),
        ("decode lines, 64 KiB a read", "message", |_| decoding::lines(64 << 10)),
        ("decode lines, 100 B a read", "message", |_| decoding::lines(100)),
        ("decode chunks, one a read", "message", |_| decoding::chunks()),
    ];
    let with_endpoints: [(_, _, [usize; 2], Work); 11] = [
        ("flush 1 input to text", "endpoint", [100, 1_000], |n| delivery::text(n, 1)),
        ("flush 1 input to native", "endpoint", [100, 1_000], |n| delivery::native(n, 1)),
        ("flush 1 input to text datagrams", "endpoint", [100, 1_000], |n| delivery::datagrams(n, 1)),
        ("flush 256 inputs to text", "endpoint", [100, 1_000], |n| delivery::text(n, 256)),
        ("flush 256 inputs to native", "endpoint", [100, 1_000], |n| delivery::native(n, 256)),
        ("an input, idle topics", "input", [1_000, 10_000], idle::topics),
        ("an input, all others are behind", "endpoint", [1_000, 10_000], idle::behind),
        ("a turn, nothing happens", "turn", [1_000, 10_000], idle::silence),
        ("a turn, unfinished messages", "turn", [1_000, 10_000], idle::unfinished),
        ("a turn and a renewal, leases", "turn", [1_000, 10_000], idle::leases),
        ("come and go", "endpoint", [1_000, 10_000], idle::come_and_go),
    ];
    let sized = with_endpoints.into_iter().flat_map(|(what, unit, sizes, work)| {
        sizes.map(|endpoints| Case { what, unit, endpoints: Some(endpoints), work })
    });
    plain.map(|(what, unit, work)| Case { what, unit, endpoints: None, work }).into_iter().chain(sized).collect()
}

/// Valgrind counts what happens in here, and nothing else: it knows this function by its name, which no other may contain.
#[inline(never)]
pub(crate) fn upcall_micro_counted(work: &mut dyn FnMut()) {
    work();
    // Lest the call of the work becomes a jump, and its return is not seen.
    black_box(());
}

/// Counts the second half of what is done: the first one brings memory to where it stays.
pub(crate) fn counted(times: u64, mut work: impl FnMut(u64)) {
    (0..times).for_each(&mut work);
    upcall_micro_counted(&mut || (times..2 * times).for_each(&mut work));
}

/// What was counted is worth nothing unless it did what it should.
pub(crate) fn check(did: &str, times: u64, wanted: u64) -> io::Result<()> {
    match times == wanted {
        true => Ok(()),
        false => Err(io::Error::other(format!("{did}: {times}, not {wanted}"))),
    }
}
