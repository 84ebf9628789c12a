//! NATS: every receiver subscribes to one subject; the publisher does not.

use std::fs::File;
use std::io::{self, Write};

use super::{ClientRole, Decoded, ProtocolDriver, read_until};
use crate::message::{self, TestMessage};

const CONNECT: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"lang\":\"bench\",\"version\":\"0\"}\r\n";
const PUBLISH: &[u8] = b"PUB c 64\r\n";
const MESSAGE: &[u8] = b"MSG c 1 64\r\n";
const END: &[u8] = b"\r\n";

/// Clients of NATS.
pub(crate) struct NatsDriver;

impl ProtocolDriver for NatsDriver {
    fn echoes(&self) -> bool {
        false
    }

    fn register(&self, connection: &mut File, role: ClientRole, _: usize) -> io::Result<()> {
        read_until(connection, END)?;
        connection.write_all(CONNECT)?;
        if role == ClientRole::Receiver {
            connection.write_all(b"SUB c 1\r\n")?;
        }
        connection.write_all(b"PING\r\n")?;
        read_until(connection, b"PONG\r\n").map(drop)
    }

    fn encode(&mut self, message: &TestMessage, out: &mut Vec<u8>) {
        for part in [PUBLISH, message, END] {
            out.extend_from_slice(part);
        }
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Decoded<'a> {
        let used = MESSAGE.len() + message::LENGTH + END.len();
        if let Some(rest) = bytes.strip_prefix(MESSAGE) {
            return if bytes.len() < used {
                Decoded::Partial
            } else {
                Decoded::Message { payload: &rest[..message::LENGTH], used }
            };
        }
        if MESSAGE.starts_with(bytes) {
            return Decoded::Partial;
        }
        match bytes.iter().position(|&byte| byte == b'\n') {
            None => Decoded::Partial,
            Some(end) if bytes.starts_with(b"PING") => Decoded::Other { used: end + 1, reply: b"PONG\r\n" },
            Some(end) if bytes.starts_with(b"INFO") => Decoded::Other { used: end + 1, reply: b"" },
            Some(_) => Decoded::unexpected(bytes),
        }
    }
}
