//! The names of the figures: keys in the JSON report, and labels for people.

use std::collections::BTreeMap;

/// What one measurement yields, by the name of the figure.
pub(crate) type RoundFigures = BTreeMap<&'static str, f64>;

/// The server's CPU time for a delivery, in microseconds.
pub(crate) const CPU: &str = "server_cpu_us_per_delivery";
/// The load's CPU time for a delivery, in microseconds.
pub(crate) const LOAD: &str = "load_cpu_us_per_delivery";
/// Both together, so that a server gains no advantage from work that it leaves to its receivers.
pub(crate) const TOTAL: &str = "total_cpu_us_per_delivery";
/// The number of deliveries. Each is checked.
pub(crate) const DELIVERIES: &str = "deliveries";
/// Deliveries a second.
pub(crate) const RATE: &str = "deliveries_per_second";
/// Messages published a second.
pub(crate) const MESSAGES: &str = "messages_per_second";
/// Median time from sending to receiving, in microseconds.
pub(crate) const P50: &str = "p50_us";
/// Memory for an endpoint that has not received anything yet, in bytes.
pub(crate) const SILENT: &str = "bytes_per_silent_endpoint";
/// Memory for an endpoint that has received a message, in bytes.
pub(crate) const SERVED: &str = "bytes_per_served_endpoint";
/// CPU time while nothing happens, in percent of a core.
pub(crate) const IDLE: &str = "idle_cpu_percent";
/// Wakeups a second while nothing happens.
pub(crate) const WAKEUPS: &str = "idle_wakeups_per_second";
/// Time from the start of the process to READY, in milliseconds.
pub(crate) const READY: &str = "ready_ms";
/// Size of the program, in MB (10^6 bytes).
pub(crate) const BINARY: &str = "binary_mb";
/// Resident memory when ready, in MB.
pub(crate) const RESIDENT: &str = "resident_mb";

/// The label of a figure, with its unit.
pub(crate) fn label(figure: &str) -> &str {
    match figure {
        CPU => "CPU per delivery",
        P50 => "p50",
        SILENT => "own bytes per silent endpoint",
        SERVED => "own bytes per endpoint after an upcall",
        IDLE => "idle CPU in %",
        WAKEUPS => "idle wakeups a second",
        READY => "ms from start to READY",
        BINARY => "MB of binary",
        RESIDENT => "MB resident",
        other => other,
    }
}
