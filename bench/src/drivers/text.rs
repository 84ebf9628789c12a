//! Plain bytes, for upcalld's text protocol, ncat --broker and the floor: a message is a line.

use std::fs::File;
use std::io;

use super::{ClientRole, Decoded, ProtocolDriver};
use crate::message::{self, TestMessage};

/// Bytes that may follow a message.
const PADDING: &[u8] = &[b'.'; 64];

/// Clients that send and receive lines.
pub(crate) struct TextDriver {
    /// Whether the server echoes: upcalld and the floor do, ncat does not.
    pub(crate) echoes: bool,
    /// How many bytes of padding follow each message, at most 64.
    pub(crate) padding: usize,
}

impl TextDriver {
    /// For a server that echoes, without padding.
    pub(crate) const ECHOES: TextDriver = TextDriver { echoes: true, padding: 0 };
}

impl ProtocolDriver for TextDriver {
    fn echoes(&self) -> bool {
        self.echoes
    }

    fn connect_burst(&self) -> usize {
        // ncat listens with a backlog of 10.
        if self.echoes { 256 } else { 5 }
    }

    fn register(&self, _: &mut File, _: ClientRole, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn encode(&mut self, message: &TestMessage, out: &mut Vec<u8>) {
        out.extend_from_slice(message);
        out.extend_from_slice(&PADDING[..self.padding]);
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Decoded<'a> {
        let used = message::LENGTH + self.padding;
        match bytes.get(..used).map(|bytes| bytes.split_at(message::LENGTH)) {
            Some((_, padding)) if *padding != PADDING[..self.padding] => Decoded::unexpected(bytes),
            Some((payload, _)) => Decoded::Message { payload, used },
            None => Decoded::Partial,
        }
    }
}
