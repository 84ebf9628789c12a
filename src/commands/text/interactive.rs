//! `upcall-client` without a command: sends the lines that the user types, and shows upcalls as they arrive.
//!
//! At a terminal, the main thread edits lines at a prompt and passes them through a pipe to an exchange in a second
//! thread; whichever ends first ends the other. If standard input is not a terminal, the exchange reads it directly.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::Address;

use super::connect::{catch_signals, connect};
use super::datagram_commands;
use super::exchange::{Exchange, ExchangeEnd};
use super::lines::{ByeLine, is_bye};
use super::link::{Link, LinkEnd, LinkOptions};
use super::render::TextStyle;
use super::sink::{Printer, Sink};
use super::source::LineSource;
use crate::commands::failure::Failure;
use crate::commands::terminal::output::{Output, notice};
use crate::commands::terminal::prompt::{Display, Prompt, Typed};
use crate::commands::terminal::signals::CaughtSignals;
use crate::exit::Status;

/// How long to wait for the daemon after `bye` at the prompt: short, because a user is waiting. (Over datagrams, a
/// tenth of it without an upcall is enough.)
const LINGER_AT_PROMPT: Duration = Duration::from_secs(2);

/// The same at the end of a pipe.
const LINGER: Duration = Duration::from_secs(5);

/// How often the prompt is interrupted until it ends. One interrupt is enough, unless no prompt is drawn just then.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(20);

/// Runs until `bye`, the end of input, or the end of the connection.
pub(in crate::commands) fn run(address: &Address) -> Result<(), Failure> {
    let prompt = if io::stdin().is_terminal() { Prompt::open(Output::stdout()?) } else { None };
    let linger = if prompt.is_some() { LINGER_AT_PROMPT } else { LINGER };
    let mut link = connect(address, LinkOptions { timeout: CONNECT_TIMEOUT, linger, echo: true })?;
    let datagrams = address.transport().is_datagram();
    // Text from a stream is printed unchanged. Each datagram is printed on a separate line, even if it has no newline.
    let style = if datagrams { TextStyle::Lines } else { TextStyle::Verbatim };
    let output = Output::stdout()?;
    if let Some((prompt, display)) = prompt {
        let mut printer = Printer::new(&output, style, None);
        let mut above = AbovePrompt { display, pending: Vec::new() };
        let sink: &mut (dyn Sink + Send) = if io::stdout().is_terminal() { &mut above } else { &mut printer };
        let how = if datagrams { "joined {}, best effort" } else { "connected to {}" };
        let how = how.replace("{}", &address.to_string());
        notice(&format!("{how}; what you type is sent line by line, bye or Ctrl-D ends"));
        at_prompt(&mut *link, prompt, sink, line_check(address))
    } else {
        let signals = catch_signals(address)?;
        let printer = Printer::new(&output, TextStyle::unless_terminal(style), None);
        let end = piped(&mut *link, printer, signals.as_ref())?;
        if let Some(signals) = &signals {
            signals.release();
        }
        outcome(end, InputMode::Pipe)
    }
}

/// The source of the lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputMode {
    Prompt,
    Pipe,
}

fn piped(link: &mut dyn Link, printer: Printer<'_>, signals: Option<&CaughtSignals>) -> Result<ExchangeEnd, Failure> {
    let mut source = LineSource::default();
    source.add_stdin(ByeLine::Ends)?;
    let mut sink = WhileRead { printer, closed: false };
    let stop = signals.map(AsFd::as_fd);
    Exchange { link, source: Some(source), sink: &mut sink, deadline: None, stop, output: None }.run()
}

/// Refuses lines that the daemon would treat as commands.
fn line_check(address: &Address) -> impl Fn(&[u8]) -> Result<(), Failure> {
    let (datagrams, may_need_proof) = (address.transport().is_datagram(), !address.is_local());
    move |line| if datagrams { datagram_commands::refuse(line, may_need_proof) } else { Ok(()) }
}

fn at_prompt(
    link: &mut dyn Link,
    mut prompt: Prompt,
    sink: &mut (dyn Sink + Send),
    check: impl Fn(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unusable = |error: io::Error| Failure::new(Status::Io, format!("cannot set up the terminal: {error}"));
    let signals = CaughtSignals::catch().map_err(unusable)?;
    let (receiver, mut typed) = io::pipe().map_err(unusable)?;
    let mut source = LineSource::default();
    source.add_stream(receiver.into(), "the prompt", ByeLine::Sent);
    let (exchange_over, prompt_over) = (AtomicBool::new(false), AtomicBool::new(false));

    let (prompt_failure, end) = thread::scope(|scope| {
        let exchange = scope.spawn(|| {
            let exchange = Exchange {
                link,
                source: Some(source),
                sink,
                deadline: None,
                stop: Some(signals.as_fd()),
                output: None,
            };
            let end = exchange.run();
            exchange_over.store(true, Ordering::SeqCst);
            // On SIGINT rustyline ends the prompt and restores the terminal; outside of rustyline the signal is caught
            // and has no effect. It may arrive before the prompt is drawn, so it is repeated.
            while !prompt_over.load(Ordering::SeqCst) {
                let _ = kill(Pid::this(), Signal::SIGINT);
                thread::park_timeout(INTERRUPT_INTERVAL);
            }
            end
        });
        let prompt_failure = pass_lines(&mut prompt, &mut typed, &exchange_over, check);
        prompt_over.store(true, Ordering::SeqCst);
        exchange.thread().unpark();
        // Closing the pipe ends the source. Dropping the editor lets a display that waits for a redraw return.
        drop(typed);
        drop(prompt);
        let end = exchange.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (prompt_failure, end)
    });
    signals.obey();
    let outcome = outcome(end?, InputMode::Prompt);
    // The reason for the end of the connection is more useful than the reason for the end of the prompt.
    outcome.and(prompt_failure.map_or(Ok(()), Err))
}

/// Passes typed lines on until the user leaves or the exchange is over.
fn pass_lines(
    prompt: &mut Prompt,
    typed: &mut impl Write,
    exchange_over: &AtomicBool,
    check: impl Fn(&[u8]) -> Result<(), Failure>,
) -> Option<Failure> {
    while !exchange_over.load(Ordering::SeqCst) {
        match prompt.read() {
            Typed::Line(text) => {
                for line in text.lines().filter(|line| !line.is_empty()) {
                    if is_bye(line.as_bytes()) {
                        return None;
                    }
                    if let Err(refusal) = check(line.as_bytes()) {
                        notice(&refusal);
                        continue;
                    }
                    // A broken pipe means that the exchange is over; its result has the reason.
                    typed.write_all(format!("{line}\n").as_bytes()).ok()?;
                }
            }
            Typed::NotUtf8 => notice(&"that was not UTF-8; nothing was sent"),
            Typed::Leave => return None,
            Typed::Failed(error) => return Some(Failure::new(Status::Io, format!("the terminal is gone: {error}"))),
        }
    }
    None
}

fn outcome(end: ExchangeEnd, input: InputMode) -> Result<(), Failure> {
    let unconfirmed = "the daemon did not confirm in time that it accepted everything; some of it may be lost";
    let link_end = match end {
        ExchangeEnd::Link(end) => end,
        ExchangeEnd::Enough | ExchangeEnd::OutputClosed | ExchangeEnd::Stopped => return Ok(()),
        ExchangeEnd::TimedOut => return Err(Failure::new(Status::TimedOut, unconfirmed)),
    };
    match link_end {
        LinkEnd::Closed { farewell: Some(farewell), .. } => Err(Failure::from(&farewell)),
        LinkEnd::Closed { complete: true, .. } | LinkEnd::Sent => Ok(()),
        LinkEnd::Failed(failure) => Err(failure),
        LinkEnd::Closed { .. } => {
            Err(Failure::new(Status::Refused, "the daemon closed the connection and gave no reason"))
        }
        LinkEnd::Broken(error) => Err(Failure::new(Status::Io, format!("the connection to the daemon broke: {error}"))),
        // A user who leaves the prompt does not wait for a confirmation.
        LinkEnd::Lingered { unsent: false } if input == InputMode::Prompt => Ok(()),
        LinkEnd::Lingered { .. } => Err(Failure::new(Status::TimedOut, unconfirmed)),
    }
}

/// Shows upcalls above the prompt, each on a separate line.
struct AbovePrompt {
    display: Display,
    pending: Vec<u8>,
}

impl Sink for AbovePrompt {
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()> {
        TextStyle::Escaped.render(upcall, &mut self.pending);
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, Failure> {
        if !self.pending.is_empty() {
            self.display.show(&self.pending);
            self.pending.clear();
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Prints while the output has a reader. Afterwards, input is still sent: it must not be lost because, for example,
/// `head` has read as many upcalls as it wanted.
struct WhileRead<'a> {
    printer: Printer<'a>,
    closed: bool,
}

impl Sink for WhileRead<'_> {
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()> {
        if self.closed { ControlFlow::Continue(()) } else { self.printer.upcall(upcall) }
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, Failure> {
        self.closed |= self.printer.flush()?.is_break();
        Ok(ControlFlow::Continue(()))
    }
}
