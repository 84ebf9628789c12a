//! The report: Markdown for people, JSON for programs, and the block of README.

pub(crate) mod json;
pub(crate) mod machine;
pub(crate) mod markdown;
pub(crate) mod readme;
