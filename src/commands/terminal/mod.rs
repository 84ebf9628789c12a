//! Standard output and error, the prompt, and signals. Knows neither the daemon nor what is sent or received.

pub(super) mod output;
pub(super) mod prompt;
pub(super) mod signals;
