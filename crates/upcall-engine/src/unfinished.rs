//! Unfinished messages: how long the rest of a message may take to arrive.

use std::time::Duration;

use upcall_wire::reason::Reason;

use crate::deadlines::UnfinishedMessage;
use crate::id::EndpointId;
use crate::{Engine, Now};

impl Engine {
    /// Records that something was received from an endpoint, and whether a message is unfinished.
    pub fn note_received(&mut self, now: Now, id: EndpointId, unfinished: bool) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.last_received = now.time.into();
        if !unfinished || endpoint.leaving.is_some() {
            self.finish_message(id);
        } else if let Some(timeout) = self.settings.message_timeout
            && self.deadlines.message(id).is_none()
        {
            let held = self.laggards.held_until(now.time);
            self.deadlines.set_message(id, UnfinishedMessage { deadline: now.time + timeout, held });
        }
    }

    /// The message of an endpoint is complete, or no longer expected.
    pub(crate) fn finish_message(&mut self, id: EndpointId) {
        self.deadlines.cancel_message(id);
    }

    /// The message of an endpoint has taken too long, unless inputs were held in the meantime.
    pub(crate) fn check_message(&mut self, now: Now, id: EndpointId) {
        let Some(message) = self.deadlines.message(id) else { return };
        // While inputs are held nothing is read, so the rest may have arrived long ago.
        let held = self.laggards.held_until(now.time);
        let extension = held.saturating_sub(message.held);
        if !extension.is_zero() || self.laggards.is_held() {
            let deadline = now.time + extension.max(Duration::from_secs(1));
            self.deadlines.set_message(id, UnfinishedMessage { deadline, held });
        } else {
            self.leave(now, id, Reason::MessageTimeout);
        }
    }
}
