//! Standard output, the prompt, and signals. Knows neither the daemon nor what is sent or received.

pub(in crate::commands) mod output;
pub(in crate::commands) mod prompt;
pub(in crate::commands) mod signals;
