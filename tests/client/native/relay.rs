//! A relay between a client and a daemon over UDP that loses, doubles and reorders what passes.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

pub(crate) struct Relay {
    pub(crate) url: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Loses `loss` percent each way, doubles 10 and delays 25 of the others.
    pub(crate) fn start(daemon: &str, loss: u8, seed: u64) -> Relay {
        let daemon: SocketAddr = daemon.trim_start_matches("udp://").parse().unwrap();
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        back.connect(daemon).unwrap();
        for socket in [&front, &back] {
            socket.set_nonblocking(true).unwrap();
            let _ = socket2::SockRef::from(socket).set_recv_buffer_size(4 << 20);
        }
        let url = format!("udp://{}", front.local_addr().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || pass(&front, &back, loss, &mut Rng::with_seed(seed), &stopped));
        Relay { url, stop, thread: Some(thread) }
    }
}

fn pass(front: &UdpSocket, back: &UdpSocket, loss: u8, random: &mut Rng, stop: &AtomicBool) {
    let mut client = None;
    let mut late: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut moved = false;
        let mut ready = Vec::new();
        if let Ok((length, from)) = front.recv_from(&mut buffer) {
            client = Some(from);
            ready.push((true, buffer[..length].to_vec()));
        }
        if let Ok(length) = back.recv(&mut buffer) {
            ready.push((false, buffer[..length].to_vec()));
        }
        let now = Instant::now();
        let mut out = Vec::new();
        for (up, datagram) in ready {
            moved = true;
            if random.u8(0..100) < loss {
                continue;
            }
            for _ in 0..1 + usize::from(random.u8(0..100) < 10) {
                if random.u8(0..100) < 25 {
                    late.push((now + Duration::from_millis(random.u64(1..10)), up, datagram.clone()));
                } else {
                    out.push((up, datagram.clone()));
                }
            }
        }
        late.retain(|(at, up, datagram)| {
            let due = *at <= now;
            if due {
                out.push((*up, datagram.clone()));
            }
            !due
        });
        for (up, datagram) in out {
            // What finds no room is lost: that is what this is for.
            let _ = match (up, client) {
                (true, _) => back.send(&datagram),
                (false, Some(client)) => front.send_to(&datagram, client),
                (false, None) => Ok(0),
            };
        }
        if !moved {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
