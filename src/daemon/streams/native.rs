//! Native connections: handles frames.

use upcall_engine::{EndpointId, Engine, InputTurn};
use upcall_wire::frame::{Frame, Hello};
use upcall_wire::text::End;

use super::NextRead;
use super::connection::{Connection, Decoder};
use super::read::{Handled, ReadContext};
use crate::daemon::context::Context;
use crate::daemon::listeners::{authenticate, terms};
use crate::daemon::traffic;

impl Connection {
    pub(super) fn handle_native(
        &mut self,
        context: &mut Context,
        mut reading: ReadContext<'_>,
        mut bytes: &[u8],
        end: End,
    ) -> NextRead {
        let Decoder::Native(decoder) = &mut self.decoder else { return NextRead::OnEvent };
        let max = context.config.upcall.max_message;
        let logs = context.logs_inputs();
        let (now, endpoint) = (reading.now, reading.endpoint);
        let mut any = false;
        loop {
            // Plain SENDs are handled in runs, unless each of them is logged.
            if !logs
                && let Some(message) = context.engine.next_message(endpoint)
                && context.engine.input_sends(
                    now,
                    endpoint,
                    reading.is_granted,
                    decoder.sends(&mut bytes, message, max),
                ) > 0
            {
                any = true;
                reading.is_granted = false;
                if !takes_frames(&context.engine, endpoint) {
                    return self.discard();
                }
            }
            // If no bytes are left, the decoder may hold the beginning of a frame, but not a whole one.
            let is_last = bytes.is_empty() || {
                let turn = reading.request_input(context);
                if turn != InputTurn::Granted {
                    return self.put_aside(bytes, end, turn);
                }
                match decoder.next(&mut bytes, max) {
                    Ok(Some(frame)) => {
                        any = true;
                        handle_frame(context, &reading, &frame);
                        false
                    }
                    Ok(None) => true,
                    Err(violation) => {
                        context.engine.handle_violation(now, endpoint, &violation);
                        false
                    }
                }
            };
            if !takes_frames(&context.engine, endpoint) {
                return self.discard();
            }
            if is_last {
                break;
            }
        }
        let handled = Handled { any, unfinished: decoder.is_unfinished() };
        self.end_of_bytes(context, &reading, handled, end)
    }
}

/// Whether frames of an endpoint are still handled: they are not once it leaves.
fn takes_frames(engine: &Engine, endpoint: EndpointId) -> bool {
    engine.endpoint(endpoint).is_some_and(|endpoint| endpoint.leaving().is_none())
}

fn handle_frame(context: &mut Context, reading: &ReadContext<'_>, frame: &Frame<'_>) {
    if let Frame::Hello(hello) = frame {
        return handle_hello(context, reading, hello);
    }
    context.handle_frame(reading.now, reading.endpoint, frame);
}

fn handle_hello(context: &mut Context, reading: &ReadContext<'_>, hello: &Hello<'_>) {
    let ReadContext { listeners, now, endpoint, .. } = *reading;
    let Some(registered) = context.engine.endpoint(endpoint) else { return };
    let Some(listener) = listeners.get(registered.listener) else { return };
    let terms = terms(&listener.rules, registered.peer);
    if let Err(violation) = authenticate(&listener.rules, hello) {
        return context.engine.handle_violation(now, endpoint, &violation);
    }
    if context.engine.handle_hello(now, endpoint, hello, terms).is_ok() {
        traffic::log_welcome(context, listeners, endpoint, hello);
    }
}
