//! Listeners that require a token.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use upcall_wire::frame::{Code, Frame, Hello, Resume};

use super::{NAMES, auto, broken};
use crate::support::{Daemon, Event, Native, Place, Received, Setup, Stream, over};

over!(each: s15_only_the_token_lets_in, a_resume_needs_the_token_of_its_new_listener, a_reload_changes_the_token);

const TOKEN: &str = "correct horse battery staple";

fn write(setup: &Setup, token: &str) {
    let path = setup.scratch().join("token");
    fs::write(&path, format!("{token}\n")).expect("the scratch directory can be written");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
}

/// A daemon whose listeners require the token. The file is there before the daemon starts.
fn guarded(config: &str) -> Daemon {
    let setup = Setup::new(config);
    write(&setup, TOKEN);
    setup.args(&["-v"]).start()
}

fn hello(token: &str) -> Hello<'_> {
    Hello { token: Some(token.as_bytes()), name: "bearer", ..Hello::new(0) }
}

fn s15_only_the_token_lets_in(place: Place) {
    let daemon = guarded(&auto(place, "lab", "token_file = \"SCRATCH/token\""));
    let attempt = |hello: &Hello<'_>| {
        let mut native = Native::connect(&daemon.url("lab"));
        match native.hello(hello) {
            Received::Welcome(_) => Ok(native),
            Received::Error { code: Code::Unauthorized, .. } if place.is_datagram() => Err(()),
            Received::Error { code: Code::Unauthorized, .. } => {
                assert_eq!(native.rest(), broken());
                Err(())
            }
            other => panic!("{other:?}"),
        }
    };
    let long = TOKEN.repeat(2);
    for wrong in ["wrong", &TOKEN[1..], &TOKEN[..TOKEN.len() - 1], &long, "correct horse battery staple\n"] {
        assert!(attempt(&hello(wrong)).is_err(), "{wrong:?}");
    }
    assert!(attempt(&Hello::new(0)).is_err(), "none");
    let mut native = attempt(&hello(TOKEN)).expect("it is right");
    assert_eq!(native.send_confirmed("", "in"), (1, 0));
    // With every HELLO, a resuming one too.
    let resume = Some(native.session());
    assert!(attempt(&Hello { resume, ..Hello::new(0) }).is_err());
    assert_eq!(native.send_confirmed("", "still here"), (2, 0));
    assert!(attempt(&Hello { resume, ..hello(TOKEN) }).is_ok());
    // Nor by guessing a session before the token is checked.
    let guess = Some(Resume { id: 1, secret: [0; 16], last: 0 });
    assert!(attempt(&Hello { resume: guess, ..Hello::new(0) }).is_err());
    no_trace(&daemon);
}

/// A session needs the token of the listener where it goes on, whether or not it began at one that requires a token.
fn a_resume_needs_the_token_of_its_new_listener(place: Place) {
    let daemon = guarded(&(auto(place, "lab", "token_file = \"SCRATCH/token\"") + &auto(place, "open", "")));
    let mut native = Native::join(&daemon, "open");
    let resume = Some(native.session());
    let answer = Native::connect(&daemon.url("lab")).hello(&Hello { resume, ..Hello::new(0) });
    assert!(matches!(answer, Received::Error { code: Code::Unauthorized, .. }), "{answer:?}");
    assert_eq!(native.send_confirmed("", "still here"), (1, 0));
    let resume = Some(native.session());
    let mut inside = Native::connect(&daemon.url("lab"));
    assert!(inside.register(&Hello { resume, ..hello(TOKEN) }).resumed);
    assert!(inside.resume(&daemon.url("open")).welcome().resumed);
    no_trace(&daemon);
}

/// The token is in no line of the log, and no argument.
fn no_trace(daemon: &Daemon) {
    daemon.summary("summary: ");
    let log = daemon.log().raw().text();
    let arguments = fs::read(format!("/proc/{}/cmdline", daemon.pid())).expect("it runs");
    let environment = fs::read(format!("/proc/{}/environ", daemon.pid())).expect("it runs");
    for text in [log, String::from_utf8_lossy(&arguments).into(), String::from_utf8_lossy(&environment).into()] {
        assert!(!text.contains(TOKEN) && !text.contains("horse"), "{text}");
    }
}

#[test]
fn s15_the_configuration_is_printed_without_it() {
    let setup = Setup::new(&auto(Place::Tcp, "lab", "token_file = \"SCRATCH/token\"")).args(&["--print-config"]);
    write(&setup, TOKEN);
    let ended = setup.run();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("token_file = ") && !ended.stdout.contains("horse"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("horse"));
}

#[test]
fn s15_a_file_that_others_read_is_refused() {
    let setup = Setup::new(&auto(Place::Tcp, "lab", "token_file = \"SCRATCH/token\""));
    write(&setup, TOKEN);
    fs::set_permissions(setup.scratch().join("token"), PermissionsExt::from_mode(0o644)).expect("it is ours");
    let ended = setup.run();
    assert_eq!(ended.code(), 78);
    assert!(ended.stderr.contains("chmod it to 0600") && !ended.stderr.contains("horse"), "{}", ended.stderr);
}

/// Text is refused, on streams with a reason; a silent client gets nothing.
#[test]
fn text_is_refused_where_a_token_is_required() {
    let places = Place::EACH.into_iter().zip(NAMES);
    let config = places.map(|(place, name)| auto(place, name, "token_file = \"SCRATCH/token\"")).collect::<String>();
    let daemon = guarded(&config);
    for name in ["tcp", "unix"] {
        let stream: Stream = daemon.connect(name);
        stream.send("hello\n");
        let rest = String::from_utf8(stream.read_until_eof()).expect("text");
        assert!(rest.starts_with("upcalld: ") && rest.ends_with('\n'), "{rest:?}");
    }
    for name in ["udp", "unix-datagram"] {
        let datagram = daemon.datagram(name);
        datagram.send("join\n");
        datagram.send("hello\n");
        let mut native = Native::join_as(&daemon, name, &hello(TOKEN));
        native.send_confirmed("", "x");
        datagram.expect_nothing();
    }
    assert_eq!(daemon.count_now(Event::Joined), 2);
    no_trace(&daemon);
}

/// SIGHUP reads the token again, for newcomers; registered clients stay.
fn a_reload_changes_the_token(place: Place) {
    let config = auto(place, "lab", "token_file = \"SCRATCH/token\"");
    let daemon = guarded(&config);
    let mut native = Native::join_as(&daemon, "lab", &hello(TOKEN));
    write(daemon.setup(), "another token");
    daemon.reload(&config);
    assert_eq!(native.send_confirmed("", "still here"), (1, 0));
    let mut late = Native::connect(&daemon.url("lab"));
    let answer = late.hello(&hello(TOKEN));
    assert!(matches!(answer, Received::Error { code: Code::Unauthorized, .. }), "{answer:?}");
    let mut late = Native::join_as(&daemon, "lab", &hello("another token"));
    assert_eq!(late.send_confirmed("", "in"), (2, 1));
    // A resume is a HELLO.
    let session = native.session();
    let mut again = Native::connect(&daemon.url("lab"));
    let answer = again.hello(&Hello { resume: Some(session), ..hello(TOKEN) });
    assert!(matches!(answer, Received::Error { code: Code::Unauthorized, .. }), "{answer:?}");
    // A file that cannot be used changes nothing.
    fs::set_permissions(daemon.setup().scratch().join("token"), PermissionsExt::from_mode(0o644)).expect("it is ours");
    daemon.reload_refused(&config);
    Native::join_as(&daemon, "lab", &hello("another token"));
    native.send_frame(&Frame::Bye(""));
    native.rest();
    assert!(!daemon.log().raw().text().contains("another token"));
}
