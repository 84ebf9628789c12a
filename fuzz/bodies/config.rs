//! Any file is a configuration or a list of mistakes; what is a configuration reads the same once it is printed.

use upcalld::config::parse;

/// The file.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse("f", text) {
        Ok(config) => {
            let printed = config.to_toml();
            assert_eq!(parse("printed", &printed).as_ref(), Ok(&config), "{printed}");
        }
        Err(mistakes) => {
            assert!(!mistakes.list().is_empty(), "a reason for a refusal");
            for line in mistakes.to_string().lines() {
                assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
            }
        }
    }
}
