//! Wrong configuration files: each mistake is reported once, with its line, its column and words that help.

mod files;
mod listeners;
mod values;

use upcalld::config::parse;

/// `line:column: reason` of every mistake.
fn mistakes(text: &str) -> Vec<String> {
    let lines = parse("f", text).map_or_else(|mistakes| mistakes.to_string(), |_| String::new());
    lines.lines().map(|line| line.strip_prefix("f:").expect(line).to_string()).collect()
}

/// Asserts that these are the mistakes: each begins with the first and contains the second.
fn assert_mistakes(text: &str, expected: &[(&str, &str)]) {
    let found = mistakes(text);
    let agree = found.iter().zip(expected).all(|(line, (place, words))| {
        line.strip_prefix(place).is_some_and(|rest| rest.starts_with(": ")) && line.contains(words)
    });
    assert!(agree && found.len() == expected.len(), "\n{text}\nfound: {found:#?}\nexpected: {expected:#?}");
}

fn with_transport(transport: &str, address: &str, lines: &str) -> String {
    format!("[[listener]]\ntransport = \"{transport}\"\naddress = \"{address}\"\n{lines}")
}
