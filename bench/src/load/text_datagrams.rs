//! The load in text over datagrams, for upcalld and the floor: a datagram is a message in both directions.

use std::io;
use std::time::Duration;

use super::datagrams::{DatagramAddress, LoadSocket, SocketPoll};
use super::tracker::DeliveryTracker;
use super::{LoadClients, invalid_data};
use crate::floor::datagram::JOIN;
use crate::message::TestMessage;
use crate::sys::{BATCH, DatagramBatch};

/// The receivers; the last of them is also the publisher.
pub(crate) struct TextDatagrams {
    window: u32,
    sockets: Vec<LoadSocket>,
    poll: SocketPoll,
    batch: DatagramBatch,
}

impl TextDatagrams {
    /// Registers clients, so that each message has this number of deliveries.
    pub(crate) fn join(address: &DatagramAddress, deliveries: usize) -> io::Result<TextDatagrams> {
        let mut poll = SocketPoll::new()?;
        let mut sockets = Vec::new();
        for index in 0..deliveries {
            let mut socket = LoadSocket::open(address, index)?;
            poll.add(&socket, index)?;
            socket.send(&[JOIN])?;
            sockets.push(socket);
            if index % BATCH == BATCH - 1 {
                // The server drops what its buffer does not hold: let it catch up.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(TextDatagrams { window: address.window(), sockets, poll, batch: DatagramBatch::new(2048) })
    }
}

impl LoadClients for TextDatagrams {
    fn receivers(&self) -> usize {
        self.sockets.len()
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn publish(&mut self, count: u32, tracker: &mut DeliveryTracker) -> io::Result<()> {
        let Some(publisher) = self.sockets.last_mut() else { return Ok(()) };
        let messages: Vec<TestMessage> = (0..count).map(|_| tracker.send()).collect();
        let datagrams: Vec<&[u8]> = messages.iter().map(|message| &message[..]).collect();
        publisher.send(&datagrams)
    }

    fn turn(&mut self, timeout: Duration, tracker: &mut DeliveryTracker) -> io::Result<()> {
        for event in 0..self.poll.wait(timeout)? {
            let index = self.poll.index(event);
            let count = self.sockets[index].receive(&mut self.batch)?;
            for i in 0..count {
                tracker.received(index, self.batch.datagram(i)).map_err(invalid_data)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;
    use crate::load::LoadRun;
    use crate::process::MeasuredProcess;

    #[test]
    fn a_lost_datagram_is_an_error() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = DatagramAddress::Udp(server.local_addr().unwrap());
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let server = thread::spawn(move || {
            let mut bytes = [0; 100];
            let mut number = 0;
            while let Ok((length, from)) = server.recv_from(&mut bytes) {
                if bytes[..length] != *JOIN {
                    number += 1;
                    if number != 10 && server.send_to(&bytes[..length], from).is_err() {
                        break;
                    }
                }
            }
        });
        let mut clients = TextDatagrams::join(&address, 1).unwrap();
        let error = LoadRun::new(&mut clients, MeasuredProcess::current())
            .and_then(|mut run| run.fan_out(64, Duration::ZERO, Duration::from_millis(50)))
            .unwrap_err();
        assert_eq!(error.to_string(), "receiver 0: received message 10 where 9 was next");
        server.join().unwrap();
    }
}
