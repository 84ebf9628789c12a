//! Text connections: messages become inputs.

use upcall_engine::InputTurn;
use upcall_wire::reason::Reason;
use upcall_wire::text::End;

use super::NextRead;
use super::connection::{Connection, Decoder};
use super::read::{Handled, ReadContext};
use crate::config::ListenerRole;
use crate::daemon::context::Context;

impl Connection {
    pub(super) fn handle_text(
        &mut self,
        context: &mut Context,
        mut reading: ReadContext<'_>,
        mut bytes: &[u8],
        end: End,
    ) -> NextRead {
        let listener = reading.listeners.get(self.listener);
        if !bytes.is_empty() && listener.is_some_and(|listener| listener.rules.role == ListenerRole::Output) {
            return self.dismiss(context, reading.now, Reason::OutputOnly);
        }
        let Decoder::Text(decoder) = &mut self.decoder else { return NextRead::OnEvent };
        let max = context.config.upcall.max_message;
        let logs = context.logs_inputs();
        let (now, endpoint) = (reading.now, reading.endpoint);
        let mut any = false;
        loop {
            // Whole lines are handled in runs, unless each of them is logged.
            if !logs
                && context.engine.input_lines(now, endpoint, reading.is_granted, decoder.lines(&mut bytes, max)) > 0
            {
                any = true;
                reading.is_granted = false;
            }
            if bytes.is_empty() && !decoder.is_unfinished() {
                return self.end_of_bytes(context, &reading, Handled { any, unfinished: false }, end);
            }
            let turn = reading.request_input(context);
            if turn != InputTurn::Granted {
                return self.put_aside(bytes, end, turn);
            }
            match decoder.next(&mut bytes, end, max) {
                Ok(Some(message)) => {
                    any = true;
                    context.input(now, endpoint, message);
                }
                Ok(None) => {
                    let handled = Handled { any, unfinished: decoder.is_unfinished() };
                    return self.end_of_bytes(context, &reading, handled, end);
                }
                Err(reason) => return self.dismiss(context, now, reason),
            }
        }
    }
}
