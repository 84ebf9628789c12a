//! Paths of Unix datagram sockets: which may be bound, and which may be sent to.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use nix::unistd::geteuid;
use upcall_wire::address::UnixName;
use upcalld::net::binding::Binding;
use upcalld::net::datagram::{DatagramSocket, Destination, SendError, UnixPeer, Unwritable};
use upcalld::net::listener::StreamListener;

use super::send;

const BINDING: Binding = Binding { dual_stack: false, mode: 0o640, group: None };

fn bind(path: &Path) -> std::io::Result<DatagramSocket> {
    super::bind(&format!("unix-datagram://{}", path.display()), BINDING)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_path_is_bound_with_its_mode_and_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = bind(&path).unwrap();
    assert_eq!(mode(&path), 0o640);
    socket.set_access(Binding { mode: 0o666, ..BINDING }).unwrap();
    assert_eq!(mode(&path), 0o666);
    drop(socket);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let error = bind(&directory.path().join("no/socket")).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn s10_a_dead_socket_is_replaced_whatever_its_type() {
    let directory = tempfile::tempdir().unwrap();
    for dead in ["datagram", "stream"] {
        let path = directory.path().join(dead);
        match dead {
            "stream" => drop(UnixListener::bind(&path).unwrap()),
            _ => drop(UnixDatagram::bind(&path).unwrap()),
        }
        assert!(path.exists());
        bind(&path).unwrap();
    }
}

#[test]
fn s9_a_live_socket_is_left_alone_whatever_its_type() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path, words: &str| {
        let error = bind(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(path.exists());
    };
    let ours = directory.path().join("ours");
    let _socket = bind(&ours).unwrap();
    refused(&ours, "lock");

    let theirs = directory.path().join("theirs");
    let live = UnixDatagram::bind(&theirs).unwrap();
    refused(&theirs, "listening");
    // A socket that accepts datagrams from another one only is alive as well.
    live.connect(&ours).unwrap();
    refused(&theirs, "listening");

    let stream = directory.path().join("stream");
    let listener = UnixListener::bind(&stream).unwrap();
    refused(&stream, "listening");
    // A stream listener detects a live datagram socket too, and the live stream listener has noticed nothing.
    let url = |path: &Path| format!("unix://{}", path.display()).replace("unix-datagram", "unix");
    for path in [&theirs, &stream] {
        let address = upcall_wire::address::Address::parse_url(&url(path), None).unwrap();
        assert_eq!(StreamListener::bind(&address, BINDING).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn s19_only_a_socket_of_the_sender_is_sent_to() {
    let directory = tempfile::tempdir().unwrap();
    let uid = geteuid().as_raw();
    let path = |name: &str| directory.path().join(name);
    let verify = |path: &Path, uid| UnixPeer::verify(&UnixName::Path(path.into()), uid);
    let _socket = UnixDatagram::bind(path("socket")).unwrap();
    symlink(path("socket"), path("link")).unwrap();
    fs::write(path("file"), "").unwrap();

    assert_eq!(verify(&path("socket"), uid).unwrap().name(), &UnixName::Path(path("socket")));
    assert!(matches!(verify(Path::new("socket"), uid), Err(Unwritable::Relative)));
    assert!(matches!(verify(Path::new(""), uid), Err(Unwritable::Relative)));
    assert!(matches!(verify(&path("link"), uid), Err(Unwritable::NotASocket)));
    assert!(matches!(verify(&path("file"), uid), Err(Unwritable::NotASocket)));
    assert!(matches!(verify(directory.path(), uid), Err(Unwritable::NotASocket)));
    assert!(matches!(verify(&path("socket"), uid + 1), Err(Unwritable::NotOwned(owner)) if owner == uid));
    let missing = verify(&path("missing"), uid);
    assert!(matches!(missing, Err(Unwritable::System(error)) if error.kind() == ErrorKind::NotFound));
}

#[test]
fn s19_a_path_that_is_redirected_to_another_socket_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let ours = bind(&path("ours")).unwrap();
    let victim = UnixDatagram::bind(path("victim")).unwrap();
    victim.set_nonblocking(true).unwrap();
    let stranger = UnixDatagram::bind(path("stranger")).unwrap();
    let peer = UnixPeer::verify(&UnixName::Path(path("stranger")), geteuid().as_raw()).unwrap();
    fs::remove_file(path("stranger")).unwrap();
    symlink(path("victim"), path("stranger")).unwrap();
    // The verified socket receives it, whatever is at the path now.
    assert_eq!(send(&ours, Destination::Unix(&peer), b"x"), super::SENT);
    assert_eq!(stranger.recv(&mut [0; 9]).unwrap(), 1);
    drop(stranger);
    assert_eq!(send(&ours, Destination::Unix(&peer), b"x").error, Some(SendError::Gone));
    victim.recv(&mut [0; 9]).unwrap_err();
}
