use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::parse::parse_client_from;
use super::shared::parse_since;
use super::*;

fn target(arguments: &[&str]) -> Result<String, String> {
    let arguments: Vec<OsString> =
        std::iter::once("upcall-client").chain(arguments.iter().copied()).map(Into::into).collect();
    let client = parse_client_from(&arguments).map_err(|error| error.to_string())?;
    client.target.address(None).map(|address| address.to_string())
}

#[test]
fn the_definitions_are_consistent() {
    DaemonOptions::command().debug_assert();
    ClientOptions::command().debug_assert();
}

#[test]
fn the_environment_is_used_without_options() {
    let nothing = TargetOptions { url: None, transport: None, address: None };
    assert_eq!(nothing.address(Some("tcp://lab")).unwrap().to_string(), "tcp://lab:4141");
    assert!(nothing.address(Some("lab")).unwrap_err().starts_with("$UPCALL_URL: "));
    let given = TargetOptions { transport: Some("unix".into()), ..nothing };
    assert_eq!(given.address(Some("tcp://lab")).unwrap().to_string(), "unix:///run/upcalld/upcalld.sock");
    assert_eq!(given.address(Some("unix://@lab")).unwrap().to_string(), "unix://@lab");
    let given = TargetOptions { transport: Some("udp".into()), ..given };
    assert_eq!(given.address(Some("tcp://lab:7")).unwrap().to_string(), "udp://lab:7");
    assert_eq!(given.address(Some("unix://@lab")).unwrap().to_string(), "udp://127.0.0.1:4141");
    assert!(given.address(Some("lab")).unwrap_err().starts_with("$UPCALL_URL: "));
    let given = TargetOptions { address: Some("there".into()), ..given };
    assert_eq!(given.address(Some("tcp://lab:7")).unwrap().to_string(), "udp://there:4141");
}

#[test]
fn a_mistyped_url_is_distinguished_from_a_mistyped_command() {
    for (arguments, hint) in [
        (&["lisen"][..], "did you mean \"listen\"?"),
        (&["SEND", "hi"], "did you mean \"send\"?"),
        (&["snd", "hi"], "did you mean \"send\"?"),
        (&["@lab"], "write unix://@lab or unix-datagram://@lab"),
        (&["lab:7", "send", "hi"], "write tcp://lab:7 or udp://lab:7"),
        (&["something"], "neither a URL nor a command"),
    ] {
        let error = target(arguments).unwrap_err();
        assert!(error.contains(hint), "{arguments:?}: {error}");
    }
    for arguments in [&["ping", "-n"][..], &["send", "--no-such-option", "hi"]] {
        let error = target(arguments).unwrap_err();
        assert!(!error.contains("did you mean"), "a command that is spelt right: {error}");
    }
    assert_eq!(target(&["--address", "@lab"]).unwrap(), "unix://@lab");
    assert_eq!(target(&["--address", "/run/lab", "listen"]).unwrap(), "unix:///run/lab");
}

#[test]
fn the_daemon_is_found_by_url_or_by_parts() {
    assert_eq!(target(&[]).unwrap(), "tcp://127.0.0.1:4141");
    assert_eq!(target(&["tcp://lab"]).unwrap(), "tcp://lab:4141");
    assert_eq!(target(&["tcp://lab:1", "send", "hi"]).unwrap(), "tcp://lab:1");
    assert_eq!(target(&["--transport", "tcp", "--address", "lab:7"]).unwrap(), "tcp://lab:7");
    assert_eq!(target(&["--address", "lab:7"]).unwrap(), "tcp://lab:7");
    assert_eq!(target(&["--transport", "unix"]).unwrap(), "unix:///run/upcalld/upcalld.sock");
    assert_eq!(target(&["--transport", "unix", "--address", "@lab", "listen"]).unwrap(), "unix://@lab");
    assert!(target(&["--transport", "tpc"]).unwrap_err().contains("unknown transport"));
    assert!(target(&["tcp://lab", "--transport", "unix"]).unwrap_err().contains("cannot be used with"));
    assert_eq!(target(&["--transport", "udp"]).unwrap(), "udp://127.0.0.1:4141");
    assert_eq!(target(&["udp://[::1]", "listen"]).unwrap(), "udp://[::1]:4141");
    assert_eq!(target(&["--transport", "unix-datagram", "--address", "/x"]).unwrap(), "unix-datagram:///x");
    assert!(target(&["--transport", "unix-datagram"]).unwrap_err().contains("is missing"));
}

fn parse(arguments: &[&str]) -> Result<Command, String> {
    let arguments = std::iter::once("upcall-client").chain(arguments.iter().copied());
    let client = ClientOptions::try_parse_from(arguments).map_err(|error| error.to_string())?;
    let command = client.command.ok_or("no command")?;
    match &command {
        Command::Send(send) => send.check()?,
        Command::Listen(listen) => listen.check()?,
        _ => {}
    }
    Ok(command)
}

#[test]
fn text_has_no_topics() {
    assert!(parse(&["send", "--topic", "t", "x"]).is_ok());
    for arguments in [
        &["send", "--protocol", "text", "--topic", "t", "x"][..],
        &["send", "--protocol", "text", "--require-receivers", "1", "x"],
        &["listen", "--protocol", "text", "--since", "start"],
        &["listen", "--protocol", "text", "-0"],
    ] {
        assert!(parse(arguments).unwrap_err().contains("means nothing with --protocol text"), "{arguments:?}");
    }
}

#[test]
fn since_is_a_sequence_or_the_start() {
    assert_eq!(parse_since("start"), Ok(0));
    assert_eq!(parse_since("7"), Ok(7));
    assert!(parse_since("0").is_err() && parse_since("-1").is_err() && parse_since("now").is_err());
}

#[test]
fn the_command_follows_two_dashes() {
    let Ok(Command::Exec(exec)) = parse(&["exec", "--topic", "t", "--", "cat", "-n"]) else { panic!("it is exec") };
    assert_eq!(exec.command, ["cat", "-n"]);
    assert!(parse(&["exec"]).is_err() && parse(&["exec", "cat"]).is_err());
}

fn bench(arguments: &[&str]) -> Result<BenchOptions, String> {
    let arguments = ["upcall-client", "bench"].iter().chain(arguments);
    match ClientOptions::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
        Some(Command::Bench(bench)) => bench.check().map(|()| bench),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_mode_it_is_brief() {
    assert_eq!((bench(&[]).unwrap().modes().len(), bench(&[]).unwrap().time()), (3, Duration::from_secs(2)));
    assert_eq!(bench(&["idle"]).unwrap().modes(), [Mode::Idle]);
    assert_eq!(bench(&["idle", "-d", "7s"]).unwrap().time(), Duration::from_secs(7));
}

#[test]
fn options_of_another_mode_are_mistakes() {
    for arguments in [
        ["ping-pong", "--receivers", "3"],
        ["idle", "--messages", "3"],
        ["fan-out", "--rate", "3"],
        ["latency", "--window", "3"],
    ] {
        let error = bench(&arguments).unwrap_err();
        assert_eq!(error, format!("{} means nothing to bench {}", arguments[1], arguments[0]));
    }
    assert!(bench(&["--rate", "3", "--window", "3", "--receivers", "3", "--messages", "3"]).is_ok());
}

#[test]
fn numbers_are_bounded() {
    for arguments in [["--size", "47"], ["--receivers", "0"], ["--window", "65537"], ["--server-pid", "-1"]] {
        assert!(bench(&arguments).is_err(), "{arguments:?}");
    }
    assert!(bench(&["--server-pid", "4194305"]).unwrap_err().contains("no such process"));
    assert!(bench(&["--server-pid", &std::process::id().to_string()]).is_ok());
}
