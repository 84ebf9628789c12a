//! The report: Markdown for people, JSON for programs, and the block of `docs/benchmark.md`.

pub(crate) mod document;
pub(crate) mod json;
pub(crate) mod machine;
pub(crate) mod markdown;
