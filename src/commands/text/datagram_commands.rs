//! Messages that the daemon treats as commands on datagram transports, so that they cannot be sent as inputs there.
//! Pure.

use upcall_wire::escape::Escaped;

use crate::commands::failure::Failure;
use crate::exit::Status;

/// Refuses a message that would be a command. `may_need_proof`: the daemon may want proof of our address, and then
/// treats `bye` with an argument as a command too.
pub(super) fn refuse(message: &[u8], may_need_proof: bool) -> Result<(), Failure> {
    let line = message.trim_ascii();
    let is_command = line.eq_ignore_ascii_case(b"bye")
        || line == b"join"
        || line.starts_with(b"join ")
        || (may_need_proof && line.starts_with(b"bye "));
    if !is_command {
        return Ok(());
    }
    let message = format!(
        "\"{}\" is a command on datagram transports and cannot be sent as a message; use tcp or unix for it",
        Escaped(line)
    );
    Err(Failure::new(Status::BadData, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_recognized_as_the_daemon_does() {
        for (message, trusted, with_proof) in [
            (&b" Bye \r\n"[..], true, true),
            (b"join", true, true),
            (b" join us\n", true, true),
            (b"bye bye\n", false, true),
            (b"Join\n", false, false),
            (b"joint\n", false, false),
            (b"haii\n", false, false),
            (b"\n", false, false),
        ] {
            let refused = [false, true].map(|may_need_proof| refuse(message, may_need_proof).is_err());
            assert_eq!(refused, [trusted, with_proof], "{message:?}");
        }
    }
}
