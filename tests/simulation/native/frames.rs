//! How the daemon handles the frames of native clients, and what the reference must record.

use upcall_engine::EndpointId;
use upcall_wire::frame::{Frame, Hello, Role, Welcome};

use crate::input::{LoggedInput, rendered};
use crate::simulation::Simulation;

impl Simulation {
    /// Passes a frame to the engine and records the outcome.
    pub(crate) fn native_frame(&mut self, id: EndpointId, frame: &Frame<'_>) {
        let Some(endpoint) = self.engine.endpoint(id) else { return };
        let (source, leaving) = (endpoint.number, endpoint.leaving().is_some());
        let accepted = self.engine.handle_frame(self.now(), id, frame);
        match (frame, accepted) {
            (Frame::Send(send), Some(accepted)) => {
                assert_eq!(accepted.sequence, self.inputs.len() as u64 + 1);
                let mut rendered = rendered(accepted.sequence, send.payload);
                rendered.push(b'\n');
                self.inputs.push(LoggedInput {
                    source,
                    audience: self.settings.audience,
                    topic: send.topic.to_owned(),
                    data: send.payload.to_vec(),
                    rendered,
                });
            }
            (Frame::Subscribe(_) | Frame::Unsubscribe(_), _) if !leaving => {
                if let Some((from, filters)) = self.engine.filters_in_force(id) {
                    let filters = filters.map(|filters| filters.into_iter().map(str::to_owned).collect());
                    self.native.reference.set_filters(source, from, filters);
                }
            }
            _ => {}
        }
    }

    /// Records the answer to a HELLO.
    pub(crate) fn note_hello(&mut self, id: EndpointId, hello: &Hello<'_>, welcome: Option<&Welcome>) {
        let Some(welcome) = welcome else {
            self.native.counts.refused += 1;
            return;
        };
        self.native.counts.welcomes += 1;
        self.native.counts.resumes += u64::from(welcome.resumed);
        assert_eq!(welcome.next, self.engine.next_sequence());
        self.note_start_position(id, welcome.id);
        self.native.reference.set_log_id(welcome.log);
        if !welcome.resumed {
            let filters = hello.filters.iter().map(|filter| (*filter).to_owned()).collect();
            let filters = (!hello.filters.is_empty()).then_some(filters);
            self.native.reference.add_session(welcome.id, welcome.start, hello.role != Role::SendOnly, filters);
        }
    }

    pub(crate) fn flush_native(&mut self, id: EndpointId, tag: u64) {
        match self.native.connections.contains_key(&tag) {
            true => self.flush_connection(id, tag),
            false => self.flush_peer(id, tag),
        }
    }

    /// A new daemon has started. Of the previous one, only what is in flight is left.
    pub(crate) fn restart_native(&mut self, inputs: Vec<LoggedInput>) {
        let native = &mut self.native;
        native.reference.next_log(inputs);
        native.peers.clear();
        native.catching_up.clear();
        native.socket.clear();
        for connection in native.connections.values_mut() {
            connection.endpoint = None;
            connection.up.clear();
            if self.rng.bool() {
                connection.down.clear();
            }
        }
    }
}
