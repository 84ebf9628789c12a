//! Configuration files: the shipped reference, wrong ones, and what `--print-config` prints.
#![allow(clippy::unwrap_used, reason = "an unexpected error fails the test")]

mod mistakes;
mod round_trip;
mod shipped;
