//! What the load says to each server, and how it understands the answers: a driver for every protocol over streams.

pub(crate) mod mqtt;
pub(crate) mod native;
pub(crate) mod nats;
pub(crate) mod redis;
pub(crate) mod text;

use std::fs::File;
use std::io::{self, Read};

use crate::message::Message;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sends, and receives where the server echoes.
    Publisher,
    /// Receives only.
    Receiver,
}

/// One protocol over a stream.
pub(crate) trait Driver {
    /// Whether the server sends a message to who sent it, too.
    fn echoes(&self) -> bool;

    /// Connections to be made without a pause: more than the server's backlog would wait for a second.
    fn at_once(&self) -> usize {
        256
    }

    /// Registers on a new connection, waiting for what the server answers. `index` differs between connections.
    fn join(&self, connection: &mut File, part: Part, index: usize) -> io::Result<()>;

    /// Appends what publishes a message.
    fn encode(&mut self, message: &Message, out: &mut Vec<u8>);

    /// Understands the beginning of what was received.
    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a>;
}

/// What stands at the beginning of what was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Nothing complete yet.
    Partial,
    /// A message, which with all around it is `used` bytes long.
    Message {
        /// The message.
        payload: &'a [u8],
        /// Bytes that are dealt with.
        used: usize,
    },
    /// Something that is no message.
    Other {
        /// Bytes that are dealt with.
        used: usize,
        /// What to answer; as a rule nothing.
        reply: &'static [u8],
    },
    /// What must not come.
    Broken(String),
}

impl Step<'_> {
    /// What stands there is not to be expected.
    fn broken(bytes: &[u8]) -> Step<'static> {
        Step::Broken(format!("unexpected: \"{}\"", bytes[..bytes.len().min(80)].escape_ascii()))
    }
}

/// Reads until `end` has come.
fn read_until(connection: &mut File, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end) {
        connection.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        if bytes.len() > 64 * 1024 {
            return Err(io::Error::other("the server's answer has no end"));
        }
    }
    Ok(bytes)
}
