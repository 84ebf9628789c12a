//! Unix datagram peers that do not read, which must not affect the others.

use std::io::IoSlice;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::unistd::geteuid;
use upcall_wire::address::UnixName;
use upcalld::net::binding::Binding;
use upcalld::net::datagram::{DatagramSocket, Destination, PeerSocket, SendError, UnixPeer};
use upcalld::net::poller::{Interest, Poller};

use super::{DEADLINE, SENT, send};

const LARGE: usize = 60 * 1024;

struct Scene {
    ours: DatagramSocket,
    stalled: UnixDatagram,
    stalled_peer: UnixPeer,
    healthy: UnixDatagram,
    healthy_peer: UnixPeer,
    _directory: tempfile::TempDir,
}

fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let url = format!("unix-datagram://{}", path("ours").display());
    let ours = super::bind(&url, Binding { mode: 0o600, ..Binding::default() }).unwrap();
    let [(stalled, stalled_peer), (healthy, healthy_peer)] = ["stalled", "healthy"].map(|name| {
        let socket = UnixDatagram::bind(path(name)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        (socket, UnixPeer::verify(&UnixName::Path(path(name)), geteuid().as_raw()).unwrap())
    });
    Scene { ours, stalled, stalled_peer, healthy, healthy_peer, _directory: directory }
}

/// Sends until an error; returns how many were sent, and the error.
fn fill(mut send: impl FnMut() -> Option<SendError>) -> (usize, SendError) {
    (0..10_000).find_map(|count| send().map(|error| (count, error))).unwrap()
}

#[test]
fn l8_a_stalled_peer_is_full_and_the_others_are_not() {
    let Scene { ours, stalled, stalled_peer, healthy, healthy_peer, .. } = scene();
    let (sent, error) = fill(|| send(&ours, Destination::Unix(&stalled_peer), b"x").error);
    assert_eq!(error, SendError::Full);
    assert!(sent > 0);
    assert_eq!(send(&ours, Destination::Unix(&healthy_peer), b"y"), SENT);
    assert_eq!(healthy.recv(&mut [0; 9]).unwrap(), 1);
    assert!(ours.buffer_usage().unwrap().sending > 0);
    for _ in 0..sent {
        stalled.recv(&mut [0; 9]).unwrap();
    }
    assert_eq!(ours.buffer_usage().unwrap().sending, 0);
    assert_eq!(send(&ours, Destination::Unix(&stalled_peer), b"x"), SENT);
}

#[test]
fn l8_a_peer_socket_relieves_the_shared_one() {
    let Scene { ours, stalled, stalled_peer, healthy, healthy_peer, .. } = scene();
    let large = vec![b'x'; LARGE];
    let own = PeerSocket::connect(&stalled_peer, LARGE).unwrap();
    let (sent, error) = fill(|| own.send(&[IoSlice::new(&large)]).err());
    assert_eq!(error, SendError::Full);
    assert!(sent > 0);
    assert_eq!(ours.buffer_usage().unwrap().sending, 0);
    for _ in 0..3 {
        assert_eq!(send(&ours, Destination::Unix(&healthy_peer), &large), SENT);
        assert_eq!(healthy.recv(&mut vec![0; LARGE + 1]).unwrap(), LARGE);
    }
    // The poller reports when there is room again, and not before.
    let mut poller = Poller::new().unwrap();
    poller.add(&own, 0, Interest::ReadWrite).unwrap();
    assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap().filter(|ready| ready.writable).count(), 0);
    for _ in 0..sent {
        stalled.recv(&mut vec![0; LARGE + 1]).unwrap();
    }
    assert_eq!(poller.wait(Some(DEADLINE)).unwrap().filter(|ready| ready.writable).count(), 1);
    own.send(&[IoSlice::new(&large)]).unwrap();
}

#[test]
fn a_peer_socket_reports_room_after_a_queue_full_of_small_datagrams_too() {
    let Scene { stalled, stalled_peer, .. } = scene();
    let own = PeerSocket::connect(&stalled_peer, LARGE).unwrap();
    let mut poller = Poller::new().unwrap();
    poller.add(&own, 0, Interest::ReadWrite).unwrap();
    assert!(poller.wait(Some(Duration::ZERO)).unwrap().any(|ready| ready.writable));
    let (sent, error) = fill(|| own.send(&[IoSlice::new(b"x")]).err());
    assert_eq!(error, SendError::Full);
    // Discard the events that its own sending has caused.
    while poller.wait(Some(Duration::ZERO)).unwrap().any(|ready| ready.writable) {}
    for _ in 0..sent {
        stalled.recv(&mut [0; 9]).unwrap();
    }
    assert!(poller.wait(Some(DEADLINE)).unwrap().any(|ready| ready.writable));
    own.send(&[IoSlice::new(b"x")]).unwrap();
}

#[test]
fn a_peer_socket_reports_too_large_messages_and_missing_receivers() {
    let Scene { stalled, stalled_peer, .. } = scene();
    let own = PeerSocket::connect(&stalled_peer, LARGE).unwrap();
    assert_eq!(own.send(&[IoSlice::new(&vec![0; 10_000_000])]), Err(SendError::TooLarge));
    drop(stalled);
    assert_eq!(own.send(&[IoSlice::new(b"x")]), Err(SendError::Gone));
    assert_eq!(PeerSocket::connect(&stalled_peer, LARGE).unwrap_err(), SendError::Gone);
}

#[test]
fn a_connected_peer_accepts_from_the_shared_socket_only() {
    let Scene { ours, healthy, healthy_peer, _directory, .. } = scene();
    healthy.connect(_directory.path().join("ours")).unwrap();
    let refused = PeerSocket::connect(&healthy_peer, LARGE).unwrap_err();
    assert_eq!(refused, SendError::Unreachable(nix::libc::EPERM));
    assert_eq!(send(&ours, Destination::Unix(&healthy_peer), b"x"), SENT);
    assert_eq!(healthy.recv(&mut [0; 9]).unwrap(), 1);
}

#[test]
fn l8_other_peers_are_reached_when_a_connected_one_fills_the_shared_socket() {
    let Scene { ours, stalled, stalled_peer, healthy, healthy_peer, _directory } = scene();
    stalled.connect(_directory.path().join("ours")).unwrap();
    let large = vec![b'x'; LARGE];
    let (_, error) = fill(|| send(&ours, Destination::Unix(&stalled_peer), &large).error);
    assert_eq!(error, SendError::Full);
    let usage = ours.buffer_usage().unwrap();
    assert!(usage.sending >= usage.send_buffer, "{usage:?}");
    assert_eq!(send(&ours, Destination::Unix(&healthy_peer), &large).error, Some(SendError::Full));
    PeerSocket::connect(&healthy_peer, LARGE).unwrap().send(&[IoSlice::new(&large)]).unwrap();
    assert_eq!(healthy.recv(&mut vec![0; LARGE + 1]).unwrap(), LARGE);
    drop(stalled);
    assert_eq!(send(&ours, Destination::Unix(&healthy_peer), &large), SENT);
}
