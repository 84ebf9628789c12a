//! Redis pub/sub (RESP2): every receiver subscribes to one channel.

use std::fs::File;
use std::io::{self, Write};

use super::{ClientRole, Decoded, ProtocolDriver, read_until};
use crate::message::{self, TestMessage};

const SUBSCRIBE: &[u8] = b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n";
const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
const PUBLISH: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$64\r\n";
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$64\r\n";
const END: &[u8] = b"\r\n";

/// Clients of Redis.
pub(crate) struct RedisDriver;

impl ProtocolDriver for RedisDriver {
    fn echoes(&self) -> bool {
        false
    }

    fn register(&self, connection: &mut File, role: ClientRole, _: usize) -> io::Result<()> {
        if role == ClientRole::Publisher {
            return Ok(());
        }
        connection.write_all(SUBSCRIBE)?;
        read_until(connection, SUBSCRIBED).map(drop)
    }

    fn encode(&mut self, message: &TestMessage, out: &mut Vec<u8>) {
        for part in [PUBLISH, message, END] {
            out.extend_from_slice(part);
        }
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Decoded<'a> {
        if bytes[0] == b':' {
            // The answer to PUBLISH: how many clients received the message.
            return match bytes.iter().position(|&byte| byte == b'\n') {
                Some(end) => Decoded::Other { used: end + 1, reply: b"" },
                None => Decoded::Partial,
            };
        }
        let start = MESSAGE.len();
        let used = start + message::LENGTH + END.len();
        if bytes.len() < used {
            return Decoded::Partial;
        }
        match bytes.strip_prefix(MESSAGE) {
            Some(rest) => Decoded::Message { payload: &rest[..message::LENGTH], used },
            None => Decoded::unexpected(bytes),
        }
    }
}
