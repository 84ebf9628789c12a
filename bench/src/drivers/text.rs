//! Plain bytes, for upcalld's text protocol, ncat --broker and the floor: a message is a line.

use std::fs::File;
use std::io;

use super::{Driver, Part, Step};
use crate::message::{self, Message};

/// Lines, and whether the server sends them to who sent them, too.
pub(crate) struct Text {
    /// upcalld and the floor do, ncat does not.
    pub(crate) echoes: bool,
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
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Step<'a> {
        match bytes.get(..message::LENGTH) {
            Some(payload) => Step::Message { payload, used: message::LENGTH },
            None => Step::Partial,
        }
    }
}
