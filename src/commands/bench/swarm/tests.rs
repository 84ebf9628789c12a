//! The loop over links of the test itself.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixDatagram;

use super::*;

/// A datagram link that receives its own messages, except for every tenth.
struct Lossy {
    ends: (UnixDatagram, UnixDatagram),
    count: u64,
}

impl AsFd for Lossy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.0.as_fd()
    }
}

impl BenchLink for Lossy {
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize> {
        self.count += 1;
        if self.count.is_multiple_of(10) { Ok(size) } else { self.ends.1.send(&messages[..size]) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ends.0.recv(buffer)
    }

    fn is_lossy(&self) -> bool {
        true
    }

    fn daemon_pid(&self) -> Option<u32> {
        None
    }
}

#[test]
fn losses_are_counted_and_do_not_block() {
    let ends = UnixDatagram::pair().unwrap();
    ends.0.set_nonblocking(true).unwrap();
    ends.1.set_nonblocking(true).unwrap();
    let mut swarm = Swarm::new(1, 64, Duration::from_secs(10)).unwrap();
    swarm.add(vec![Box::new(Lossy { ends, count: 0 })]).unwrap();
    swarm.measure(true);
    while swarm.sent() < 100 || swarm.slowest() < 100 {
        let window = (swarm.slowest() + 20 - swarm.sent()).min(100 - swarm.sent());
        swarm.publish(window).unwrap();
        swarm.turn(Duration::from_millis(10)).unwrap();
    }
    assert_eq!((swarm.deliveries(), swarm.take_times().unwrap().count()), (90, 90));
    assert_eq!(swarm.faults(), (Faults { lost: 10, ..Faults::default() }, 1));
}
