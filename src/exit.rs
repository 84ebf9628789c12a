//! The exit statuses of both programs, after sysexits.h. Code, manual pages and tests use this one list.

use std::process::ExitCode;

/// How a program ended. The number is its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Success.
    Ok = 0,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// The input is wrong: a message is too large, or has a newline where none is allowed (EX_DATAERR).
    BadData = 65,
    /// The host name cannot be resolved (EX_NOHOST).
    UnknownHost = 68,
    /// The connection was refused, or too few endpoints received an input (EX_UNAVAILABLE).
    Refused = 69,
    /// A command that was run for an upcall failed (EX_SOFTWARE).
    JobFailed = 70,
    /// Something cannot be created: a socket, an output file (EX_CANTCREAT).
    CannotCreate = 73,
    /// Reading or writing failed (EX_IOERR).
    Io = 74,
    /// The time limit has passed (EX_TEMPFAIL).
    TimedOut = 75,
    /// The peer violated the protocol (EX_PROTOCOL).
    Protocol = 76,
    /// Not permitted (EX_NOPERM).
    Denied = 77,
    /// The configuration is wrong (EX_CONFIG).
    Configuration = 78,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}
