//! Reports to the benchmark that a floor is ready.

use std::io::{self, Write};

/// Writes a line to standard output once the socket is bound: the benchmark waits for it.
pub(super) fn announce_ready() -> io::Result<()> {
    let mut output = io::stdout();
    output.write_all(b"ready\n")?;
    output.flush()
}
