//! Plain bytes, for upcalld's text protocol, ncat --broker and the floor: a message is a line.

use std::fs::File;
use std::io;

use super::{Driver, Part, Step};
use crate::message::{self, Message};

/// What more goes with a message.
const PADDING: &[u8] = &[b'.'; 64];

/// Lines, and whether the server sends them to who sent them, too.
pub(crate) struct Text {
    /// upcalld and the floor do, ncat does not.
    pub(crate) echoes: bool,
    /// So many bytes more go with each message, at most 64.
    pub(crate) padding: usize,
}

impl Text {
    /// To a server that sends messages to who sent them, too.
    pub(crate) const ECHOES: Text = Text { echoes: true, padding: 0 };
}

impl Driver for Text {
    fn echoes(&self) -> bool {
        self.echoes
    }

    fn at_once(&self) -> usize {
        // ncat listens with a backlog of 10.
        if self.echoes { 256 } else { 5 }
    }

    fn join(&self, _: &mut File, _: Part, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        out.extend_from_slice(message);
        out.extend_from_slice(&PADDING[..self.padding]);
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        let used = message::LENGTH + self.padding;
        match bytes.get(..used).map(|bytes| bytes.split_at(message::LENGTH)) {
            Some((_, padding)) if *padding != PADDING[..self.padding] => Step::broken(bytes),
            Some((payload, _)) => Step::Message { payload, used },
            None => Step::Partial,
        }
    }
}
