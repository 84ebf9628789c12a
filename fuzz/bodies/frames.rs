//! The frame decoder accepts any bytes, split anywhere, and the engine accepts any frames that result.

use std::time::{Duration, SystemTime};

use upcall_engine::{
    Audience, EndpointId, Engine, Entropy, ExpectedProtocol, Now, Patience, Policy, Registration, Settings, Terms, Time,
};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::format::Format;
use upcall_wire::frame::{Frame, FrameDecoder, Violation};

/// The largest message, in bytes.
const MAX: usize = 256;

/// Decodes a stream that arrives in these pieces, until its end or a violation. Each frame is returned encoded again.
fn decode(pieces: &[&[u8]], mut each: impl FnMut(Result<&Frame<'_>, &Violation>)) -> Vec<Result<Vec<u8>, Violation>> {
    let (mut decoder, mut frames) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match decoder.next(&mut rest, MAX) {
                Ok(Some(frame)) => {
                    each(Ok(&frame));
                    frames.push(Ok(frame.to_vec()));
                }
                Ok(None) => break,
                Err(violation) => {
                    each(Err(&violation));
                    frames.push(Err(violation));
                    if violation.code.is_fatal() {
                        return frames;
                    }
                }
            }
        }
        assert!(rest.is_empty(), "a whole piece is decoded");
    }
    frames
}

/// The first two bytes determine where the rest is split. Returns how many inputs the engine appended.
pub(crate) fn run(bytes: &[u8]) -> u64 {
    let [first, second, stream @ ..] = bytes else { return 0 };
    let mut cuts = [usize::from(*first), usize::from(*second)].map(|cut| cut.min(stream.len()));
    cuts.sort_unstable();
    let mut session = FrameSession::new();
    let whole = decode(&[stream], |frame| session.handle(frame));
    let pieces = [&stream[..cuts[0]], &stream[cuts[0]..cuts[1]], &stream[cuts[1]..]];
    assert_eq!(whole, decode(&pieces, |_| {}), "wherever it is split");
    for frame in whole.iter().flatten() {
        let mut bytes = &frame[..];
        let again = Frame::take(&mut bytes).map(|frame| frame.to_vec());
        assert_eq!(again.as_ref(), Ok(frame), "a frame changed when it was encoded and decoded");
    }
    session.engine.next_sequence() - 1
}

/// An engine with one stream that has just begun to send frames.
struct FrameSession {
    engine: Engine,
    id: Option<EndpointId>,
    now: Now,
}

impl FrameSession {
    fn new() -> FrameSession {
        let settings = Settings {
            format: Format::default(),
            audience: Audience::All,
            max_endpoints: 4,
            lease: Duration::from_secs(30),
            max_message: MAX,
            session_ttl: Duration::from_secs(30),
            message_timeout: None,
            max_behind: 4 << 10,
            patience: Patience::Limited(Duration::from_secs(1)),
            policy: Policy::Skip,
            farewell: Duration::from_secs(1),
        };
        let now = Now { time: Time(0), boot: Time(0), wall: SystemTime::UNIX_EPOCH };
        let mut engine = Engine::new(settings, 16 << 10, Entropy::seeded(1));
        let registration = Registration {
            protocol: ExpectedProtocol::Auto,
            tag: 1,
            listener: 0,
            transport: Transport::Tcp,
            peer: Peer::inet(([127, 0, 0, 1], 1).into()),
            receives: true,
            max_per_listener: None,
            max_per_source: None,
        };
        let id = engine.register(now, registration).ok();
        if let Some(id) = id {
            engine.detected_native(now, id);
        }
        FrameSession { engine, id, now }
    }

    fn handle(&mut self, frame: Result<&Frame<'_>, &Violation>) {
        let Some(id) = self.id.filter(|id| self.engine.endpoint(*id).is_some()) else { return };
        match frame {
            Ok(Frame::Hello(hello)) => {
                // The engine queues the answer itself, even if it is a refusal.
                let terms = Terms { sends: true, receives: true, history: true, max_sessions: None };
                let _ = self.engine.handle_hello(self.now, id, hello, terms);
            }
            Ok(frame) => drop(self.engine.handle_frame(self.now, id, frame)),
            Err(violation) => self.engine.handle_violation(self.now, id, violation),
        }
        self.engine.check_invariants();
        let mut ready = Vec::new();
        self.engine.take_ready(&mut ready);
        for id in ready {
            let pending = self.engine.slices(id).bytes();
            self.engine.advance(self.now, id, pending / 2);
            self.engine.blocked(self.now, id);
            self.engine.writable(id);
        }
        self.engine.end_turn(self.now);
        self.engine.check_invariants();
    }
}
