//! SEND: a message becomes an input once, however often it is repeated.

use upcall_wire::frame::{Code, Frame, Role, Send, Violation, kind};

use super::violation;
use crate::id::EndpointId;
use crate::input::{Input, Origin, Sender};
use crate::session::MessageStatus;
use crate::{Accepted, Engine, Intake, Now};

impl Engine {
    /// Handles a SEND. Returns the outcome if the message was new and accepted.
    pub(super) fn handle_send(
        &mut self,
        now: Now,
        id: EndpointId,
        send: &Send<'_>,
        is_datagram: bool,
    ) -> Option<Accepted> {
        // On a stream, the driver has checked that before.
        let held = is_datagram && self.holds_datagram_inputs(now, id);
        let endpoint = self.registry.get_mut(id)?;
        let (sender, origin) = (Sender::of(id, endpoint), Origin::of(endpoint));
        let native = endpoint.native_mut()?;
        let refusal = |code, text| Violation { reference: send.id, ..violation(code, kind::SEND, text) };
        let refusal = match native.session.messages.status(send.id) {
            MessageStatus::Refused(code) => refusal(code, "this message was refused before"),
            MessageStatus::New if !native.sends => refusal(Code::NotPermitted, "this endpoint may not send"),
            MessageStatus::New if send.payload.len() > self.settings.max_message => {
                refusal(Code::TooLarge, "the payload is too large")
            }
            MessageStatus::New if held => refusal(Code::Busy, "inputs are held for a slow endpoint"),
            MessageStatus::New => {
                endpoint.inputs += 1;
                let (topic, data) = (send.topic, send.payload);
                let accepted = self.append(now, &Input { sender: Some(sender), origin, topic, data, native: true });
                let native = self.registry.get_mut(id)?.native_mut()?;
                let due = u32::try_from(accepted.others).unwrap_or(u32::MAX);
                let receipt = native.session.messages.accept(accepted.sequence, due);
                if send.receipt {
                    self.send_control(id, &Frame::Receipt(receipt));
                }
                return Some(accepted);
            }
            MessageStatus::Repeat(receipt) => {
                if send.receipt {
                    self.send_control(id, &Frame::Receipt(receipt));
                }
                return None;
            }
            MessageStatus::Stale => refusal(Code::Stale, "the receipt of this message is no longer kept"),
            // The messages before it are in flight or will be repeated, and so will this one.
            MessageStatus::Ahead if is_datagram => return None,
            MessageStatus::Ahead => refusal(Code::OutOfOrder, "message ids rise by one"),
        };
        self.handle_violation(now, id, &refusal);
        None
    }

    /// Whether the inputs of a datagram endpoint are held or parked.
    fn holds_datagram_inputs(&mut self, now: Now, id: EndpointId) -> bool {
        let held = match self.intake() {
            Intake::Open | Intake::Full => false,
            Intake::Only(only) => only != id,
            Intake::Held => true,
        };
        held || self.park(now, id)
    }

    /// Sets whether the listener of a native endpoint accepts inputs from now on.
    pub fn set_may_send(&mut self, id: EndpointId, sends: bool) {
        if let Some(native) = self.registry.get_mut(id).and_then(|endpoint| endpoint.native_mut()) {
            native.sends = sends && native.session.role != Role::ReceiveOnly;
        }
    }
}
