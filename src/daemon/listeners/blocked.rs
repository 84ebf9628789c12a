//! Datagram endpoints that wait until the socket of their listener has room.

use upcall_engine::{EndpointId, ListenerNumber};

use super::Listeners;
use crate::daemon::context::Context;
use crate::daemon::tokens::EventToken;
use crate::net::poller::Interest;

impl Listeners {
    /// Waits until the full socket of a listener has room, which the poller reports.
    pub(in crate::daemon) fn await_room(&mut self, context: &mut Context, number: ListenerNumber, id: EndpointId) {
        let Some(listener) = self.get_mut(number) else { return };
        listener.blocked.push(id);
        if listener.blocked.len() > 1 {
            return;
        }
        let token = EventToken::Listener(number).encode();
        if context.poller.modify(&listener.socket, token, Interest::ReadWrite).is_err() {
            context.timers.no_memory.add(context.clock.now().time, id);
        }
    }

    /// Unblocks the endpoints that wait for the socket of a listener, because it has room again.
    pub(in crate::daemon) fn writable(&mut self, context: &mut Context, number: ListenerNumber) {
        let Some(listener) = self.get_mut(number) else { return };
        if listener.blocked.is_empty() {
            return;
        }
        for id in listener.blocked.drain(..) {
            context.engine.writable(id);
        }
        // This fails only if memory runs out. The only cost is one superfluous event.
        let _ = context.poller.modify(&listener.socket, EventToken::Listener(number).encode(), Interest::Read);
    }
}
