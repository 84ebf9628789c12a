//! What each text client must have received at the end.

use std::hash::{DefaultHasher, Hash, Hasher};

use upcall_wire::farewell::Farewell;
use upcall_wire::reason::Reason;

use crate::simulation::Simulation;

impl Simulation {
    /// Checks that each client received what was due, or left for a reason that explains what is missing. Returns a
    /// trace.
    pub(crate) fn check_text(&self) -> u64 {
        let mut trace = DefaultHasher::new();
        for (number, client) in &self.clients {
            let (reason, complete) = client.ended.expect("all endpoints have left");
            let until = client.until.unwrap_or(u64::MAX);
            let due = self.inputs.iter().zip(1u64..).filter(|(input, sequence)| {
                client.receives && input.is_for(*number) && (client.joined..until).contains(sequence)
            });
            if let Some(sent) = &client.datagrams {
                let farewell = reason.is_announced().then(|| Farewell::line(reason.name()).into_bytes());
                let mut expected = due.map(|(input, _)| &input.rendered).chain(farewell.as_ref());
                let in_order = sent.iter().all(|datagram| expected.any(|due| due == datagram));
                assert!(in_order, "#{number}: sent something that was not due, or out of order");
                let all = complete && (client.prompt || !client.ever_stalled);
                assert!(!all || expected.next().is_none(), "#{number}: not everything was sent");
                (number, reason, complete, sent).hash(&mut trace);
                continue;
            }
            let due = plain(&due.flat_map(|(input, _)| input.rendered.iter().copied()).collect::<Vec<_>>());
            let last_line = if reason.is_announced() { Farewell::line(reason.name()) } else { String::new() };
            let (read, last_line) = (plain(&client.read), last_line.trim_end());
            match (complete, reason) {
                (true, Reason::SlowConsumer) => {
                    let upcalls = read.strip_suffix(last_line.as_bytes()).expect("the reason is the last line");
                    assert!(due.starts_with(upcalls), "#{number}: received something that was not due");
                    assert!(upcalls.is_empty() || upcalls.ends_with(b">"), "#{number}: disconnected inside a record");
                }
                (true, _) => assert_eq!(read, [&due, last_line.as_bytes()].concat(), "#{number}"),
                (false, _) => {
                    // A slow consumer may lose its connection before it has read the whole farewell.
                    let slow = Farewell::line(Reason::SlowConsumer.name());
                    let is_prefix = [last_line, slow.trim_end()].iter().any(|line| {
                        (0..=line.len()).any(|part| {
                            let upcalls = read.strip_suffix(&line.as_bytes()[..part]);
                            upcalls.is_some_and(|upcalls| due.starts_with(upcalls))
                        })
                    });
                    assert!(is_prefix, "#{number}: received something that was not due");
                }
            }
            (number, reason, complete, &client.read).hash(&mut trace);
        }
        trace.finish()
    }
}

/// Removes newlines: the farewell begins with one of its own, unless the upcall before it ended in one, as upcalls of
/// native inputs do. Datagrams are compared with their newlines.
fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\n').collect()
}
