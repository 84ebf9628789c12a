//! A link of the bench that speaks native over a stream: as little as is needed, since this program shares a processor
//! with the daemon that it measures.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::commands::bench::link::Link;
use crate::commands::failure::Failure;
use crate::commands::programs;
use crate::exit::Status;
use upcall_client::Error;
use upcall_client::socket::stream::StreamSocket;
use upcall_wire::frame::{
    Code, ErrorFrame, Frame, FrameDecoder, HEADER, Hello, SEND_OVERHEAD, Send, UPCALL_OVERHEAD, kind,
};

/// How long a connection waits for its WELCOME at a time.
const WAIT: Duration = Duration::from_millis(100);

/// Where in the stream a read has ended.
#[derive(Debug)]
enum Place {
    /// In the first bytes of a frame, of an upcall up to its topic.
    Head(Vec<u8>),
    /// Before so many bytes of a payload.
    Payload(usize),
    /// Before so many bytes of something else.
    Skip(usize),
}

/// A stream: payloads are passed through as they come, whatever the size of their frames.
pub(in crate::commands::bench) struct Stream {
    connection: StreamSocket,
    place: Place,
    next_id: u64,
    /// Frames that are written, and how much of them is gone.
    out: Vec<u8>,
    gone: usize,
    over: Option<Failure>,
}

impl Stream {
    /// Registers over a connection.
    pub(in crate::commands::bench) fn open(
        connection: StreamSocket,
        token: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Stream, Failure> {
        let place = Place::Head(Vec::new());
        let mut stream = Stream { connection, place, next_id: 1, out: Vec::new(), gone: 0, over: None };
        let hello = Hello { name: "upcall-client bench", token, ..Hello::new(fastrand::u64(1..)) };
        Frame::Hello(hello).write(&mut stream.out);
        stream.await_welcome(timeout)?;
        Ok(stream)
    }

    fn await_welcome(&mut self, timeout: Duration) -> Result<(), Failure> {
        let until = Instant::now() + timeout;
        let mut decoder = FrameDecoder::default();
        while Instant::now() < until {
            match self.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(broken(&error)),
                _ => {}
            }
            programs::wait_readable(self.connection.as_fd(), WAIT);
            // Byte by byte: what comes behind the welcome is for others to read.
            let mut byte = [0];
            match self.connection.read(&mut byte) {
                Ok(0) => {
                    return Err(Failure::new(Status::Refused, "the daemon closed a connection before it let us in"));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(error) => return Err(broken(&error)),
            }
            let not_native = || Failure::new(Status::Protocol, "the daemon does not speak native; use --protocol text");
            match decoder.next(&mut &byte[..], 0) {
                Ok(Some(Frame::Welcome(_))) => return Ok(()),
                Ok(Some(Frame::Error(ErrorFrame { code, text, .. }))) => return Err(refused(code, text)),
                Ok(_) => {}
                Err(_) => return Err(not_native()),
            }
        }
        Err(Failure::new(Status::TimedOut, "the daemon has not let us in within the time allowed"))
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.gone < self.out.len() {
            self.gone += self.connection.write(&self.out[self.gone..])?;
        }
        self.out.clear();
        self.gone = 0;
        Ok(())
    }

    /// Moves the payloads in what was read to its front; returns how long they are.
    fn distil(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        let (mut at, mut filled) = (0, 0);
        while at < bytes.len() {
            match &mut self.place {
                Place::Payload(left) => {
                    let length = (*left).min(bytes.len() - at);
                    bytes.copy_within(at..at + length, filled);
                    (at, filled, *left) = (at + length, filled + length, *left - length);
                }
                Place::Skip(left) => {
                    let length = (*left).min(bytes.len() - at);
                    (at, *left) = (at + length, *left - length);
                }
                Place::Head(head) => {
                    let wanted = head_length(head);
                    let length = (wanted - head.len()).min(bytes.len() - at);
                    head.extend_from_slice(&bytes[at..at + length]);
                    at += length;
                }
            }
            self.go_on()?;
        }
        Ok(filled)
    }

    /// Looks at what follows on what is complete.
    fn go_on(&mut self) -> Result<(), Failure> {
        match &mut self.place {
            Place::Payload(0) | Place::Skip(0) => self.place = Place::Head(Vec::new()),
            Place::Head(head) if head.len() >= HEADER && head.len() == head_length(head) => {
                let body = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
                let rest = (HEADER + body).saturating_sub(head.len());
                match head[1] {
                    kind::UPCALL => self.place = Place::Payload(rest),
                    // These are the end, and short.
                    kind::ERROR | kind::BYE if rest == 0 => return Err(farewell(head)),
                    _ => self.place = Place::Skip(rest),
                }
                if rest == 0 {
                    self.place = Place::Head(Vec::new());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// How much of a frame is to be seen before it is known what to do with the rest.
fn head_length(head: &[u8]) -> usize {
    match head {
        [_, kind::UPCALL, _, topic, _, _, _, _, ..] => UPCALL_OVERHEAD + usize::from(*topic),
        [_, kind::ERROR | kind::BYE, _, _, 0, 0, high, low, ..] => {
            HEADER + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => HEADER,
    }
}

fn farewell(mut frame: &[u8]) -> Failure {
    match Frame::take(&mut frame) {
        Ok(Frame::Error(ErrorFrame { code, text, .. })) => refused(code, text),
        Ok(Frame::Bye(reason)) => {
            upcall_wire::farewell::Farewell::parse(upcall_wire::farewell::Farewell::line(reason).as_bytes())
                .map_or_else(
                    || Failure::new(Status::Refused, "the daemon closed a connection"),
                    |farewell| Failure::from(&farewell),
                )
        }
        _ => Failure::new(Status::Protocol, "the daemon broke the protocol"),
    }
}

fn refused(code: Code, text: &str) -> Failure {
    let text = upcall_wire::escape::Escaped(text.as_bytes()).to_string();
    Error::Refused { code, text }.into()
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Status::Io, format!("a connection broke: {error}"))
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl Link for Stream {
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize> {
        if self.gone < self.out.len() {
            // The first of them was half written the last time, and counts when the rest of it is.
            self.flush()?;
            return Ok(size);
        }
        self.out.clear();
        for (payload, id) in messages.chunks(size).zip(self.next_id..) {
            Send { id, receipt: false, topic: "", payload }.write(&mut self.out);
        }
        let blocked = self.flush().err();
        if let Some(error) = blocked.filter(|error| error.kind() != ErrorKind::WouldBlock) {
            return Err(error);
        }
        let frame = SEND_OVERHEAD + size;
        let (whole, part) = if self.out.is_empty() {
            (messages.len() / size, false)
        } else {
            (self.gone / frame, !self.gone.is_multiple_of(frame))
        };
        // What was not begun is not sent.
        self.out.truncate((whole + usize::from(part)) * frame);
        self.next_id += (whole + usize::from(part)) as u64;
        if whole == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(whole * size) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.connection.read(buffer)?;
        if length == 0 {
            return Ok(0);
        }
        match self.distil(&mut buffer[..length]) {
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            Ok(filled) => Ok(filled),
            Err(failure) => {
                self.over = Some(failure);
                Err(ErrorKind::Other.into())
            }
        }
    }

    fn over(&mut self) -> Option<Failure> {
        self.over.take()
    }

    fn loses(&self) -> bool {
        false
    }

    fn daemon(&self) -> Option<u32> {
        // Of a process that is not on this machine, or not in our namespace, the id is 0.
        let peer = getsockopt(&self.connection, PeerCredentials).ok()?;
        u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0)
    }
}
