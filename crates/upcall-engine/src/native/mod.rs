//! What native endpoints send: HELLO, messages, changes of filters, and frames that only show that the client is alive.

mod hello;
mod send;
mod subscribe;

use upcall_wire::frame::{Code, ErrorFrame, Frame, Violation, kind};
use upcall_wire::reason::Reason;

use crate::id::EndpointId;
use crate::{Accepted, Engine, Now};

pub use hello::Terms;

/// A violation by a frame of kind `about`.
const fn violation(code: Code, about: u8, text: &'static str) -> Violation {
    Violation { code, about, reference: 0, text }
}

impl Engine {
    /// Handles a frame of a native endpoint, other than its HELLO. Returns the outcome if it was a new input.
    pub fn handle_frame(&mut self, now: Now, id: EndpointId, frame: &Frame<'_>) -> Option<Accepted> {
        let endpoint = self.registry.get_mut(id)?;
        endpoint.last_received = now.time.into();
        let is_datagram = endpoint.transport.is_datagram();
        if endpoint.leaving.is_some() {
            // What is still due to it must arrive.
            if let Frame::Ack(ack) = frame {
                self.acked(now, id, ack);
            }
            return None;
        }
        if !endpoint.is_native() {
            self.handle_unexpected(now, id, frame, "HELLO comes first");
            return None;
        }
        match frame {
            Frame::Send(send) => return self.handle_send(now, id, send, is_datagram),
            Frame::Subscribe(filters) => self.handle_subscribe(now, id, filters, true),
            Frame::Unsubscribe(filters) => self.handle_subscribe(now, id, filters, false),
            Frame::Ack(ack) if is_datagram => self.acked(now, id, ack),
            Frame::Ping { nonce, cookie } if is_datagram || cookie.is_none() => {
                self.send_control(id, &Frame::Pong { nonce: *nonce });
            }
            Frame::Bye(_) => {
                if let Some(native) = endpoint.native_mut() {
                    native.ended = true;
                }
                self.leave(now, id, Reason::Closed);
            }
            Frame::Pong { .. } | Frame::Skippable(_) => {}
            other => self.handle_unexpected(now, id, other, "this frame is not expected here"),
        }
        None
    }

    fn handle_unexpected(&mut self, now: Now, id: EndpointId, frame: &Frame<'_>, text: &'static str) {
        let unexpected = violation(Code::Unexpected, frame.kind(), text);
        self.handle_violation(now, id, &Violation { reference: frame.reference(), ..unexpected });
    }

    /// Answers a violation with an ERROR. If the code is fatal, a stream ends after that.
    pub fn handle_violation(&mut self, now: Now, id: EndpointId, violation: &Violation) {
        let Violation { code, about, reference, text } = *violation;
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let is_datagram = endpoint.transport.is_datagram();
        // A frame that could be an answer is not answered, so that two daemons cannot answer each other forever. A
        // flood is not answered either.
        let is_answer = matches!(about, kind::PONG | kind::BYE | kind::WELCOME..=kind::ERROR);
        let is_refusal = matches!(about, kind::SEND | kind::SUBSCRIBE | kind::UNSUBSCRIBE) && !code.is_mistake();
        if let Some(acknowledged) = endpoint.acknowledged_mut()
            && (is_answer || !(is_refusal || acknowledged.allow_answer_to_mistake(now.time)))
        {
            return;
        }
        self.counters.violations += 1;
        self.note_frame(id);
        if let Some(native) = self.registry.get_mut(id).and_then(|endpoint| endpoint.native_mut()) {
            let session = &mut native.session;
            // A refusal uses up the id, except of a frame that is refused because earlier ones are missing.
            match about {
                kind::SEND if code != Code::Busy => session.messages.refuse(reference, code),
                kind::SUBSCRIBE | kind::UNSUBSCRIBE if reference == u64::from(session.last_request) + 1 => {
                    session.last_request += 1;
                }
                _ => {}
            }
        }
        self.send_control(id, &Frame::Error(ErrorFrame { code, about, reference, text }));
        if code.is_fatal() && !is_datagram {
            self.leave(now, id, Reason::Protocol);
        }
    }
}

#[cfg(test)]
mod tests;
