//! Datagram sockets over loopback and in temporary directories. The unit tests cover errors that cannot be caused from
//! outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod udp;
mod unix_batches;
mod unix_flow;
mod unix_paths;
mod unix_stalled;

use std::io::IoSlice;
use std::time::{Duration, Instant};

use upcall_wire::address::Address;
use upcalld::net::binding::Binding;
use upcalld::net::datagram::{BatchBuffer, DatagramSocket, Destination, Inbox, Received, SendOutcome, Sender};
use upcalld::net::poller::{Interest, Poller};

const DEADLINE: Duration = Duration::from_secs(10);

const SENT: SendOutcome = SendOutcome { sent: 1, error: None };

fn bind(url: &str, binding: Binding) -> std::io::Result<DatagramSocket> {
    DatagramSocket::bind(&Address::parse_url(url, None).unwrap(), binding)
}

/// Receives until there are `count` datagrams.
fn receive(socket: &DatagramSocket, inbox: &mut Inbox, count: usize) -> Vec<(Vec<u8>, bool, Sender)> {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, 0, Interest::Read).unwrap();
    let (mut all, end) = (Vec::new(), Instant::now() + DEADLINE);
    while all.len() < count {
        match socket.receive(inbox) {
            Received::Datagrams(count) => {
                all.extend(inbox.iter().map(|datagram| (datagram.bytes.to_vec(), datagram.truncated, datagram.from)));
                assert_eq!(inbox.iter().count(), count);
            }
            Received::Drained => {
                assert!(Instant::now() < end, "{} of {count} came", all.len());
                assert!(poller.wait(Some(DEADLINE)).unwrap().next().is_some(), "{} of {count} came", all.len());
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

/// Sends one message.
fn send(socket: &DatagramSocket, to: Destination<'_>, bytes: &[u8]) -> SendOutcome {
    let mut buffer = BatchBuffer::new();
    let mut batch = socket.batch(&mut buffer);
    batch.push(to, None, [IoSlice::new(bytes)], None);
    batch.send()[0]
}
