//! The command line: what is checked, printed and refused before anything runs.

use std::fs;
use std::net::TcpListener;

use crate::support::{Daemon, Place, Setup, Stream, listener};

const USAGE: i32 = 64;
const CANNOT_CREATE: i32 = 73;
const CONFIGURATION: i32 = 78;

#[test]
fn check_names_four_mistakes_with_line_and_column() {
    let config = r#"[[listener]]
name = "lab"
transport = "tpc"
address = "127.0.0.1:4141"

[upcall]
formt = "x"
deliver_to = "everyone"

[registry]
lease = "5"
"#;
    let ended = Setup::new(config).args(&["--check"]).run();
    assert_eq!(ended.code(), CONFIGURATION, "{}", ended.stderr);
    let file = ended.setup.config_path().display().to_string();
    let said = ended.stdout.clone() + &ended.stderr;
    let mistakes = [(3, 13, "did you mean \"tcp\""), (7, 1, "did you mean"), (8, 14, "everyone"), (11, 9, "\"5\"")];
    for (line, column, words) in mistakes {
        let place = format!("{file}:{line}:{column}: ");
        let found = said.lines().find(|said| said.contains(&place));
        assert!(found.is_some_and(|found| found.contains(words)), "no {place}… {words} in\n{said}");
    }
    assert_eq!(said.lines().filter(|line| line.contains(&format!("{file}:"))).count(), mistakes.len(), "{said}");
}

/// `--check` binds nothing, so a port in use is no problem, and writes nothing.
#[test]
fn check_binds_and_writes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let config = listener("lab", "tcp", &address, "") + &listener("local", "unix", "SCRATCH/check.sock", "");
    for option in ["--check", "-t"] {
        let ended = Setup::new(&config).args(&[option]).run();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let names: Vec<_> = fs::read_dir(ended.setup.scratch())
            .expect("the scratch directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        assert_eq!(names, ["upcalld.toml"], "nothing was written");
    }
}

#[test]
fn a_wrong_file_refuses_to_start_and_binds_nothing() {
    let config = listener("local", "unix", "SCRATCH/never.sock", "") + "[upcall]\nformat = \"{dta}\"\n";
    let ended = Setup::new(&config).run();
    assert_eq!(ended.code(), CONFIGURATION, "{}", ended.stderr);
    assert!(ended.stderr.contains("upcalld.toml:8:11: "), "{}", ended.stderr);
    assert!(!ended.setup.scratch().join("never.sock").exists());
}

#[test]
fn a_missing_file_is_named() {
    let setup = Setup::new("");
    fs::remove_file(setup.config_path()).expect("it is there");
    let ended = setup.run();
    assert_eq!(ended.code(), CONFIGURATION, "{}", ended.stderr);
    assert!(ended.stderr.contains("upcalld.toml"), "{}", ended.stderr);
}

#[test]
fn wrong_options_are_usage() {
    let wrong: [&[&str]; 4] =
        [&["--lisen", "tcp://127.0.0.1:0"], &["--listen", "tpc://127.0.0.1:0"], &["-v", "-q"], &["--open"]];
    for arguments in wrong {
        let ended = Setup::new("").args(arguments).run();
        assert_eq!(ended.code(), USAGE, "{arguments:?}: {}", ended.stderr);
    }
    for arguments in [["--help"], ["--version"]] {
        let ended = Setup::new("").args(&arguments).run();
        assert_eq!(ended.code(), 0);
        assert!(ended.stdout.contains("upcalld"), "{}", ended.stdout);
    }
}

#[test]
fn listen_replaces_the_configured_listeners() {
    let config = Place::UnixPath.listener("local", "") + "[upcall]\nformat = \"<{data}>\"\n";
    let name = format!("@upcalld-test-{}-listen", std::process::id());
    let setup = Setup::new(&config).args(&["--listen", "tcp://127.0.0.1:0", "--listen", &format!("unix://{name}")]);
    let daemon = setup.start();
    let urls = daemon.urls();
    assert_eq!(urls.len(), 2, "{urls:?}");
    let streams: Vec<Stream> = urls.iter().map(|url| Stream::connect(url)).collect();
    daemon.wait_connected(2);
    streams[0].send("hi");
    for stream in &streams {
        stream.expect("<hi>");
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let missing = "SCRATCH/no/such/directory/x.sock";
    for (transport, address) in [("tcp", address.as_str()), ("unix", missing)] {
        let ended = Setup::new(&listener("lab", transport, address, "")).run();
        assert_eq!(ended.code(), CANNOT_CREATE, "{}", ended.stderr);
        let shown = address.replace("SCRATCH", &ended.setup.scratch().display().to_string());
        assert!(ended.stderr.contains(&shown), "{}", ended.stderr);
    }
}

#[test]
fn the_first_line_says_which_configuration() {
    let daemon = Setup::new(&Place::Tcp.listener("lab", "")).args(&["--log-format", "text"]).start();
    let text = daemon.log().raw().text();
    let first = text.lines().next().expect("there is a line");
    let file = daemon.setup().config_path().display().to_string();
    let version = env!("CARGO_PKG_VERSION");
    assert!(first.ends_with(&format!("upcalld {version}: configuration: {file}")), "{first}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].contains("listening on ") && lines[2].ends_with(" ready"), "{text}");
    for line in lines {
        let (time, rest) = line.split_once(' ').expect("words");
        assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-01-01T00:00:00.000Z".len(), "{line}");
        assert!(["error", "warn", "info", "debug"].contains(&rest.split(' ').next().expect("a word")), "{line}");
    }
}

#[test]
fn what_is_printed_is_a_configuration() {
    let config = Place::Tcp.listener("lab", "max_endpoints = 7") + "[upcall]\nformat = \"<{data}>\"\n";
    let first = Setup::new(&config).args(&["--print-config"]).run();
    assert_eq!(first.code(), 0, "{}", first.stderr);
    assert!(first.stdout.contains("max_endpoints = 7") && first.stdout.contains("<{data}>"), "{}", first.stdout);
    let second = Setup::new(&first.stdout).args(&["--print-config"]).run();
    assert_eq!(second.stdout, first.stdout, "printing what was printed changes nothing: {}", second.stderr);
    let daemon = Daemon::start(&first.stdout);
    let stream = daemon.join("lab");
    stream.send("x");
    stream.expect("<x>");
}

/// The token is read so that it is checked, and is printed nowhere.
#[test]
fn check_reads_the_token_file_and_shows_its_path_only() {
    use std::os::unix::fs::PermissionsExt;
    let config = listener("lab", "tcp", "127.0.0.1:0", "token_file = \"SCRATCH/token\"\nprotocol = \"auto\"");
    for (contents, mode, code) in
        [("hunter2\n", 0o600, 0), ("hunter2\n", 0o644, CONFIGURATION), ("", 0o600, CONFIGURATION)]
    {
        let setup = Setup::new(&config).args(&["--check"]);
        let token = setup.scratch().join("token");
        fs::write(&token, contents).expect("a token");
        fs::set_permissions(&token, PermissionsExt::from_mode(mode)).expect("its mode");
        let ended = setup.run();
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("upcalld.toml:6:14: token_file"), code != 0, "{}", ended.stderr);
        assert!(!(ended.stdout + &ended.stderr).contains("hunter2"));
    }
    let setup = Setup::new(&config).args(&["--print-config"]);
    fs::write(setup.scratch().join("token"), "hunter2").expect("a token");
    fs::set_permissions(setup.scratch().join("token"), PermissionsExt::from_mode(0o600)).expect("its mode");
    let ended = setup.run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("/token\"") && !ended.stdout.contains("hunter2"), "{}", ended.stdout);
}
