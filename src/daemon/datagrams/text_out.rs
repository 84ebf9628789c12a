//! Outgoing text datagrams over the socket that peers share: in rounds, with one run of datagrams for each endpoint.

use std::io::IoSlice;
use std::num::NonZeroU16;

use upcall_engine::{EndpointId, ListenerNumber, Now, Progress};

use super::Datagrams;
use super::peers::key_of;
use super::send::is_unix;
use crate::daemon::context::Context;
use crate::daemon::listeners::{ActiveListener, ListenerSocket, Listeners};
use crate::daemon::log::warning;
use crate::net::datagram::{SendError, SendOutcome, Stalled};

/// The most bytes of a run: the kernel builds it as one UDP packet before it splits it into datagrams.
const MAX_RUN: usize = 65_507;

/// The most datagrams of a run.
pub(super) const MAX_DATAGRAMS: usize = 64;

/// After this many refusals in a row, the daemon retries a connected Unix peer less often. By then, a reader that only
/// waited for the processor has read something.
const SOON: u32 = 20;

/// The run that one endpoint gets in a round.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedRun {
    /// The number of datagrams; 0 if the endpoint gets none.
    count: usize,
    /// The size of each datagram, in bytes.
    size: usize,
}

impl Datagrams {
    /// Sends one run to each endpoint of the group, and removes those from it that need no further round.
    pub(super) fn send_round(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        group: &mut Vec<EndpointId>,
    ) {
        if group.first().is_some_and(|id| is_unix(&context.engine, *id)) {
            self.plan(context, listeners, now, number, group);
        } else {
            self.runs.clear();
            self.runs.resize(group.len(), PlannedRun { count: MAX_DATAGRAMS, size: 0 });
        }
        let Some(socket) = listeners.datagram_socket(number) else { return group.clear() };
        let mut batches = std::mem::take(&mut self.batches);
        let mut batch = socket.batch(&mut batches);
        let mut runs = std::mem::take(&mut self.runs);
        for (id, planned) in group.iter().zip(&mut runs) {
            let peer = key_of(&context.engine, *id).and_then(|key| self.peers.get(key));
            let run = match planned.count {
                0 => None,
                count => context.engine.datagram_run(*id, MAX_RUN, count),
            };
            match (run, peer) {
                (Some(run), Some(peer)) => {
                    let (count, size) = (run.count, run.bytes.len() / run.count);
                    *planned = PlannedRun { count, size };
                    let (destination, local) = peer.route.destination();
                    let segment = u16::try_from(size).ok().and_then(NonZeroU16::new).filter(|_| count > 1);
                    batch.push(destination, local, [IoSlice::new(run.bytes)], segment);
                }
                _ => planned.count = 0,
            }
        }
        let mut outcomes = batch.send().iter().copied();
        let mut planned = runs.drain(..);
        group.retain(|id| match planned.next() {
            Some(run @ PlannedRun { count: 1.., .. }) => match outcomes.next() {
                Some(outcome) => self.run_sent(context, listeners, now, number, *id, (run, outcome)),
                None => false,
            },
            _ => {
                context.engine.advance_run(now, *id, 0, true);
                false
            }
        });
        drop(planned);
        (self.runs, self.batches) = (runs, batches);
    }

    /// Handles the outcome of a run. Returns whether the endpoint gets another in this turn.
    fn run_sent(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        id: EndpointId,
        (run, outcome): (PlannedRun, SendOutcome),
    ) -> bool {
        if let Some((_, in_flight)) = key_of(&context.engine, id).and_then(|key| self.peers.in_flight_mut(key))
            && let Some(listener) = listeners.get_mut(number)
        {
            listener.flow.sent(in_flight, outcome.sent, run.size);
        }
        let progress = context.engine.advance_run(now, id, outcome.sent, true);
        match outcome.error {
            None => progress == Progress::More,
            // The rest of the run is lost for this peer. Later datagrams may reach it, until its lease ends.
            Some(SendError::TooLarge | SendError::Unreachable(_)) => {
                context.engine.advance_run(now, id, run.count - outcome.sent, false) == Progress::More
            }
            Some(error) => {
                self.suspend(context, listeners, now, number, id, error);
                false
            }
        }
    }

    /// Plans how many datagrams each endpoint of a group gets in a round, and how large they are. Unix peers that have
    /// used up their credit with the shared socket and have not read everything are stalled, and leave the group.
    fn plan(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        group: &mut Vec<EndpointId>,
    ) {
        self.runs.clear();
        let Some(ActiveListener { socket: ListenerSocket::Datagrams(socket), flow, rules, .. }) =
            listeners.get_mut(number)
        else {
            return;
        };
        flow.begin_round();
        let (mut stalled, mut connected) = (Vec::new(), Vec::new());
        group.retain(|id| {
            let run = context.engine.datagram_run(*id, MAX_RUN, MAX_DATAGRAMS);
            let (mut count, size) = run.map_or((0, 0), |run| (run.count, run.bytes.len() / run.count));
            if count > 0
                && let Some((peer, in_flight)) =
                    key_of(&context.engine, *id).and_then(|key| self.peers.in_flight_mut(key))
            {
                count = match flow.grant(socket, peer, in_flight, count, size) {
                    Ok(granted) => granted,
                    Err(Stalled::Unread) => {
                        stalled.push(*id);
                        return false;
                    }
                    Err(Stalled::Connected) => {
                        connected.push((*id, in_flight.refusals() > SOON));
                        return false;
                    }
                };
            }
            self.runs.push(PlannedRun { count, size });
            true
        });
        if let Some(error) = flow.take_error() {
            warning!(
                context.logger,
                "{}: cannot ask the kernel which clients have read their datagrams (sock_diag: {error}); clients that \
                 have connected their sockets and do not read can block each other",
                rules.name
            );
        }
        for id in stalled {
            self.stalled(context, now, id);
        }
        for (id, for_long) in connected {
            context.engine.blocked(now, id);
            let timers = &mut context.timers;
            let queue = if for_long { &mut timers.peer_not_reading } else { &mut timers.peer_queue_full };
            queue.add(now.time, id);
        }
    }
}
