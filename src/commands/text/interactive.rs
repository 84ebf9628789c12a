//! `upcall-client` without a command: what is typed is sent, upcalls are shown as they come.
//!
//! At a terminal a prompt edits lines in the main thread and passes them through a pipe to an exchange in a second one;
//! whichever ends first ends the other. From a pipe the exchange reads standard input itself.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::datagram_commands as commands;
use super::exchange::{Exchange, Sink};
use super::lines::is_bye;
use super::link::{self, End, Link, Manner};
use super::source::Source;
use crate::commands::failure::{Failure, say};
use crate::commands::terminal::output::{Output, Printer, Style};
use crate::commands::terminal::prompt::{Display, Prompt, Typed};
use crate::commands::terminal::signals::Signals;
use crate::exit::Status;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::Address;

/// How long to wait for what is still due after a goodbye at the prompt: a person waits. (Over datagrams, a tenth of it
/// without anything is enough.)
const LINGER_AT_PROMPT: Duration = Duration::from_secs(2);

/// The same at the end of a pipe.
const LINGER: Duration = Duration::from_secs(5);

/// How often the prompt is asked to end; once is enough, unless it was just then not there.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(20);

/// Runs until `bye`, the end of input, or the end of the connection.
pub(in crate::commands) fn run(address: &Address) -> Result<(), Failure> {
    let stdout = || Output::stdout().map_err(|error| Failure::output(&error));
    let prompt = if io::stdin().is_terminal() { Prompt::open(stdout()?) } else { None };
    let linger = if prompt.is_some() { LINGER_AT_PROMPT } else { LINGER };
    let mut link = link::open(address, Manner { timeout: CONNECT_TIMEOUT, linger, echo: true })?;
    let datagrams = address.transport().is_datagram();
    // What comes on a stream is one text; datagrams are one each, whatever they end in.
    let style = if datagrams { Style::Lines } else { Style::Verbatim };
    let output = stdout()?;
    if let Some((prompt, display)) = prompt {
        let mut printer = Printer::new(&output, style, None);
        let mut above = AbovePrompt { display, pending: Vec::new() };
        let sink: &mut (dyn Sink + Send) = if io::stdout().is_terminal() { &mut above } else { &mut printer };
        let how = if datagrams { "joined {}, best effort" } else { "connected to {}" };
        let how = how.replace("{}", &address.to_string());
        say(&format!("{how}; what you type is sent line by line, bye or Ctrl-D ends"));
        at_prompt(&mut *link, prompt, sink, checked(address))
    } else {
        let signals = Signals::catch_for(address)?;
        let printer = Printer::new(&output, Style::unless_terminal(style), None);
        let end = piped(&mut *link, printer, signals.as_ref())?;
        if let Some(signals) = &signals {
            signals.release();
        }
        verdict(end, false)
    }
}

fn piped(link: &mut dyn Link, printer: Printer<'_>, signals: Option<&Signals>) -> Result<End, Failure> {
    let mut source = Source::default();
    source.add_stdin(true)?;
    let mut sink = WhileRead { printer, closed: false };
    let stop = signals.map(AsFd::as_fd);
    Exchange { link, source: Some(source), sink: &mut sink, deadline: None, stop, output: None }.run()
}

/// Refuses lines that the daemon would take for commands.
fn checked(address: &Address) -> impl Fn(&[u8]) -> Result<(), Failure> {
    let (datagrams, strict) = (address.transport().is_datagram(), !address.is_local());
    move |line| if datagrams { commands::check(line, strict) } else { Ok(()) }
}

fn at_prompt(
    link: &mut dyn Link,
    mut prompt: Prompt,
    sink: &mut (dyn Sink + Send),
    check: impl Fn(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unusable = |error: io::Error| Failure::new(Status::Io, format!("cannot set up the terminal: {error}"));
    let signals = Signals::catch().map_err(unusable)?;
    let (receiver, mut typed) = io::pipe().map_err(unusable)?;
    let mut source = Source::default();
    source.add_stream(receiver.into(), "the prompt", false);
    let (over, left) = (AtomicBool::new(false), AtomicBool::new(false));

    let (mishap, end) = thread::scope(|scope| {
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
            over.store(true, Ordering::SeqCst);
            // rustyline leaves the prompt on SIGINT and restores the terminal; anywhere else we have caught it. It can
            // come in between, so it is repeated.
            while !left.load(Ordering::SeqCst) {
                let _ = kill(Pid::this(), Signal::SIGINT);
                thread::park_timeout(INTERRUPT_INTERVAL);
            }
            end
        });
        let mishap = converse(&mut prompt, &mut typed, &over, check);
        left.store(true, Ordering::SeqCst);
        exchange.thread().unpark();
        // The end of the pipe is the end of what there is to send; without an editor nobody waits for it to draw.
        drop(typed);
        drop(prompt);
        let end = exchange.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (mishap, end)
    });
    signals.obey();
    let outcome = verdict(end?, true);
    // Why the connection ended says more than why the prompt did.
    outcome.and(mishap.map_or(Ok(()), Err))
}

/// Passes on what is typed until somebody leaves.
fn converse(
    prompt: &mut Prompt,
    typed: &mut impl Write,
    over: &AtomicBool,
    check: impl Fn(&[u8]) -> Result<(), Failure>,
) -> Option<Failure> {
    while !over.load(Ordering::SeqCst) {
        match prompt.read() {
            Typed::Line(text) => {
                for line in text.lines().filter(|line| !line.is_empty()) {
                    if is_bye(line.as_bytes()) {
                        return None;
                    }
                    if let Err(refusal) = check(line.as_bytes()) {
                        say(&refusal);
                        continue;
                    }
                    // A broken pipe means that the exchange is over, and it says why.
                    typed.write_all(format!("{line}\n").as_bytes()).ok()?;
                }
            }
            Typed::Garbage => say(&"that was not UTF-8; nothing was sent"),
            Typed::Leave => return None,
            Typed::Failed(error) => return Some(Failure::new(Status::Io, format!("the terminal is gone: {error}"))),
        }
    }
    None
}

fn verdict(end: End, at_prompt: bool) -> Result<(), Failure> {
    match end {
        End::Closed { farewell: Some(farewell), .. } => Err(Failure::from(&farewell)),
        End::Closed { complete: true, .. } | End::Sent | End::Enough | End::OutputClosed | End::Stopped => Ok(()),
        End::Failed(failure) => Err(failure),
        End::Closed { .. } => {
            Err(Failure::new(Status::Refused, "the daemon closed the connection and did not say why"))
        }
        End::Broken(error) => Err(Failure::new(Status::Io, format!("the connection to the daemon broke: {error}"))),
        // Somebody who says bye does not ask for a receipt.
        End::Lingered { unsent: false } if at_prompt => Ok(()),
        End::Lingered { .. } | End::TimedOut => Err(Failure::new(
            Status::TimedOut,
            "the daemon did not confirm in time that it has taken everything; some of it may be lost",
        )),
    }
}

/// Shows upcalls above the prompt, each on a line of its own.
struct AbovePrompt {
    display: Display,
    pending: Vec<u8>,
}

impl Sink for AbovePrompt {
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()> {
        Style::Escaped.render(upcall, &mut self.pending);
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.display.show(&self.pending);
            self.pending.clear();
        }
        Ok(())
    }
}

/// Prints for as long as somebody reads. After that input is still sent: it must not get lost because `head` has seen
/// enough of the upcalls.
struct WhileRead<'a> {
    printer: Printer<'a>,
    closed: bool,
}

impl Sink for WhileRead<'_> {
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()> {
        if self.closed { ControlFlow::Continue(()) } else { self.printer.upcall(upcall) }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.printer.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result,
        }
    }
}
