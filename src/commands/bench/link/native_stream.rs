//! A native endpoint over a stream as a link of the bench. It does as little as possible, because this program shares
//! the processor with the daemon that it measures.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use upcall_client::Error;
use upcall_client::socket::stream::StreamSocket;
use upcall_wire::escape::Escaped;
use upcall_wire::farewell::Farewell;
use upcall_wire::frame::{
    Code, ErrorFrame, Frame, FrameDecoder, HEADER, Hello, SEND_OVERHEAD, Send, UPCALL_OVERHEAD, kind,
};

use super::BenchLink;
use super::text_stream::peer_pid;
use crate::commands::failure::Failure;
use crate::commands::poll::wait_readable;
use crate::exit::Status;

/// How long to wait at a time while there is no WELCOME.
const WAIT: Duration = Duration::from_millis(100);

/// Where in the stream of frames a read has ended.
#[derive(Debug)]
enum FramePosition {
    /// In the header of a frame, or in the head of an UPCALL, which ends with its topic. Holds the bytes read so far.
    Head(Vec<u8>),
    /// In a payload, of which this many bytes are left.
    Payload(usize),
    /// In the body of another frame, of which this many bytes are left.
    Other(usize),
}

/// A stream. It passes payloads on as they arrive, whatever the size of their frames.
pub(super) struct NativeStream {
    connection: StreamSocket,
    position: FramePosition,
    next_id: u64,
    /// Frames to write, and how many of their bytes were written.
    out: Vec<u8>,
    written: usize,
    failure: Option<Failure>,
}

impl NativeStream {
    /// Registers over a connection.
    pub(super) fn open(
        connection: StreamSocket,
        token: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<NativeStream, Failure> {
        let position = FramePosition::Head(Vec::new());
        let mut stream = NativeStream { connection, position, next_id: 1, out: Vec::new(), written: 0, failure: None };
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
            wait_readable(self.connection.as_fd(), WAIT);
            // Byte by byte, so that what follows the WELCOME is left for `read`.
            let mut byte = [0];
            match self.connection.read(&mut byte) {
                Ok(0) => {
                    return Err(Failure::new(Status::Refused, "the daemon closed a connection before its WELCOME"));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                Err(error) => return Err(broken(&error)),
            }
            match decoder.next(&mut &byte[..], 0) {
                Ok(Some(Frame::Welcome(_))) => return Ok(()),
                Ok(Some(Frame::Error(ErrorFrame { code, text, .. }))) => return Err(refused(code, text)),
                Ok(_) => {}
                Err(_) => {
                    let message = "the daemon does not speak native; use --protocol text";
                    return Err(Failure::new(Status::Protocol, message));
                }
            }
        }
        Err(Failure::new(Status::TimedOut, "the daemon did not send its WELCOME in time"))
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            self.written += self.connection.write(&self.out[self.written..])?;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Moves the payloads among the bytes that were read to the front. Returns their length.
    fn extract_payloads(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        let (mut at, mut filled) = (0, 0);
        while at < bytes.len() {
            match &mut self.position {
                FramePosition::Payload(left) => {
                    let length = (*left).min(bytes.len() - at);
                    bytes.copy_within(at..at + length, filled);
                    (at, filled, *left) = (at + length, filled + length, *left - length);
                }
                FramePosition::Other(left) => {
                    let length = (*left).min(bytes.len() - at);
                    (at, *left) = (at + length, *left - length);
                }
                FramePosition::Head(head) => {
                    let wanted = head_length(head);
                    let length = (wanted - head.len()).min(bytes.len() - at);
                    head.extend_from_slice(&bytes[at..at + length]);
                    at += length;
                }
            }
            self.advance()?;
        }
        Ok(filled)
    }

    /// If a head, a payload or a body is complete, moves on to what follows it.
    fn advance(&mut self) -> Result<(), Failure> {
        match &mut self.position {
            FramePosition::Payload(0) | FramePosition::Other(0) => self.position = FramePosition::Head(Vec::new()),
            FramePosition::Head(head) if head.len() >= HEADER && head.len() == head_length(head) => {
                let body = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
                let rest = (HEADER + body).saturating_sub(head.len());
                match head[1] {
                    kind::UPCALL => self.position = FramePosition::Payload(rest),
                    // The end of the connection. Their head holds the whole frame.
                    kind::ERROR | kind::BYE if rest == 0 => return Err(farewell(head)),
                    _ => self.position = FramePosition::Other(rest),
                }
                if rest == 0 {
                    self.position = FramePosition::Head(Vec::new());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// How many bytes of a frame must be read before it is known what to do with the rest.
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
            // The line that a text stream would end with.
            Farewell::parse(upcall_wire::farewell::Farewell::line(reason).as_bytes()).map_or_else(
                || Failure::new(Status::Refused, "the daemon closed a connection"),
                |farewell| Failure::from(&farewell),
            )
        }
        _ => Failure::new(Status::Protocol, "the daemon broke the protocol"),
    }
}

fn refused(code: Code, text: &str) -> Failure {
    let text = Escaped(text.as_bytes()).to_string();
    Error::Refused { code, text }.into()
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Status::Io, format!("a connection broke: {error}"))
}

impl AsFd for NativeStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl BenchLink for NativeStream {
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize> {
        if self.written < self.out.len() {
            // The first message was half written by the last call. It counts once the rest is written.
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
            (self.written / frame, !self.written.is_multiple_of(frame))
        };
        // Frames of which nothing was written are dropped: the caller passes their messages again.
        self.out.truncate((whole + usize::from(part)) * frame);
        self.next_id += (whole + usize::from(part)) as u64;
        if whole == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(whole * size) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.connection.read(buffer)?;
        if length == 0 {
            return Ok(0);
        }
        match self.extract_payloads(&mut buffer[..length]) {
            Ok(0) => Err(ErrorKind::WouldBlock.into()),
            Ok(filled) => Ok(filled),
            Err(failure) => {
                self.failure = Some(failure);
                Err(ErrorKind::Other.into())
            }
        }
    }

    fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    fn is_lossy(&self) -> bool {
        false
    }

    fn daemon_pid(&self) -> Option<u32> {
        peer_pid(&self.connection)
    }
}
