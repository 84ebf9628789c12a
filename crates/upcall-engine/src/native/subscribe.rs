//! SUBSCRIBE and UNSUBSCRIBE: which filters are in force, and from which sequence on.

use std::rc::Rc;

use upcall_wire::frame::{Code, Filters as FilterFrame, Frame, Violation, kind};

use super::violation;
use crate::id::EndpointId;
use crate::log::Rendition;
use crate::log::filters::FilterSet;
use crate::{Engine, Now};

impl Engine {
    /// Handles a SUBSCRIBE (`add`) or UNSUBSCRIBE, and answers it with SUBSCRIBED.
    pub(super) fn handle_subscribe(&mut self, now: Now, id: EndpointId, change: &FilterFrame<'_>, add: bool) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let (receives, is_datagram) = (endpoint.receives, endpoint.transport.is_datagram());
        let Some(native) = endpoint.native_mut() else { return };
        let about = if add { kind::SUBSCRIBE } else { kind::UNSUBSCRIBE };
        let refusal = |code, text| Violation { reference: change.request.into(), ..violation(code, about, text) };
        let session = &mut native.session;
        if change.request > session.last_request && std::mem::take(&mut session.may_skip_requests) {
            session.last_request = change.request - 1;
        }
        if u64::from(change.request) > u64::from(session.last_request) + 1 {
            if is_datagram {
                // The request before it is in flight or will be repeated, and so will this one.
                return;
            }
            return self.handle_violation(now, id, &refusal(Code::OutOfOrder, "request ids rise by one"));
        }
        if !receives {
            return self.handle_violation(now, id, &refusal(Code::NotPermitted, "this endpoint receives no upcalls"));
        }
        if change.request > session.last_request {
            session.last_request = change.request;
            let before = session.filters.clone();
            let mut filters = before.as_deref().cloned().unwrap_or_default();
            let names = change.filters.iter().copied();
            let fits = match (add, &before) {
                (true, _) => filters.add(names),
                (false, Some(_)) => {
                    filters.remove(names);
                    true
                }
                // It receives everything, and continues to do so.
                (false, None) => true,
            };
            if !fits {
                return self.handle_violation(now, id, &refusal(Code::Limit, "too many filters"));
            }
            if (add || before.is_some()) && before.as_deref() != Some(&filters) {
                self.change_filters(id, filters);
            }
        }
        self.send_subscribed(id, change.request);
    }

    /// Answers a request with the filters that are in force.
    fn send_subscribed(&mut self, id: EndpointId, request: u32) {
        let Some(native) = self.registry.get(id).and_then(|endpoint| endpoint.native()) else { return };
        let (from, in_force) = (native.session.filters_since, native.session.filters.clone());
        let filters = in_force.as_deref().map(|filters| filters.iter().collect()).unwrap_or_default();
        let everything = in_force.is_none();
        self.send_control(id, &Frame::Subscribed { request, from, everything, filters });
    }

    /// Changes the filters of an endpoint, from the first sequence on that it has not begun to receive.
    fn change_filters(&mut self, id: EndpointId, filters: FilterSet) {
        self.make_ready(id);
        let oldest = self.log.ring(Rendition::Frames).oldest();
        if let Some(endpoint) = self.registry.get_mut(id) {
            let from = endpoint.first_unsent();
            if let Some(native) = endpoint.native_mut() {
                native.session.change_filters(from, oldest);
            }
        }
        self.registry.set_receives(id, true, Some(Rc::new(filters)));
    }
}
