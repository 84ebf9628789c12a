//! What went wrong: in words that say what, where and what to do, and as an exit status.

use std::fmt;
use std::io::{self, Write};

use crate::exit::Status;

/// Why a command could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    /// A failure that ends the program with `status`. The message must hold no raw bytes of strangers.
    pub(super) fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    /// Standard output could not be written, for another reason than that its reader is gone.
    pub(super) fn output(error: &io::Error) -> Failure {
        Failure::new(Status::Io, format!("cannot write to standard output: {error}"))
    }

    /// How to exit.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The same with something added, behind a semicolon.
    pub(super) fn and(self, addition: &str) -> Failure {
        Failure { message: format!("{}; {addition}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Says something to the person, on stderr, in one write. `eprintln!` would panic where stderr is closed.
pub(super) fn say(message: &impl fmt::Display) {
    let line = format!("upcall-client: {message}\n");
    // With stderr gone there is nobody left to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}
