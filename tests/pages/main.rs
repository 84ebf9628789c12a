//! What is shipped beside the code agrees with it: manual pages, completions, units and packages.
#![allow(clippy::unwrap_used, reason = "an unexpected error fails the test")]

mod completions;
mod documents;
mod man_pages;
mod packaging;
mod protocol_page;
mod testing_page;
