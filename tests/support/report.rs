//! What tests print for the full test script and for people: skipped tests and measured figures.

use std::io::Write;
use std::time::Duration;

/// Reports that a test, or a part of it, did not run. The full test script counts these lines.
pub(crate) fn skip(test: &str, why: &str) {
    // eprintln! would be captured by the test runner.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Skips because a program is not installed. With `CI=true` every program must be installed, so the test fails.
pub(crate) fn skip_without(test: &str, program: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} needs {program}, which is not installed");
    skip(test, &format!("{program} is not installed"));
}

/// Prints a measured figure. Figures depend on the machine, so tests do not assert them.
pub(crate) fn figure(test: &str, text: &str) {
    let _ = writeln!(std::io::stderr(), "FIGURE {test}: {text}");
}

/// The value at the given fraction of the sorted samples.
pub(crate) fn percentile(samples: &mut [Duration], fraction: f64) -> Duration {
    samples.sort_unstable();
    let at = (samples.len() as f64 * fraction) as usize;
    samples[at.min(samples.len() - 1)]
}
