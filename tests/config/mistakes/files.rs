//! Whole files: several mistakes at once, syntax errors, and files that are no configuration at all.

use proptest::prelude::*;

use upcalld::config::{Place, parse};

use super::assert_mistakes;

#[test]
fn four_mistakes_in_one_file() {
    let text = "\
[[listener]]
transport = \"tpc\"
address = \"0.0.0.0:4141\"
open = 1

[registry]
lease = \"0s\"
max_endpoint = 5

[upcall]
";
    assert_mistakes(
        text,
        &[
            ("2:13", "unknown transport \"tpc\"; did you mean \"tcp\"?"),
            ("4:8", "\"open\" takes true or false"),
            ("7:9", "zero"),
            ("8:1", "did you mean \"max_endpoints\"?"),
        ],
    );
}

#[test]
fn syntax_errors_all_in_one_run_and_without_echoes() {
    // Other lines are checked, too; what the parser made of the broken lines, and what they lack, is not.
    let text = "\
[[listener]]
transport = tcp
address = 127.0.0.1:4141
framing = \"lines\"
open = yes

[log]
size = \"16MiB
colour = 1
";
    assert_mistakes(
        text,
        &[
            ("2:13", "a string needs quotes"),
            ("3:16", "a string needs quotes"),
            ("4:11", "unknown framing \"lines\""),
            ("5:8", "a string needs quotes"),
            ("8:14", "invalid basic string"),
            ("9:1", "unknown key \"colour\""),
        ],
    );
    // With a table's header in doubt, so is everything below it.
    assert_mistakes("[upcal l]\nfrmat = 1\nx =\n", &[("1:7", "unclosed table"), ("3:4", "value is missing")]);
    assert_mistakes("[log]\nsize = \"1GiB\"\nsize = \"2GiB\"", &[("3:1", "duplicate key")]);
}

#[test]
fn huge_and_deeply_nested_files_are_refused_quickly() {
    let start = std::time::Instant::now();
    let too_large = "# x\n".repeat(10 << 18);
    assert!(parse("f", &too_large).unwrap_err().to_string().starts_with("f: the file is larger than 1MiB"));
    for open in ["[", "{a=", "[{a=", "a.", "[a.", "[["] {
        for close in ["", "]", "}"] {
            let nested = open.repeat(10_000) + &close.repeat(10_000);
            for text in [format!("x = {nested}"), format!("{nested} = 1"), format!("[[listener]]\nallow = {nested}")] {
                assert!(parse("f", &text).is_err(), "{open} {close}");
            }
        }
    }
    // As large as may be, and nothing but mistakes.
    for line in
        ["=\n", "a\n", "[[listener]]\n", "a.b=1\n", "[[listener]]\ntransport=\"tcp\"\naddress=\"127.0.0.1:1\"\n"]
    {
        let text = line.repeat((1 << 20) / line.len());
        assert!(parse("f", &text).unwrap_err().list().len() <= 1_001, "{line}");
    }
    // Generous: an unoptimised build on a busy machine. A quadratic algorithm would take minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is done to a good file, the answer is a configuration or a list of mistakes that are in the file.
    #[test]
    fn damaged_files_are_answered(
        cuts in prop::collection::vec((0..1_000usize, 0..60usize, "[\\[\\]{}\"'=.,#\n a1\\\\üé\u{feff}\r\t-]{0,6}"), 1..5),
    ) {
        let shipped = include_str!("../../../config/upcalld.toml");
        let lines = shipped.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
        let mut text = lines.map(|line| line.trim_start_matches('#').to_string() + "\n").collect::<String>();
        for (at, length, put) in cuts {
            let boundary = |at: usize| (at.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at));
            let (start, end) = (boundary(at).unwrap_or(0), boundary(at + length).unwrap_or(0));
            text.replace_range(start..end, &put);
        }
        if let Err(mistakes) = parse("f", &text) {
            prop_assert!(!mistakes.list().is_empty());
            for mistake in mistakes.list() {
                let Place::Position { line, column, .. } = mistake.place else { panic!("{mistake}") };
                let Some(content) = text.split('\n').nth(line - 1) else { panic!("{mistake}") };
                prop_assert!(column <= content.chars().count() + 1, "{mistake}");
            }
        } else {
            prop_assert!(!parse("f", &text).is_ok_and(|config| config.listeners.is_empty()));
        }
    }
}
