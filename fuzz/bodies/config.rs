//! Any file is either a configuration or a list of mistakes, and a configuration stays the same when it is printed and
//! parsed again.

use upcalld::config::parse;

/// Parses `bytes` as a configuration file.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse("f", text) {
        Ok(config) => {
            let printed = config.to_toml();
            assert_eq!(parse("printed", &printed).as_ref(), Ok(&config), "{printed}");
        }
        Err(mistakes) => {
            assert!(!mistakes.list().is_empty(), "refused without a mistake");
            for line in mistakes.to_string().lines() {
                assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
            }
        }
    }
}
