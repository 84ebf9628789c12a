//! HELLO: the request for a registration, with its options.

use std::fmt;

use super::code::{Code, Violation};
use super::kinds::{kind, option};
use super::limits::{MAX_NAME, MAX_TOKEN, VERSION};
use super::reader::{Reader, text};
use crate::named_enum;
use crate::topic::is_filter;

named_enum! {
    /// The role of an endpoint.
    #[derive(Default)]
    pub enum Role: u8 {
        /// It sends inputs and receives upcalls.
        #[default]
        Both = 0 => "both",
        /// It receives no upcalls.
        SendOnly = 1 => "send only",
        /// It sends no inputs.
        ReceiveOnly = 2 => "receive only",
    }
}

/// The session to resume, and the position to resume from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The endpoint's number.
    pub id: u64,
    /// The secret that the session's WELCOME gave.
    pub secret: [u8; 16],
    /// The last sequence that the client received, of an upcall or at the end of a gap; before the first, the start
    /// minus 1.
    pub last: u64,
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resume {{ id: {}, last: {} }}", self.id, self.last)
    }
}

/// → Requests a registration.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The lowest and the highest version that the client implements.
    pub versions: (u8, u8),
    /// The role of the endpoint.
    pub role: Role,
    /// A random number that identifies this attempt; the answer repeats it.
    pub nonce: u64,
    /// The endpoint's name in logs; empty for none.
    pub name: &'a str,
    /// The listener's shared secret.
    pub token: Option<&'a [u8]>,
    /// The topics that it subscribes to; empty for everything.
    pub filters: Vec<&'a str>,
    /// The session to resume.
    pub resume: Option<Resume>,
    /// The first sequence of the history that a new session asks for; 0 for the oldest that the log holds.
    pub since: Option<u64>,
    /// Datagrams: the cookie of a RETRY, which proves the address.
    pub cookie: Option<u64>,
    /// The number of padding bytes, which have no meaning.
    pub padding: usize,
}

impl fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token and the session's secret are omitted, so that they never reach a log.
        f.debug_struct("Hello")
            .field("versions", &self.versions)
            .field("role", &self.role)
            .field("name", &self.name)
            .field("filters", &self.filters)
            .field("resume", &self.resume)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

impl<'a> Hello<'a> {
    /// A HELLO without options.
    pub fn new(nonce: u64) -> Hello<'a> {
        Hello {
            versions: (VERSION, VERSION),
            role: Role::Both,
            nonce,
            name: "",
            token: None,
            filters: Vec::new(),
            resume: None,
            since: None,
            cookie: None,
            padding: 0,
        }
    }

    pub(super) fn parse(body: &'a [u8]) -> Result<Hello<'a>, Violation> {
        let wrong = |text| Violation::new(Code::Malformed, kind::HELLO, text);
        let mut reader = Reader::new(kind::HELLO, body);
        let versions = (reader.u8()?, reader.u8()?);
        if versions.0 > versions.1 {
            return Err(wrong("the lowest version is above the highest"));
        }
        if !(versions.0..=versions.1).contains(&VERSION) {
            // The rest has the format of another version, and is not checked.
            return Err(Violation::new(Code::Version, kind::HELLO, "only version 1 is implemented here"));
        }
        let role = Role::from_number(reader.u8()?).ok_or_else(|| wrong("no such role"))?;
        reader.zeros::<1>()?;
        let mut hello = Hello { versions, role, ..Hello::new(reader.u64()?) };
        while !reader.is_empty() {
            let option = reader.u8()?;
            reader.zeros::<1>()?;
            let length = reader.u16()?.into();
            let value = reader.bytes(length)?;
            let mut value_reader = Reader::new(kind::HELLO, value);
            match option {
                option::NAME => {
                    hello.name = text(kind::HELLO, value)?;
                    if !(1..=MAX_NAME).contains(&value.len()) || hello.name.chars().any(char::is_control) {
                        return Err(wrong("a name is 1 to 64 bytes long and has no control characters"));
                    }
                }
                option::TOKEN if (1..=MAX_TOKEN).contains(&value.len()) => hello.token = Some(value),
                option::TOKEN => return Err(wrong("a token is 1 to 1024 bytes long")),
                option::FILTER => match std::str::from_utf8(value) {
                    Ok(filter) if is_filter(filter) => hello.filters.push(filter),
                    _ => return Err(Violation::new(Code::BadTopic, kind::HELLO, "that is not a filter")),
                },
                option::RESUME => {
                    let (id, secret) = (value_reader.u64()?, value_reader.array()?);
                    hello.resume = Some(Resume { id, secret, last: value_reader.u64()? });
                    value_reader.end()?;
                }
                option::SINCE => {
                    hello.since = Some(value_reader.u64()?);
                    value_reader.end()?;
                }
                option::COOKIE => {
                    hello.cookie = Some(value_reader.u64()?);
                    value_reader.end()?;
                }
                option::PADDING => hello.padding += length,
                option::SKIPPABLE.. => {}
                _ => return Err(wrong("no such option")),
            }
        }
        Ok(hello)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut add = |option: u8, parts: &[&[u8]]| {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            out.extend_from_slice(&[option, 0]);
            out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        if !self.name.is_empty() {
            add(option::NAME, &[self.name.as_bytes()]);
        }
        if let Some(token) = self.token {
            add(option::TOKEN, &[token]);
        }
        for filter in &self.filters {
            add(option::FILTER, &[filter.as_bytes()]);
        }
        if let Some(Resume { id, secret, last }) = &self.resume {
            add(option::RESUME, &[&id.to_be_bytes(), secret, &last.to_be_bytes()]);
        }
        if let Some(since) = self.since {
            add(option::SINCE, &[&since.to_be_bytes()]);
        }
        if let Some(cookie) = self.cookie {
            add(option::COOKIE, &[&cookie.to_be_bytes()]);
        }
        if self.padding > 0 {
            add(option::PADDING, &[&vec![0; self.padding]]);
        }
    }
}
