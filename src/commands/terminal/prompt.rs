//! The prompt on a terminal, and text shown above it.
//!
//! Text and prompt share one screen. Text is therefore shown either while no prompt is drawn, or as part of drawing it:
//! the thread that edits the line writes the pending text above the prompt, in the same write. rustyline's external
//! printer is used only to trigger a redraw, because a message handed to that printer is lost if the line ends at that
//! moment, and overwrites the prompt if the line just begins.

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

/// Printing this leaves the screen as it is (one line up, one line down) and makes rustyline redraw the prompt.
const REDRAW: &str = "\x1b[A\n";

/// At most this many bytes wait for the next redraw without blocking the thread that shows text.
const MAX_PENDING: usize = 256 << 10;

/// The user's action at the prompt.
#[derive(Debug)]
pub(in crate::commands) enum Typed {
    /// Entered a line; a pasted one may contain newlines.
    Line(String),
    /// Entered bytes that are not UTF-8; the line is lost.
    NotUtf8,
    /// Pressed Ctrl-D or Ctrl-C, or a signal interrupted the prompt.
    Leave,
    /// Reading the terminal failed.
    Failed(String),
}

/// The line editor.
pub(in crate::commands) struct Prompt {
    editor: Editor<Hooks, DefaultHistory>,
    screen: Arc<Screen>,
}

impl Prompt {
    /// A prompt on the controlling terminal, and the display above it; `None` if there is no terminal that can do this.
    /// While no prompt is drawn, text is written to `output`.
    pub(in crate::commands) fn open(output: Output) -> Option<(Prompt, Display)> {
        // Without a controlling terminal rustyline would put the prompt on standard output.
        std::fs::File::open("/dev/tty").ok()?;
        let config = Config::builder()
            .behavior(Behavior::PreferTerm)
            .auto_add_history(true)
            // Without a timeout, a lone Escape would keep the prompt from ending.
            .keyseq_timeout(Some(100))
            .build();
        let mut editor = Editor::with_config(config).ok()?;
        // No colours are used, but rustyline calls the highlighter for the prompt only if colours are on.
        editor.set_color_mode(ColorMode::Forced);
        let screen = Arc::new(Screen { output, state: Mutex::default() });
        editor.set_helper(Some(Hooks { screen: Arc::clone(&screen) }));
        let printer = editor.create_external_printer().ok()?;
        let display = Display { screen: Arc::clone(&screen), printer: Box::new(printer) };
        Some((Prompt { editor, screen }, display))
    }

    /// Shows the prompt until a line is entered. The terminal's settings are restored when this returns.
    pub(in crate::commands) fn read(&mut self) -> Typed {
        let result = self.editor.readline(PROMPT);
        self.screen.prompt_ended();
        match result {
            Ok(line) => Typed::Line(line),
            Err(ReadlineError::Eof | ReadlineError::Interrupted | ReadlineError::Signal(_)) => Typed::Leave,
            Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => Typed::NotUtf8,
            Err(error) => Typed::Failed(error.to_string()),
        }
    }
}

/// Shows text, above the prompt if there is one.
pub(in crate::commands) struct Display {
    screen: Arc<Screen>,
    printer: Box<dyn ExternalPrinter + Send>,
}

impl Display {
    /// Shows complete lines.
    pub(in crate::commands) fn show(&mut self, lines: &[u8]) {
        if self.screen.add(lines) {
            // This blocks while the user keeps the prompt from being redrawn, for example by searching the history.
            // Once the prompt has ended it returns or fails, and nothing needs to be drawn.
            let _ = self.printer.print(REDRAW.into());
        }
    }
}

/// Tracks whether a prompt is on the screen.
struct Screen {
    output: Output,
    state: Mutex<ScreenState>,
}

#[derive(Default)]
struct ScreenState {
    prompt_drawn: bool,
    pending: Vec<u8>,
    redraw_wanted: bool,
}

impl Screen {
    fn state(&self) -> MutexGuard<'_, ScreenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows lines at once if no prompt is drawn. Otherwise keeps them for the next redraw, and returns whether to
    /// trigger one.
    fn add(&self, lines: &[u8]) -> bool {
        let mut state = self.state();
        if state.prompt_drawn {
            state.pending.extend_from_slice(lines);
            !mem::replace(&mut state.redraw_wanted, true) || state.pending.len() > MAX_PENDING
        } else {
            // If the terminal is gone, reading the prompt fails.
            let _ = self.output.write_all(lines);
            false
        }
    }

    /// Called before the prompt is drawn. Returns the text to put above it.
    fn begin_drawing(&self) -> Vec<u8> {
        let mut state = self.state();
        state.prompt_drawn = true;
        state.redraw_wanted = false;
        mem::take(&mut state.pending)
    }

    fn prompt_ended(&self) {
        let mut state = self.state();
        state.prompt_drawn = false;
        let pending = mem::take(&mut state.pending);
        let _ = self.output.write_all(&pending);
    }
}

/// The callbacks of rustyline while it edits a line.
struct Hooks {
    screen: Arc<Screen>,
}

impl Highlighter for Hooks {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        let mut above = self.screen.begin_drawing();
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
