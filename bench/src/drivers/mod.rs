//! The protocols of the load over streams: what it sends to each server, and how it decodes the answers.

pub(crate) mod mqtt;
pub(crate) mod native;
pub(crate) mod nats;
pub(crate) mod redis;
pub(crate) mod text;

use std::fs::File;
use std::io::{self, Read};

use crate::message::TestMessage;

/// The role of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientRole {
    /// Sends, and receives if the server echoes.
    Publisher,
    /// Only receives.
    Receiver,
}

/// A protocol over a stream.
pub(crate) trait ProtocolDriver {
    /// Whether the server sends a message also to its sender.
    fn echoes(&self) -> bool;

    /// How many connections are made without a pause. A connection beyond the backlog of the server would wait for a
    /// second.
    fn connect_burst(&self) -> usize {
        256
    }

    /// Registers on a new connection and waits for the answer. `index` differs between connections.
    fn register(&self, connection: &mut File, role: ClientRole, index: usize) -> io::Result<()>;

    /// Appends the bytes that publish a message.
    fn encode(&mut self, message: &TestMessage, out: &mut Vec<u8>);

    /// Decodes the beginning of what was received.
    fn decode<'a>(&self, bytes: &'a [u8]) -> Decoded<'a>;
}

/// What the received bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded<'a> {
    /// Nothing complete yet.
    Partial,
    /// A message.
    Message {
        /// The message itself.
        payload: &'a [u8],
        /// Bytes to consume.
        used: usize,
    },
    /// Something other than a message.
    Other {
        /// Bytes to consume.
        used: usize,
        /// The answer to send, usually empty.
        reply: &'static [u8],
    },
    /// Something that the server must not send.
    Unexpected(String),
}

impl Decoded<'_> {
    /// `Unexpected`, with the beginning of the bytes.
    fn unexpected(bytes: &[u8]) -> Decoded<'static> {
        Decoded::Unexpected(format!("unexpected: \"{}\"", bytes[..bytes.len().min(80)].escape_ascii()))
    }
}

/// Reads up to and including `end`.
fn read_until(connection: &mut File, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end) {
        connection.read_exact(&mut byte)?;
        bytes.push(byte[0]);
        if bytes.len() > 64 * 1024 {
            return Err(io::Error::other("the answer of the server is too long"));
        }
    }
    Ok(bytes)
}
