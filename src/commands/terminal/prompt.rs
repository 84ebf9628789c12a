//! The prompt on a terminal, and upcalls above it.
//!
//! Upcalls and the prompt share one screen, so every one is shown either while no prompt is drawn, or as a part of
//! drawing it: the thread that edits the line takes what is pending and puts it above the prompt, in the same write.
//! rustyline's external printer is only used to make it draw. (Messages handed to that printer could be lost when the
//! line ends just then, and would be written over the prompt when it begins.)

use std::borrow::Cow;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Behavior, ColorMode, Config, Editor, ExternalPrinter, Helper};

use crate::commands::terminal::output::Output;

const PROMPT: &str = "> ";

/// Printing this changes nothing on the screen (up one line, down one line), but the prompt is drawn again.
const REDRAW: &str = "\x1b[A\n";

/// What may wait for the prompt to be drawn, in bytes; more waits in front of the screen.
const PENDING: usize = 256 << 10;

/// What a person did at the prompt.
#[derive(Debug)]
pub(in crate::commands) enum Typed {
    /// Entered a line; pasted ones may hold newlines.
    Line(String),
    /// Entered bytes that are not text; the line is lost.
    Garbage,
    /// Pressed Ctrl-D or Ctrl-C, or something interrupted the prompt.
    Leave,
    /// The terminal is gone.
    Failed(String),
}

/// Edits lines.
pub(in crate::commands) struct Prompt {
    editor: Editor<Hooks, DefaultHistory>,
    screen: Arc<Screen>,
}

impl Prompt {
    /// A prompt on the controlling terminal, and what shows text above it; none where the terminal cannot do that.
    /// Text is written to `output` while no prompt is drawn.
    pub(in crate::commands) fn open(output: Output) -> Option<(Prompt, Display)> {
        // Without a controlling terminal rustyline would put the prompt on standard output.
        std::fs::File::open("/dev/tty").ok()?;
        let config = Config::builder()
            .behavior(Behavior::PreferTerm)
            .auto_add_history(true)
            // A lone Escape must not keep the prompt from ending.
            .keyseq_timeout(Some(100))
            .build();
        let mut editor = Editor::with_config(config).ok()?;
        // Nothing is coloured; drawing asks the highlighter for the prompt, and only if colours are on.
        editor.set_color_mode(ColorMode::Forced);
        let screen = Arc::new(Screen { output, state: Mutex::default() });
        editor.set_helper(Some(Hooks { screen: Arc::clone(&screen) }));
        let printer = editor.create_external_printer().ok()?;
        let display = Display { screen: Arc::clone(&screen), printer: Box::new(printer) };
        Some((Prompt { editor, screen }, display))
    }

    /// Shows the prompt until a line is entered. The terminal is as it was before when this returns.
    pub(in crate::commands) fn read(&mut self) -> Typed {
        let result = self.editor.readline(PROMPT);
        self.screen.prompt_gone();
        match result {
            Ok(line) => Typed::Line(line),
            Err(ReadlineError::Eof | ReadlineError::Interrupted | ReadlineError::Signal(_)) => Typed::Leave,
            Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => Typed::Garbage,
            Err(error) => Typed::Failed(error.to_string()),
        }
    }
}

/// Shows text, above the prompt where there is one.
pub(in crate::commands) struct Display {
    screen: Arc<Screen>,
    printer: Box<dyn ExternalPrinter + Send>,
}

impl Display {
    /// Shows complete lines.
    pub(in crate::commands) fn show(&mut self, lines: &[u8]) {
        if self.screen.add(lines) {
            // Fails, or returns at last, when the prompt is gone; then nothing has to be drawn. Waits while the person
            // keeps the prompt from being drawn (searching the history, say).
            let _ = self.printer.print(REDRAW.into());
        }
    }
}

/// The one place that knows whether a prompt is on the screen.
struct Screen {
    output: Output,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    prompt_drawn: bool,
    pending: Vec<u8>,
    redraw_wanted: bool,
}

impl Screen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows lines at once where no prompt is drawn; else says whether to make it be drawn.
    fn add(&self, lines: &[u8]) -> bool {
        let mut state = self.state();
        if state.prompt_drawn {
            state.pending.extend_from_slice(lines);
            !mem::replace(&mut state.redraw_wanted, true) || state.pending.len() > PENDING
        } else {
            // The terminal is gone or it is not; the prompt will notice.
            let _ = self.output.write_all(lines);
            false
        }
    }

    /// The prompt is about to be drawn: returns what belongs above it.
    fn prompt_drawn(&self) -> Vec<u8> {
        let mut state = self.state();
        state.prompt_drawn = true;
        state.redraw_wanted = false;
        mem::take(&mut state.pending)
    }

    fn prompt_gone(&self) {
        let mut state = self.state();
        state.prompt_drawn = false;
        let pending = mem::take(&mut state.pending);
        let _ = self.output.write_all(&pending);
    }
}

/// What rustyline calls while it edits a line.
struct Hooks {
    screen: Arc<Screen>,
}

impl Highlighter for Hooks {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        let mut above = self.screen.prompt_drawn();
        if above.is_empty() {
            return Cow::Borrowed(prompt);
        }
        above.extend_from_slice(prompt.as_bytes());
        // Escaped text is UTF-8.
        Cow::Owned(String::from_utf8_lossy(&above).into_owned())
    }
}

impl Completer for Hooks {
    type Candidate = String;
}

impl Hinter for Hooks {
    type Hint = String;
}

impl Validator for Hooks {}

impl Helper for Hooks {}
