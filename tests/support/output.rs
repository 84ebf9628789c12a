//! What a process writes, read by a thread, so that a test can wait for it.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use super::DEADLINE;

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

/// Everything that was written so far.
#[derive(Clone, Default)]
pub(crate) struct Output {
    shared: Arc<(Mutex<Written>, Condvar)>,
}

impl Output {
    /// Reads `from` to its end in a thread.
    pub(crate) fn of(mut from: impl Read + Send + 'static) -> Output {
        let output = Output::default();
        let writer = output.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = from.read(&mut buffer).unwrap_or(0);
                let mut written = writer.lock();
                written.bytes.extend_from_slice(&buffer[..count]);
                written.ended = count == 0;
                writer.shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        output
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.shared.0.lock().expect("no thread panics while it holds this lock")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// What was written behind the first `from` bytes.
    pub(super) fn bytes_from(&self, from: usize) -> Vec<u8> {
        self.lock().bytes[from..].to_vec()
    }

    /// Waits until there is a whole line behind the first `from` bytes. Breaks at `end`, or when no line will come.
    pub(super) fn wait_line(&self, from: usize, end: Instant) -> ControlFlow<()> {
        let mut written = self.lock();
        loop {
            if memchr::memchr(b'\n', &written.bytes[from..]).is_some() {
                return ControlFlow::Continue(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if written.ended || left.is_zero() {
                return ControlFlow::Break(());
            }
            written = self.shared.1.wait_timeout(written, left).expect("the lock is sound").0;
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// The whole lines that contain `needle`.
    pub(crate) fn lines_with(&self, needle: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(needle)).map(str::to_owned).collect()
    }

    /// How often `needle` was written.
    pub(crate) fn count(&self, needle: &str) -> usize {
        count(&self.lock().bytes, needle.as_bytes())
    }

    /// Waits until `needle` was written `times` times; whether it was.
    pub(crate) fn wait_count(&self, needle: &str, times: usize) -> bool {
        let (mut found, mut seen) = (0, 0);
        self.wait(|bytes| {
            found += count(&bytes[seen..], needle.as_bytes());
            // What may be the beginning of another one stays unseen; a whole one does not.
            let whole = memchr::memmem::rfind(&bytes[seen..], needle.as_bytes());
            let behind_whole = whole.map_or(seen, |at| seen + at + needle.len());
            seen = behind_whole.max(bytes.len().saturating_sub(needle.len() - 1));
            found >= times
        })
    }

    /// Waits until all of it was written: the writer closed its end.
    pub(crate) fn wait_end(&self) -> bool {
        let until = Instant::now() + DEADLINE;
        let mut written = self.lock();
        while !written.ended {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            written = self.shared.1.wait_timeout(written, left).expect("the lock is sound").0;
        }
        true
    }

    fn wait(&self, mut done: impl FnMut(&[u8]) -> bool) -> bool {
        let until = Instant::now() + DEADLINE;
        let mut written = self.lock();
        loop {
            if done(&written.bytes) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if written.ended || left.is_zero() {
                return false;
            }
            written = self.shared.1.wait_timeout(written, left).expect("the lock is sound").0;
        }
    }
}

fn count(bytes: &[u8], needle: &[u8]) -> usize {
    memchr::memmem::find_iter(bytes, needle).count()
}
