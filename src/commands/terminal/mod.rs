//! Standard output and error, the prompt, and signals. Must not know the daemon or the protocol.

pub(super) mod output;
pub(super) mod prompt;
pub(super) mod signals;
