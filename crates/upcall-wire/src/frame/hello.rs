//! HELLO: who wants to be registered, as what, and with which proofs.

use super::code::{Code, Violation};
use super::decode::{Reader, text};
use super::{MAX_NAME, VERSION, kind};
use crate::topic::is_filter;

/// The longest body of a HELLO, in bytes.
pub const MAX_HELLO: usize = 16 * 1024;

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 1024;

/// The types of the options of a HELLO.
pub mod option {
    #![allow(missing_docs)]
    pub const NAME: u8 = 1;
    pub const TOKEN: u8 = 2;
    pub const FILTER: u8 = 3;
    pub const RESUME: u8 = 4;
    pub const SINCE: u8 = 5;
    pub const COOKIE: u8 = 6;
    pub const PADDING: u8 = 7;
    /// From here on, whoever does not know an option skips it.
    pub const SKIPPABLE: u8 = 0x80;
}

/// What an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Role {
    /// It sends inputs and gets upcalls.
    #[default]
    Both = 0,
    /// It gets no upcalls.
    SendOnly = 1,
    /// It sends no inputs.
    ReceiveOnly = 2,
}

/// Which session is to go on, and from where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The endpoint's number.
    pub id: u64,
    /// That of the session's WELCOME.
    pub secret: [u8; 16],
    /// The last sequence that was seen: of an upcall or at the end of a gap; before the first, the start minus 1.
    pub last: u64,
}

impl std::fmt::Debug for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resume {{ id: {}, last: {} }}", self.id, self.last)
    }
}

/// → Asks to be registered.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The versions that the client speaks, from the lowest to the highest.
    pub versions: (u8, u8),
    /// What the endpoint is for.
    pub role: Role,
    /// Names this attempt, whose answer repeats it; random.
    pub nonce: u64,
    /// What the endpoint is to be called in logs; empty for nothing.
    pub name: &'a str,
    /// The listener's shared secret.
    pub token: Option<&'a [u8]>,
    /// What it wants; nothing means everything.
    pub filters: Vec<&'a str>,
    /// The session that is to go on.
    pub resume: Option<Resume>,
    /// The first sequence that a new session wants from what was said before; 0 for the oldest there is.
    pub since: Option<u64>,
    /// Datagrams: the proof of the address.
    pub cookie: Option<u64>,
    /// Bytes that mean nothing.
    pub padding: usize,
}

impl std::fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the token nor the session's secret is for anybody to read.
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
    /// A HELLO that asks for nothing in particular.
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
            // What else another version's HELLO says is not for this one to judge.
            return Err(Violation::new(Code::Version, kind::HELLO, "only version 1 is spoken here"));
        }
        let role = match reader.u8()? {
            0 => Role::Both,
            1 => Role::SendOnly,
            2 => Role::ReceiveOnly,
            _ => return Err(wrong("no such role")),
        };
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
