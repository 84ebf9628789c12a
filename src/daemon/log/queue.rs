//! The queued lines, and the thread that writes them. The thread exists only while there is something to write: in a
//! process with a second thread, each system call of the loop costs more, because the other thread could close the file
//! descriptor during the call.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::line::Line;
use super::writer::{JOURNAL, Writer};
use crate::net::give_memory_back;

/// The time that the thread waits for another line before it ends.
const IDLE: Duration = Duration::from_millis(20);

/// After this many lines, their memory is returned to the kernel. It lies between memory that stays in use, so the
/// allocator does not return it by itself.
const MANY: usize = 1_000;

/// The queue, which writes its lines in order.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    /// The most lines that may be queued.
    bound: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<QueueState>,
    /// Signalled when there is another line, when the program ends, and when the thread has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: VecDeque<Line>,
    /// The thread is running.
    writing: bool,
    ending: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Queue {
        Queue { shared: Arc::default(), bound }
    }

    /// Adds a line. Returns false if there is no room.
    pub(super) fn push(&self, line: Line) -> bool {
        let mut state = self.shared.lock();
        if state.lines.len() >= self.bound {
            return false;
        }
        state.lines.push_back(line);
        if std::mem::replace(&mut state.writing, true) {
            self.shared.changed.notify_one();
            return true;
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || shared.write(IDLE));
        thread.is_ok() || self.shared.write_at_once()
    }

    /// Waits until everything is written, for `timeout` at most.
    pub(super) fn end(&self, timeout: Duration) {
        let mut state = self.shared.lock();
        if std::mem::replace(&mut state.ending, true) {
            return;
        }
        self.shared.changed.notify_one();
        drop(self.shared.changed.wait_timeout_while(state, timeout, |state| state.writing));
    }
}

impl Shared {
    /// Writes lines until no line has been added for `idle`.
    fn write(&self, idle: Duration) {
        let mut writer = Writer::new(JOURNAL.into());
        let mut written = 0;
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                drop(state);
                writer.write(&line);
                written += 1;
                state = self.lock();
                continue;
            }
            let nothing = |state: &mut QueueState| state.lines.is_empty() && !state.ending;
            let waited = self.changed.wait_timeout_while(state, idle, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.lines.is_empty() {
                state.writing = false;
                // The queue may have room for thousands of lines.
                state.lines = VecDeque::new();
                self.changed.notify_one();
                drop(state);
                if written >= MANY {
                    give_memory_back();
                }
                return;
            }
        }
    }

    /// Writes the only line from the loop, because no thread could be started. Returns false if the write would block.
    fn write_at_once(&self) -> bool {
        let stderr = io::stderr();
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let is_ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if !is_ready {
            self.lock().lines.clear();
        }
        self.write(Duration::ZERO);
        is_ready
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // No code that holds the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Queue {
    /// A queue whose lines are not written, but can be taken out.
    pub(super) fn unwritten(bound: usize) -> Queue {
        let queue = Queue::new(bound);
        let mut state = queue.shared.lock();
        (state.writing, state.ending) = (true, true);
        drop(state);
        queue
    }

    pub(super) fn pop(&self) -> Option<Line> {
        self.shared.lock().lines.pop_front()
    }
}
