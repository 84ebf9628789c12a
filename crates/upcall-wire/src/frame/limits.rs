//! The version, the sizes and the limits of the protocol. All of them are listed in upcall-protocol(7).

/// The version of the protocol that this crate implements.
pub const VERSION: u8 = 1;

/// The length of the header in front of every body, in bytes.
pub const HEADER: usize = 8;

/// The length of an UPCALL frame without its topic and payload, in bytes.
pub const UPCALL_OVERHEAD: usize = HEADER + 24;

/// The length of a SEND frame without its topic and payload, in bytes.
pub const SEND_OVERHEAD: usize = HEADER + 8;

/// The longest body of a HELLO, and of every other frame that is neither SEND nor UPCALL, in bytes.
pub const MAX_HELLO: usize = 16 * 1024;

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 1024;

/// The longest name of an endpoint, in bytes.
pub const MAX_NAME: usize = 64;

/// The longest reason of a BYE, in bytes.
pub const MAX_REASON: usize = 64;
