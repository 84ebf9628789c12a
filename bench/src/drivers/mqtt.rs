//! MQTT 3.1.1 with quality of service 0, for mosquitto: every receiver subscribes to one topic; the publisher does not.

use std::fs::File;
use std::io::{self, Read, Write};

use super::{ClientRole, Decoded, ProtocolDriver};
use crate::message::{self, TestMessage};

/// The beginning of a PUBLISH: its remaining length, and the topic with its length.
const PUBLISH: &[u8] = &[0x30, 3 + message::LENGTH as u8, 0, 1, b'c'];

/// Clients of mosquitto.
pub(crate) struct MqttDriver;

impl ProtocolDriver for MqttDriver {
    fn echoes(&self) -> bool {
        false
    }

    fn register(&self, connection: &mut File, role: ClientRole, index: usize) -> io::Result<()> {
        let id = format!("bench-{index}");
        // CONNECT: protocol level 4, a clean session, no keepalive.
        let mut connect = vec![0x10, 12 + id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, id.len() as u8];
        connect.extend_from_slice(id.as_bytes());
        connection.write_all(&connect)?;
        answer(connection, &[0x20, 2, 0, 0])?;
        if role == ClientRole::Receiver {
            // SUBSCRIBE with packet id 1.
            connection.write_all(&[0x82, 6, 0, 1, 0, 1, b'c', 0])?;
            answer(connection, &[0x90, 3, 0, 1, 0])?;
        }
        Ok(())
    }

    fn encode(&mut self, message: &TestMessage, out: &mut Vec<u8>) {
        out.extend_from_slice(PUBLISH);
        out.extend_from_slice(message);
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Decoded<'a> {
        let used = PUBLISH.len() + message::LENGTH;
        if bytes.len() < used {
            return Decoded::Partial;
        }
        match bytes.strip_prefix(PUBLISH) {
            Some(rest) => Decoded::Message { payload: &rest[..message::LENGTH], used },
            None => Decoded::unexpected(bytes),
        }
    }
}

fn answer(connection: &mut File, expected: &[u8]) -> io::Result<()> {
    let mut bytes = vec![0; expected.len()];
    connection.read_exact(&mut bytes)?;
    if bytes == expected { Ok(()) } else { Err(io::Error::other(format!("mosquitto answered {bytes:?}"))) }
}
