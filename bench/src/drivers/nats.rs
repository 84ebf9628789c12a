//! NATS: every receiver subscribes to one subject; the publisher does not.

use std::fs::File;
use std::io::{self, Write};

use super::{Driver, Part, Step, read_until};
use crate::message::{self, Message};

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"bench\",\"version\":\"0\"}\r\n";
const PUBLISH: &[u8] = b"PUB c 64\r\n";
const MESSAGE: &[u8] = b"MSG c 1 64\r\n";
const END: &[u8] = b"\r\n";

/// Clients of NATS.
pub(crate) struct Nats;

impl Driver for Nats {
    fn echoes(&self) -> bool {
        false
    }

    fn join(&self, connection: &mut File, part: Part, _: usize) -> io::Result<()> {
        read_until(connection, END)?;
        connection.write_all(CONNECT)?;
        if part == Part::Receiver {
            connection.write_all(b"SUB c 1\r\n")?;
        }
        connection.write_all(b"PING\r\n")?;
        read_until(connection, b"PONG\r\n").map(drop)
    }

    fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        for part in [PUBLISH, message, END] {
            out.extend_from_slice(part);
        }
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        let used = MESSAGE.len() + message::LENGTH + END.len();
        if let Some(rest) = bytes.strip_prefix(MESSAGE) {
            return if bytes.len() < used {
                Step::Partial
            } else {
                Step::Message { payload: &rest[..message::LENGTH], used }
            };
        }
        if MESSAGE.starts_with(bytes) {
            return Step::Partial;
        }
        match bytes.iter().position(|&byte| byte == b'\n') {
            None => Step::Partial,
            Some(end) if bytes.starts_with(b"PING") => Step::Other { used: end + 1, reply: b"PONG\r\n" },
            Some(end) if bytes.starts_with(b"INFO") => Step::Other { used: end + 1, reply: b"" },
            Some(_) => Step::broken(bytes),
        }
    }
}
