//! The completions work: the tests ask bash what it would offer.

use std::process::Command;

const CLIENT: &str = env!("CARGO_BIN_EXE_upcall-client");

/// Sources the completions of the program that the line begins with, and prints what bash offers for the last word.
const ASK: &str = r#"
    read -ra COMP_WORDS <<<"$1"
    [[ $1 == *' ' ]] && COMP_WORDS+=('')
    eval "$("$0" completions bash "${COMP_WORDS[0]}")"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    function=$(complete -p "${COMP_WORDS[0]}" | sed 's/.*-F \([^ ]*\) .*/\1/')
    "$function" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s\n' "${COMPREPLY[@]}"
"#;

fn offers(line: &str) -> Vec<String> {
    let out = Command::new("bash").args(["--norc", "-c", ASK, CLIENT, line]).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_their_options() {
    for (line, wanted) in [
        ("upcall-client li", &["listen"][..]),
        ("upcall-client listen --ti", &["--timeout"]),
        ("upcall-client send --require", &["--require-receivers"]),
        ("upcall-client listen --protocol ", &["native", "text"]),
        ("upcall-client tcp://lab:1 pi", &["ping"]),
        ("upcall-client tcp://lab:1 listen --no-r", &["--no-reconnect"]),
        ("upcall-client --transport unix exec --job", &["--job-timeout"]),
        ("upcall-client completions z", &["zsh"]),
        ("upcalld --log-format ", &["auto", "text", "json"]),
        ("upcalld --pri", &["--print-config"]),
    ] {
        assert_eq!(offers(line), wanted, "{line}");
    }
}
