//! Puts the report between the two markers of a Markdown document.

use std::fs;
use std::io;
use std::path::Path;

const BEGIN: &str = "<!-- benchmark: begin -->\n";
const END: &str = "<!-- benchmark: end -->";

/// Replaces the text between the markers. An error if the file lacks one of them.
pub(crate) fn update(file: &Path, text: &str) -> io::Result<()> {
    let old = fs::read_to_string(file)?;
    match replaced(&old, text) {
        Some(new) => fs::write(file, new),
        None => Err(io::Error::other(format!("{}: the lines {} and {END} are missing", file.display(), BEGIN.trim()))),
    }
}

fn replaced(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_block_changes() {
        let old = format!("a\n{BEGIN}old\n{END}\nb\n");
        assert_eq!(replaced(&old, "new\n\n"), Some(format!("a\n{BEGIN}new\n{END}\nb\n")));
        assert_eq!(replaced("nothing", "new"), None);
    }
}
