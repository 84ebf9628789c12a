//! The destinations of the upcalls of an exchange.

use std::ops::ControlFlow;

use super::render::TextStyle;
use crate::commands::failure::Failure;
use crate::commands::terminal::output::Output;

/// Receives the upcalls of an exchange.
pub(super) trait Sink {
    /// Accepts an upcall, with its newline if it had one; breaks once no more are wanted.
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()>;

    /// Writes the upcalls that were accepted since the last call; breaks if the reader of the output is gone.
    fn flush(&mut self) -> Result<ControlFlow<()>, Failure>;
}

/// Prints upcalls, up to a number of them. Each batch is one write.
#[derive(Debug)]
pub(super) struct Printer<'a> {
    output: &'a Output,
    style: TextStyle,
    remaining: Option<u64>,
    pending: Vec<u8>,
}

impl<'a> Printer<'a> {
    /// Prints at most `count` upcalls, or all of them.
    pub(super) fn new(output: &'a Output, style: TextStyle, count: Option<u64>) -> Printer<'a> {
        Printer { output, style, remaining: count, pending: Vec::new() }
    }
}

impl Sink for Printer<'_> {
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()> {
        if self.remaining == Some(0) {
            return ControlFlow::Break(());
        }
        self.style.render(upcall, &mut self.pending);
        self.remaining = self.remaining.map(|remaining| remaining - 1);
        if self.remaining == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, Failure> {
        let result = self.output.print(&self.pending);
        self.pending.clear();
        result
    }
}

/// Accepts upcalls and shows none of them.
#[derive(Debug)]
pub(super) struct Discard;

impl Sink for Discard {
    fn upcall(&mut self, _: &[u8]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, Failure> {
        Ok(ControlFlow::Continue(()))
    }
}
