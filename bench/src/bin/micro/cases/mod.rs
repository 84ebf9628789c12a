//! The list of cases. Each registers endpoints with an engine, or feeds a decoder, and counts the instructions of one
//! unit.

mod decoding;
mod delivery;
mod idle;

use std::io;
use std::thread;

/// A piece of work whose instructions are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// What it does: the name without the number of endpoints.
    pub(crate) what: &'static str,
    /// What the count is divided by.
    pub(crate) unit: &'static str,
    /// The number of endpoints, if the cost could depend on it.
    pub(crate) endpoints: Option<usize>,
    work: fn(usize) -> io::Result<u64>,
}

impl Case {
    /// Its name: the key in micro.json.
    pub(crate) fn name(&self) -> String {
        match self.endpoints {
            Some(endpoints) => format!("{}, {endpoints} endpoints", self.what),
            None => self.what.to_owned(),
        }
    }

    /// Runs the case and returns how many units were counted. It runs on a thread of its own: the stack of the main
    /// thread begins at an address that depends on the environment, and what a copy costs depends on that.
    pub(crate) fn run(&self) -> io::Result<u64> {
        let (work, endpoints) = (self.work, self.endpoints.unwrap_or(0));
        thread::spawn(move || work(endpoints)).join().unwrap_or_else(|_| Err(io::Error::other("the case panicked")))
    }
}

/// All cases. Cases that differ only in the number of endpoints follow each other, the smallest first: the cost of a
/// unit must not grow with that number.
pub(crate) fn all() -> Vec<Case> {
    type Work = fn(usize) -> io::Result<u64>;
    let plain: [(_, _, Work); 11] = [
        ("append, no text reader", "input", |_| delivery::append(None)),
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
        ("register and leave", "endpoint", [1_000, 10_000], idle::register_and_leave),
    ];
    let sized = with_endpoints.into_iter().flat_map(|(what, unit, sizes, work)| {
        sizes.map(|endpoints| Case { what, unit, endpoints: Some(endpoints), work })
    });
    plain.map(|(what, unit, work)| Case { what, unit, endpoints: None, work }).into_iter().chain(sized).collect()
}
