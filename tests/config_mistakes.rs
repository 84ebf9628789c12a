//! Wrong configuration files: each mistake is reported once, with its line, its column and words that help.

use proptest::prelude::*;

use upcalld::config::{Config, Place, parse};

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

#[test]
fn values() {
    for (text, place, words) in [
        ("[upcall]\nmax_message = \"60K\"", "2:15", "unknown unit \"K\" in \"60K\"; did you mean \"60KiB\"?"),
        (
            "[upcall]\nmax_message = true",
            "2:15",
            "\"max_message\" takes a size, not a boolean; write for example max_message = \"16MiB\"",
        ),
        ("[upcall]\nmax_message = 0", "2:15", "zero"),
        ("[upcall]\nmax_message = -1", "2:15", "number of bytes"),
        ("[upcall]\nmax_message = 99999999999999999999", "2:15", "number of bytes"),
        ("[upcall]\nmessage_timeout = \"0s\"", "2:19", "\"forever\""),
        ("[upcall]\nmessage_timeout = \"never\"", "2:19", "not a duration"),
        ("[upcall]\ndeliver_to = \"al\"", "2:14", "unknown deliver_to \"al\"; did you mean \"all\"?"),
        ("[upcall]\ndeliver_to = \"everybody\"", "2:14", "it is one of all, others, sender"),
        ("[upcall]\nformat = \"got {dta}\"", "2:15", "unknown field {dta}; did you mean {data}?"),
        ("[upcall]\nformat = 'got {'", "2:15", "write {{"),
        ("[upcall]\nformat = \"\\u0041{\"", "2:10", "write {{"),
        ("[upcall]\nformat = [\"{data}\"]", "2:10", "\"format\" takes a string, not an array"),
        ("[registry]\nmax_endpoints = 0", "2:17", "from 1 to"),
        ("[registry]\nmax_endpoints = \"10\"", "2:17", "\"max_endpoints\" takes a whole number, not a string"),
        ("[registry]\nmax_endpoints = 1.5", "2:17", "not a float"),
        ("[registry]\nlease = \"0s\"", "2:9", "zero"),
        ("[registry]\nlease = \"5\"", "2:9", "\"5\" has no unit; write \"5s\""),
        ("[registry]\nlease = 5", "2:9", "5 has no unit; write \"5s\""),
        ("[registry]\nlease = \"5M\"", "2:9", "for minutes write \"5min\""),
        ("[registry]\nsession_ttl = \"31days\"", "2:15", "30 days"),
        ("[daemon]\nshutdown_grace = 2020-01-01", "2:18", "\"shutdown_grace\" takes a duration, not a date"),
        (
            "[daemon]\nlog_level = \"warning\"",
            "2:13",
            "unknown log_level \"warning\"; it is one of error, warn, info, debug",
        ),
        (
            "[daemon]\nlog_inputs = true",
            "2:14",
            "\"log_inputs\" takes a string, not a boolean; write for example log_inputs = \"auto\"",
        ),
        ("[log]\nsize = \"512KiB\"", "2:8", "from 1MiB to 4GiB"),
        ("log.size = \"5GiB\"", "1:12", "from 1MiB to 4GiB"),
        ("[slow_consumer]\npolicy = \"Skip\"", "2:10", "unknown policy \"Skip\"; did you mean \"skip\"?"),
        ("[slow_consumer]\npatience = \"for ever\"", "2:12", "not a duration"),
        ("[slow_consumer]\nmax_behind = { }", "2:14", "not a table"),
        ("# ü\n[upcall]\nformat='ü' \nmax_message='ü'", "4:13", "not a size"),
    ] {
        assert_mistakes(text, &[(place, words)]);
    }
}

#[test]
fn keys_and_tables() {
    for (text, place, words) in [
        ("lisener = []", "1:1", "unknown key \"lisener\"; did you mean \"listener\"?"),
        ("[slow-consumer]\nmax_behind = 1", "1:2", "did you mean \"slow_consumer\"?"),
        ("[[listeners]]\nname = 5", "1:3", "did you mean \"listener\"?"),
        ("[quotas]\nx = 1", "1:2", "unknown key \"quotas\"; it is one of listener, upcall"),
        ("max_message = 1", "1:1", "unknown key \"max_message\"; it belongs in [upcall]"),
        ("[log]\nlevel = 1", "2:1", "unknown key \"level\" in [log]; it is one of size"),
        ("[registry]\n  leese = 5", "2:3", "unknown key \"leese\" in [registry]; did you mean \"lease\"?"),
        ("[upcall]\npolicy = \"skip\"", "2:1", "it belongs in [slow_consumer]"),
        ("[listener]\ntransport = \"tcp\"", "1:1", "write [[listener]], in double brackets"),
        ("listener = [1]", "1:13", "a listener is a table, not an integer"),
        ("listener = []", "1:12", "empty list"),
        ("[[log]]\nsize = \"1MiB\"", "1:1", "\"log\" is a table, not an array; write [log]"),
        ("registry = 5", "1:12", "\"registry\" is a table, not an integer"),
        ("[[listener]]\naddress = \"127.0.0.1:1\"", "1:1", "no \"transport\""),
        ("[[listener]]\ntransport = \"tcp\"", "1:1", "no \"address\""),
        // What was meant for the address stands there: that it is missing would be an echo.
        ("[[listener]]\ntransport = \"tcp\"\nadress = \"127.0.0.1:1\"", "3:1", "did you mean \"address\"?"),
    ] {
        assert_mistakes(text, &[(place, words)]);
    }
    assert_mistakes(&with_transport("tcp", "127.0.0.1:1", "lease = \"1s\""), &[("4:1", "it belongs in [registry]")]);
    assert_mistakes(&with_transport("tcp", "127.0.0.1:1", "colour = 1"), &[("4:1", "upcalld.toml(5)")]);
}

#[test]
fn listeners() {
    for (transport, address, lines, place, words) in [
        ("tpc", "127.0.0.1:4141", "mode = \"0600\"", "2:13", "unknown transport \"tpc\"; did you mean \"tcp\"?"),
        ("tcp", "127.0.0.1", "", "3:11", "has no port; write 127.0.0.1:4141"),
        ("tcp", "lab:4141", "", "3:11", "\"lab\" is a host name"),
        ("tcp", "tcp://127.0.0.1:4141", "", "3:11", "leave \"tcp://\" out"),
        ("tcp", "[::ffff:127.0.0.1]:1", "", "3:11", "write 127.0.0.1:1"),
        ("tcp", "::1:4141", "", "3:11", "needs brackets"),
        ("tcp", "0.0.0.0:4141", "", "3:11", "write allow = [\"192.0.2.0/24\"] with your network, or open = true"),
        ("tcp", "[::]:4141", "allow = []", "3:11", "open = true"),
        ("tcp", "192.0.2.1:4141", "deny = [\"192.0.2.0/24\"]", "3:11", "(\"deny\" alone lets every other stranger in)"),
        (
            "tcp",
            "0.0.0.0:4141",
            "open = \"yes\"",
            "4:8",
            "\"open\" takes true or false, not a string; write for example open = true",
        ),
        ("tcp", "0.0.0.0:4141", "allow = \"192.0.2.0/24\"", "4:9", "\"allow\" takes a list of networks, not a string"),
        ("tcp", "0.0.0.0:4141", "allow = [\"::1\", \"192.0.2.7/24\"]", "4:17", "write \"192.0.2.0/24\""),
        ("tcp", "127.0.0.1:1", "deny = [\n  5]", "5:3", "but this is an integer; write for example deny = ["),
        ("tcp", "127.0.0.1:1", "deny = [\"lab\"]", "4:9", "\"lab\" is not a network"),
        ("tcp", "127.0.0.1:1", "mode = \"0660\"", "4:1", "\"mode\" is for unix and unix-datagram only"),
        ("tcp", "127.0.0.1:1", "group = 0", "4:1", "\"group\" is for unix"),
        ("tcp", "127.0.0.1:1", "allow_users = [0]", "4:1", "\"allow_users\" is for unix"),
        ("tcp", "127.0.0.1:1", "allow_groups = []", "4:1", "\"allow_groups\" is for unix"),
        ("tcp", "127.0.0.1:1", "trusted = []", "4:1", "\"trusted\" is for udp only, and transport is \"tcp\""),
        ("tcp", "[::1]:1", "dual_stack = true", "4:14", "needs the address \"[::]:port\", and this one is \"[::1]:1\""),
        ("tcp", "127.0.0.1:1", "name = \"\"", "4:8", "1 to 64"),
        ("tcp", "127.0.0.1:1", "name = \"a b\"", "4:8", "name \"a b\" is not"),
        ("tcp", "127.0.0.1:1", "max_endpoints = 0", "4:17", "from 1 to"),
        ("tcp", "127.0.0.1:1", "max_per_source = 0", "4:18", "from 1 to"),
        ("tcp", "127.0.0.1:1", "framing = \"lines\"", "4:11", "unknown framing \"lines\"; did you mean \"line\"?"),
        ("tcp", "127.0.0.1:1", "role = \"bohT\"", "4:8", "unknown role \"bohT\"; did you mean \"both\"?"),
        ("tcp", "127.0.0.1:1", "token_file = \"token\"", "4:14", "not an absolute path"),
        ("tcp", "127.0.0.1:1", "token_file = \"/nowhere/token\"", "4:14", "No such file"),
        ("unix", "run/x", "", "3:11", "relative path"),
        ("unix", "/", "", "3:11", "is a directory"),
        ("unix", "@x", "mode = \"0600\"", "4:1", "an abstract socket has none"),
        ("unix", "@x", "group = 0", "4:1", "\"group\" is for the file of a socket"),
        ("unix", "@x", "deny = []", "4:1", "\"deny\" is for tcp and udp only"),
        ("unix", "@x", "dual_stack = false", "4:1", "\"dual_stack\" is for tcp and udp only"),
        ("unix", "@x", "allow_users = [\"root\", \"no-such-user\"]", "4:24", "no user \"no-such-user\""),
        ("unix", "@x", "allow_groups = [-1]", "4:17", "number of a group"),
        (
            "unix",
            "/nowhere/x",
            "mode = 660",
            "4:8",
            "\"mode\" takes octal digits in a string, not an integer; write for example mode = \"0660\"",
        ),
        ("unix", "/nowhere/x", "mode = \"0680\"", "4:8", "mode \"0680\" is not"),
        ("unix", "/nowhere/x", "mode = \"4755\"", "4:8", "more than 0777"),
        ("unix", "/nowhere/x", "group = \"no-such-group\"", "4:9", "no group \"no-such-group\""),
        ("tcp", "127.0.0.1:1", "protocol = \"native\"", "4:12", "protocol \"native\" is not supported by this version"),
        ("tcp", "127.0.0.1:1", "history = true", "4:11", "history = true is not supported by this version"),
        ("udp", "127.0.0.1:1", "", "2:13", "transport \"udp\" is not supported by this version"),
        ("unix-datagram", "@x", "", "2:13", "transport \"unix-datagram\" is not supported by this version"),
    ] {
        assert_mistakes(&with_transport(transport, address, lines), &[(place, words)]);
    }
    let datagram_with_framing = with_transport("udp", "127.0.0.1:1", "framing = \"line\"");
    assert_mistakes(&datagram_with_framing, &[("2:13", "not supported"), ("4:1", "\"framing\" is for tcp and unix")]);
}

#[test]
fn sizes_that_do_not_fit_into_each_other() {
    for (text, place, words) in [
        ("[upcall]\nmax_message = \"5MiB\"", "2:15", "max_message (5MiB) is more than max_behind (4MiB)"),
        ("[slow_consumer]\nmax_behind = \"1KiB\"", "2:14", "max_message (60KiB) is more than max_behind (1KiB)"),
        ("[slow_consumer]\nmax_behind = \"60KiB\"", "2:14", "grows over max_behind (60KiB)"),
        ("[slow_consumer]\nmax_behind = \"100KiB\"\n[upcall]\nformat='{data}{data}'", "4:8", "with this format"),
        (
            "[slow_consumer]\nmax_behind = \"9MiB\"",
            "2:14",
            "max_behind (9MiB) of [slow_consumer] is more than half of size (16MiB)",
        ),
        ("[log]\nsize = \"4MiB\"", "2:8", "max_behind (4MiB) of [slow_consumer] is more than half of size (4MiB)"),
        // Nothing is concluded from a value that is wrong by itself.
        ("[log]\nsize = \"4M\"\n[slow_consumer]\nmax_behind = \"9MiB\"", "2:8", "did you mean \"4MiB\"?"),
        ("[slow_consumer]\nmax_behind = 0\n[upcall]\nmax_message = \"9MiB\"", "2:14", "zero"),
    ] {
        assert_mistakes(text, &[(place, words)]);
    }
}

#[test]
fn two_listeners_on_one_address() {
    let both = |a: &str, b: &str| {
        let listener = |name: &str, url: &str| {
            let (transport, address) = url.split_once("://").unwrap();
            let (address, dual) = address.strip_suffix('+').map_or((address, ""), |rest| (rest, "dual_stack = true\n"));
            format!(
                "[[listener]]\nname = \"{name}\"\nopen = true\ntransport = \"{transport}\"\naddress = \"{address}\"\n{dual}"
            )
        };
        format!("{}{}", listener("first", a), listener("second", b))
    };
    for (a, b) in [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://127.0.0.1:1", "tcp://localhost:1"),
        ("tcp://0.0.0.0:1", "tcp://127.0.0.1:1"),
        ("tcp://192.0.2.1:1", "tcp://0.0.0.0:1"),
        ("tcp://[::]:1", "tcp://[::1]:1"),
        ("tcp://0.0.0.0:1", "tcp://[::]:1+"),
        ("tcp://127.0.0.1:1", "tcp://[::]:1+"),
        ("unix:///nowhere/x", "unix:///nowhere//./x"),
        ("unix://@x", "unix://@x"),
    ] {
        let found = mistakes(&both(a, b));
        assert_eq!(found.len(), 1, "{a} {b}: {found:?}");
        assert!(found[0].starts_with("10:11: address collides with listener \"first\", which is on "), "{found:?}");
        let dual_first = mistakes(&both(b, a));
        assert!(dual_first.len() == 1 && dual_first[0].contains("collides"), "{b} {a}: {dual_first:?}");
    }
    for (a, b) in [
        ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://0.0.0.0:1", "tcp://[::]:1"),
        ("tcp://127.0.0.1:1", "tcp://[::1]:1"),
        ("unix:///nowhere/x", "unix://@/nowhere/x"),
    ] {
        assert_eq!(mistakes(&both(a, b)), [""; 0], "{a} {b}");
    }
    let udp_beside_tcp = mistakes(&both("tcp://127.0.0.1:1", "udp://127.0.0.1:1"));
    assert!(udp_beside_tcp.len() == 1 && udp_beside_tcp[0].contains("not supported"), "{udp_beside_tcp:?}");
    let a_path_is_one_file = mistakes(&both("unix:///nowhere/x", "unix-datagram:///nowhere/x"));
    assert!(a_path_is_one_file.iter().any(|line| line.contains("collides")), "{a_path_is_one_file:?}");
}

#[test]
fn names_are_unique_and_made_up_where_they_are_missing() {
    let listener =
        |name: &str, port: u16| format!("[[listener]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:{port}\"\n{name}\n");
    let twice = listener("name = \"lab\"", 1) + &listener("name = \"lab\"", 2);
    assert_mistakes(&twice, &[("8:8", "name \"lab\" is taken by another listener")]);
    let some = listener("", 1) + &listener("name = \"tcp-3\"", 2) + &listener("", 3) + &listener("", 4);
    let config = parse("f", &some).unwrap();
    let names: Vec<_> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["tcp-1", "tcp-3", "tcp-4", "tcp-5"]);
}

#[test]
fn a_path_that_is_no_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    let check = || mistakes(&with_transport("unix", path.to_str().unwrap(), ""));
    assert_eq!(check(), [""; 0], "a free path");
    std::fs::write(&path, "precious").unwrap();
    assert!(check()[0].starts_with("3:11: ") && check()[0].contains("exists and is no socket"), "{:?}", check());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(directory.path().join("y")).unwrap();
    std::os::unix::fs::symlink(directory.path().join("y"), &path).unwrap();
    assert!(check()[0].contains("is a symbolic link"), "links are not followed: {:?}", check());
    std::fs::rename(directory.path().join("y"), &path).unwrap();
    assert_eq!(check(), [""; 0], "a socket");
    drop(socket);
}

#[test]
fn a_token_file_is_kept_from_others() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = with_transport("tcp", "0.0.0.0:1", &format!("token_file = \"{}\"", file.path().display()));
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
    assert_mistakes(&text, &[("4:14", "has mode 0644: others can read or write it")]);
    file.as_file().set_permissions(PermissionsExt::from_mode(0o600)).unwrap();
    assert_mistakes(&text, &[("4:14", "token_file is not supported by this version")]);
}

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
    // What stands on other lines is judged too; what the parser made of the broken ones, and what they lack, is not.
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
fn listen_options() {
    let listen = |urls: &[&str], open: bool| {
        let addresses = urls.iter().map(|url| upcalld::address::Address::parse_url(url, None).unwrap()).collect();
        Config::default().with_listeners(addresses, open).map_err(|mistakes| mistakes.to_string())
    };
    assert_eq!(listen(&[], false), Ok(Config::default()));
    let config = listen(&["tcp://localhost:0", "unix://@x", "tcp://[::1]:0"], false).unwrap();
    let shown: Vec<_> = config.listeners.iter().map(|one| format!("{} {}", one.name, one.address)).collect();
    assert_eq!(shown, ["tcp-1 tcp://127.0.0.1:0", "unix-2 unix://@x", "tcp-3 tcp://[::1]:0"]);
    assert_eq!(config.upcall, Config::default().upcall);
    assert!(listen(&["tcp://0.0.0.0:1"], true).unwrap().listeners[0].open);
    let mistakes = listen(&["tcp://0.0.0.0:1", "tcp://lab:1", "udp://[::1]:2", "unix://@x", "unix://@x"], false);
    let mistakes = mistakes.unwrap_err();
    let lines: Vec<_> = mistakes.lines().collect();
    for (line, (option, words)) in lines.iter().zip([
        ("--listen tcp://0.0.0.0:1: ", "add --open"),
        ("--listen tcp://lab:1: ", "host name"),
        ("--listen udp://[::1]:2: ", "transport \"udp\" is not supported by this version"),
        ("--listen unix://@x: ", "collides with listener \"unix-4\""),
    ]) {
        assert!(line.starts_with(option) && line.contains(words), "{line}");
    }
    assert_eq!(lines.len(), 4, "{mistakes}");
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
        let shipped = include_str!("../config/upcalld.toml");
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
