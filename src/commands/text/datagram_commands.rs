//! What the daemon takes for commands where messages are datagrams, and can therefore not be sent as an input. Pure.

use crate::commands::failure::Failure;
use crate::exit::Status;
use upcall_wire::escape::Escaped;

/// Refuses a message that would be a command. `strict`: the daemon may want proof of our address, and then more is one.
pub(super) fn check(message: &[u8], strict: bool) -> Result<(), Failure> {
    let line = message.trim_ascii();
    let is_command = line.eq_ignore_ascii_case(b"bye")
        || line == b"join"
        || line.starts_with(b"join ")
        || (strict && line.starts_with(b"bye "));
    if !is_command {
        return Ok(());
    }
    let complaint = format!("\"{}\" is a command where messages are datagrams", Escaped(line));
    Err(Failure::new(Status::BadData, format!("{complaint}, and cannot be sent as one; use tcp or unix for it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_inputs_as_the_daemon_does() {
        for (message, lenient, strict) in [
            (&b" Bye \r\n"[..], true, true),
            (b"join", true, true),
            (b" join us\n", true, true),
            (b"bye bye\n", false, true),
            (b"Join\n", false, false),
            (b"joint\n", false, false),
            (b"haii\n", false, false),
            (b"\n", false, false),
        ] {
            let refused = [false, true].map(|strict| check(message, strict).is_err());
            assert_eq!(refused, [lenient, strict], "{message:?}");
        }
    }
}
