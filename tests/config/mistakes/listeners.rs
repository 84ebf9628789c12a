//! Listeners: their keys, what they may stand beside, and what stands at their paths.

use upcalld::config::{Config, parse};

use super::{assert_mistakes, mistakes, with_transport};

#[test]
fn listeners() {
    for (transport, address, lines, place, words) in [
        ("tpc", "127.0.0.1:4141", "mode = \"0600\"", "2:13", "unknown transport \"tpc\"; did you mean \"tcp\"?"),
        ("tcp", "127.0.0.1", "", "3:11", "has no port; write 127.0.0.1:4141"),
        ("tcp", "lab:4141", "", "3:11", "\"lab\" is a host name"),
        ("tcp", "tcp://127.0.0.1:4141", "", "3:11", "leave out \"tcp://\""),
        ("tcp", "[::ffff:127.0.0.1]:1", "", "3:11", "write 127.0.0.1:1"),
        ("tcp", "::1:4141", "", "3:11", "needs brackets"),
        ("tcp", "0.0.0.0:4141", "", "3:11", "write allow = [\"192.0.2.0/24\"] with your network, or open = true"),
        ("tcp", "[::]:4141", "allow = []", "3:11", "open = true"),
        ("tcp", "192.0.2.1:4141", "deny = [\"192.0.2.0/24\"]", "3:11", "(\"deny\" alone admits every other client)"),
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
        ("tcp", "127.0.0.1:1", "protocol = \"nativ\"", "4:12", "unknown protocol \"nativ\"; did you mean \"native\"?"),
        ("tcp", "127.0.0.1:1", "protocol = \"text\"\nhistory = true", "5:1", "\"history\" is for native clients"),
    ] {
        assert_mistakes(&with_transport(transport, address, lines), &[(place, words)]);
    }
    let datagram_with_framing = with_transport("udp", "127.0.0.1:1", "framing = \"line\"");
    assert_mistakes(&datagram_with_framing, &[("4:1", "\"framing\" is for tcp and unix")]);
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
        ("udp://0.0.0.0:1", "udp://127.0.0.1:1"),
        ("unix-datagram://@x", "unix-datagram://@x"),
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
        ("tcp://127.0.0.1:1", "udp://127.0.0.1:1"),
    ] {
        assert_eq!(mistakes(&both(a, b)), [""; 0], "{a} {b}");
    }
    let a_path_is_one_file = mistakes(&both("unix:///nowhere/x", "unix-datagram:///nowhere/x"));
    assert!(a_path_is_one_file.iter().any(|line| line.contains("collides")), "{a_path_is_one_file:?}");
}

#[test]
fn names_are_unique_and_made_up_where_they_are_missing() {
    let listener =
        |name: &str, port: u16| format!("[[listener]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:{port}\"\n{name}\n");
    let twice = listener("name = \"lab\"", 1) + &listener("name = \"lab\"", 2);
    assert_mistakes(&twice, &[("8:8", "name \"lab\" is used by another listener")]);
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
    assert!(check()[0].starts_with("3:11: ") && check()[0].contains("exists and is not a socket"), "{:?}", check());
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
    let line = format!("token_file = \"{}\"", file.path().display());
    let text = with_transport("tcp", "0.0.0.0:1", &line);
    std::fs::write(&file, "hunter2\n").unwrap();
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
    assert_mistakes(&text, &[("4:14", "has mode 0644: others can read or write it")]);
    file.as_file().set_permissions(PermissionsExt::from_mode(0o640)).unwrap();
    // It is a rule of admission, so `open = true` is not needed.
    let config = parse("f", &text).unwrap();
    let token = config.listeners[0].token.as_ref().unwrap();
    assert!(token.is(b"hunter2") && !token.is(b"hunter2\n"));
    for shown in [config.to_toml(), format!("{config:?}")] {
        assert!(shown.contains(file.path().to_str().unwrap()) && !shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(parse("printed", &config.to_toml()), Ok(config));
    let text_only = format!("{text}\nprotocol = \"text\"");
    assert_mistakes(&text_only, &[("4:1", "protocol is \"text\", which cannot carry a token")]);
    std::fs::write(&file, "").unwrap();
    assert_mistakes(&text, &[("4:14", "is empty")]);
}

#[test]
fn listen_options() {
    let listen = |urls: &[&str], open: bool| {
        let addresses = urls.iter().map(|url| upcall_wire::address::Address::parse_url(url, None).unwrap()).collect();
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
        ("--listen unix://@x: ", "collides with listener \"unix-4\""),
    ]) {
        assert!(line.starts_with(option) && line.contains(words), "{line}");
    }
    assert_eq!(lines.len(), 3, "{mistakes}");
}
