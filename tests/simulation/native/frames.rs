//! What the daemon does with the frames of native clients, and what of it is noted.

use upcall_engine::{EndpointId, Terms};
use upcall_wire::frame::{Frame, Hello, Role, Welcome};

use super::Natives;
use crate::simulation::{Input, World};
use crate::text::rendered;

impl Natives {
    pub(crate) fn terms(&self) -> Terms {
        Terms { sends: true, receives: true, history: self.history, max_sessions: self.max_sessions }
    }
}

impl World {
    /// Hands a frame to the engine, and takes note of what it did.
    pub(crate) fn native_frame(&mut self, id: EndpointId, frame: &Frame<'_>) {
        let Some(endpoint) = self.engine.endpoint(id) else { return };
        let (source, leaves) = (endpoint.number, endpoint.leaving().is_some());
        let accepted = self.engine.handle_frame(self.now(), id, frame);
        match (frame, accepted) {
            (Frame::Send(send), Some(accepted)) => {
                assert_eq!(accepted.sequence, self.inputs.len() as u64 + 1);
                let mut rendered = rendered(accepted.sequence, send.payload);
                rendered.push(b'\n');
                self.inputs.push(Input {
                    source,
                    audience: self.settings.audience,
                    topic: send.topic.to_owned(),
                    data: send.payload.to_vec(),
                    rendered,
                });
            }
            (Frame::Subscribe(_) | Frame::Unsubscribe(_), _) if !leaves => {
                if let Some((from, filters)) = self.engine.filters_in_force(id) {
                    let filters = filters.map(|filters| filters.into_iter().map(str::to_owned).collect());
                    self.natives.truth.filters(source, from, filters);
                }
            }
            _ => {}
        }
    }

    /// Takes note of what a HELLO led to.
    pub(crate) fn note_hello(&mut self, id: EndpointId, hello: &Hello<'_>, welcome: Option<&Welcome>) {
        let Some(welcome) = welcome else {
            self.natives.figures.refused += 1;
            return;
        };
        self.natives.figures.welcomes += 1;
        self.natives.figures.resumes += u64::from(welcome.resumed);
        assert_eq!(welcome.next, self.engine.next_sequence());
        self.may_be_late(id, welcome.id);
        self.natives.truth.log_is(welcome.log);
        if !welcome.resumed {
            let filters = hello.filters.iter().map(|filter| (*filter).to_owned()).collect();
            let filters = (!hello.filters.is_empty()).then_some(filters);
            self.natives.truth.session(welcome.id, welcome.start, hello.role != Role::SendOnly, filters);
        }
    }

    pub(crate) fn flush_native(&mut self, id: EndpointId, tag: u64) {
        match self.natives.lines.contains_key(&tag) {
            true => self.flush_line(id, tag),
            false => self.flush_peer(id, tag),
        }
    }

    /// The daemon is a new one: nothing is left of the one before but what is under way.
    pub(crate) fn daemon_restarts(&mut self, inputs: Vec<Input>) {
        let natives = &mut self.natives;
        natives.truth.next_log(inputs);
        natives.peers.clear();
        natives.late.clear();
        natives.socket.clear();
        for line in natives.lines.values_mut() {
            line.endpoint = None;
            line.up.clear();
            if self.rng.bool() {
                line.down.clear();
            }
        }
    }
}
