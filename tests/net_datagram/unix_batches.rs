//! Unix datagram sockets: senders, their credentials, and answers.

use std::fs;
use std::io::{IoSlice, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::unistd::geteuid;
use upcall_wire::address::{Credentials, UnixName};
use upcalld::net::binding::Binding;
use upcalld::net::datagram::{
    BatchBuffer, DatagramSocket, Destination, Inbox, SendError, SendOutcome, Sender, UnixPeer,
};

use super::{DEADLINE, SENT, receive, send};

const BINDING: Binding = Binding { dual_stack: false, mode: 0o600, group: None };

/// A socket of ours and its path.
fn ours(directory: &tempfile::TempDir) -> (DatagramSocket, std::path::PathBuf) {
    let path = directory.path().join("ours");
    let socket = super::bind(&format!("unix-datagram://{}", path.display()), BINDING).unwrap();
    (socket, path)
}

fn us() -> Option<Credentials> {
    let gid = nix::unistd::getegid().as_raw();
    Some(Credentials { pid: std::process::id() as i32, uid: geteuid().as_raw(), gid })
}

fn received(client: &UnixDatagram) -> Vec<u8> {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 70_000];
    let count = client.recv(&mut buffer).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn named_senders_are_answered_and_unnamed_ones_have_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, path) = ours(&directory);
    let large = vec![b'x'; 61_000];
    let by_path = directory.path().join("client");
    let abstract_name = format!("unix-datagram://@upcalld-test-{}", std::process::id());
    let abstract_socket = super::bind(&abstract_name, BINDING).unwrap();

    UnixDatagram::unbound().unwrap().send_to(b"who am I", &path).unwrap();
    let client = UnixDatagram::bind(&by_path).unwrap();
    client.send_to(&large, &path).unwrap();
    let ours_as_peer = UnixPeer::verify(&UnixName::Path(path), geteuid().as_raw()).unwrap();
    assert_eq!(send(&abstract_socket, Destination::Unix(&ours_as_peer), b""), SENT);

    let came = receive(&socket, &mut Inbox::new(64, 61_440), 3);
    let Sender::Unix { name: None, credentials } = &came[0].2 else { panic!("{:?}", came[0]) };
    assert_eq!((came[0].0.as_slice(), *credentials), (&b"who am I"[..], us()));
    assert_eq!(
        came[1],
        (large.clone(), false, Sender::Unix { name: Some(UnixName::Path(by_path)), credentials: us() })
    );
    let name = UnixName::Abstract(format!("upcalld-test-{}", std::process::id()).into_bytes());
    assert_eq!(came[2], (Vec::new(), false, Sender::Unix { name: Some(name), credentials: us() }));

    let peers: Vec<_> = came[1..]
        .iter()
        .map(|(_, _, from)| match from {
            Sender::Unix { name: Some(name), credentials: Some(Credentials { uid, .. }) } => {
                UnixPeer::verify(name, *uid).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let mut buffer = BatchBuffer::new();
    let mut batch = socket.batch(&mut buffer);
    for peer in &peers {
        batch.push(Destination::Unix(peer), None, [IoSlice::new(&large), IoSlice::new(b"!")], None);
        batch.push(Destination::Unix(peer), None, [], None);
    }
    assert_eq!(batch.send(), [SENT; 4]);
    assert_eq!(received(&client).len(), 61_001);
    assert_eq!(received(&client), b"");
    let answers = receive(&abstract_socket, &mut Inbox::new(64, 61_440), 2);
    assert_eq!((answers[0].0.len(), answers[1].0.len()), (61_001, 0));
}

#[test]
fn descriptors_that_a_client_sends_are_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, path) = ours(&directory);
    let (mut reader, theirs) = UnixStream::pair().unwrap();
    let client = UnixDatagram::unbound().unwrap();
    let fds = [theirs.as_raw_fd(); 8];
    let control = [ControlMessage::ScmRights(&fds)];
    let to = UnixAddr::new(&path).unwrap();
    let bytes = [IoSlice::new(b"take these")];
    sendmsg(client.as_raw_fd(), &bytes, &control, MsgFlags::empty(), Some(&to)).unwrap();
    drop(theirs);
    let came = receive(&socket, &mut Inbox::new(4, 100), 1);
    assert_eq!(came[0], (b"take these".to_vec(), false, Sender::Unix { name: None, credentials: us() }));
    // The other end is closed.
    reader.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_missing_peer_is_reported_and_costs_the_others_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, _) = ours(&directory);
    let paths: Vec<_> = (0..10).map(|number| directory.path().join(number.to_string())).collect();
    let mut clients: Vec<_> = paths.iter().map(|path| Some(UnixDatagram::bind(path).unwrap())).collect();
    let uid = geteuid().as_raw();
    let peers: Vec<_> =
        paths.iter().map(|path| UnixPeer::verify(&UnixName::Path(path.clone()), uid).unwrap()).collect();
    // Dead, with and without a file; and replaced by another socket, which has not sent anything yet.
    clients[3] = None;
    clients[5] = None;
    fs::remove_file(&paths[5]).unwrap();
    clients[7] = None;
    fs::remove_file(&paths[7]).unwrap();
    let newcomer = UnixDatagram::bind(&paths[7]).unwrap();
    let mut buffer = BatchBuffer::new();
    let mut batch = socket.batch(&mut buffer);
    for peer in &peers {
        batch.push(Destination::Unix(peer), None, [IoSlice::new(b"one")], None);
        batch.push(Destination::Unix(peer), None, [IoSlice::new(b"two")], None);
    }
    for (number, outcomes) in batch.send().chunks(2).enumerate() {
        let gone = SendOutcome { sent: 0, error: Some(SendError::Gone) };
        assert_eq!(outcomes, if clients[number].is_some() { [SENT; 2] } else { [gone; 2] }, "{number}");
    }
    for client in clients.iter().flatten() {
        assert_eq!([received(client), received(client)], [b"one", b"two"]);
    }
    newcomer.set_nonblocking(true).unwrap();
    newcomer.recv(&mut [0; 9]).unwrap_err();
}
