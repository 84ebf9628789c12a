//! A native client: the state machine of the client library, and what the program around it keeps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use upcall_client::machine::{Carrier, DisconnectReason, Machine, ResumeTicket, Settings};
use upcall_engine::Time;

use super::delivery_record::DeliveryRecord;

/// What a client knows about an input that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendOutcome {
    Pending,
    Accepted,
    Refused,
    /// The daemon that it was sent to has ended.
    Unknown,
}

/// An input that a client sent.
#[derive(Debug)]
pub(crate) struct SentInput {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) outcome: SendOutcome,
}

pub(crate) struct NativeClient {
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) connected: bool,
    /// The tag of the connection of a stream client.
    pub(crate) connection: Option<u64>,
    /// Bytes that the socket has not accepted yet.
    pub(super) unwritten: Vec<u8>,
    /// The address of a datagram client, and what its socket holds.
    pub(crate) address: u64,
    pub(crate) inbox: VecDeque<Vec<u8>>,
    /// It reads everything immediately.
    pub(crate) prompt: bool,
    pub(crate) stalled: bool,
    pub(crate) retry_at: Option<Time>,
    /// When it gives up waiting for WELCOME.
    pub(crate) welcome_deadline: Option<Time>,
    /// Another program took over its session: it does not connect again.
    pub(crate) replaced: bool,
    /// How the machine ended.
    pub(crate) ended: Option<DisconnectReason>,
    /// The session ticket that the application saved, and what it had received by then.
    pub(crate) saved: Option<(ResumeTicket, DeliveryRecord)>,
    pub(crate) record: DeliveryRecord,
    /// Inputs, by ticket.
    pub(crate) sent: BTreeMap<u64, SentInput>,
    /// The inputs of earlier programs that had this session.
    pub(crate) previous_sent: Vec<SentInput>,
    /// Requests to change filters that are not answered yet.
    pub(crate) requests: BTreeSet<u64>,
}

impl NativeClient {
    pub(crate) fn new(settings: Settings, seed: u64, address: u64, now: Time) -> NativeClient {
        NativeClient {
            machine: Machine::new(settings.clone(), seed),
            settings,
            connected: false,
            connection: None,
            unwritten: Vec::new(),
            address,
            inbox: VecDeque::new(),
            prompt: false,
            stalled: false,
            retry_at: Some(now),
            welcome_deadline: None,
            replaced: false,
            ended: None,
            saved: None,
            record: DeliveryRecord::default(),
            sent: BTreeMap::new(),
            previous_sent: Vec::new(),
            requests: BTreeSet::new(),
        }
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.settings.carrier == Carrier::Stream
    }

    pub(crate) fn is_stalled(&self, all_read: bool) -> bool {
        self.stalled && !all_read
    }
}
