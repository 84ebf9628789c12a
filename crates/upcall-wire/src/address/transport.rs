//! The four transports.

use std::str::FromStr;

use super::error::AddressError;
use crate::named_enum;

named_enum! {
    /// How bytes travel between an endpoint and the daemon. The names are those of configuration files, options and
    /// URLs.
    pub enum Transport {
        /// TCP over IPv4 or IPv6.
        Tcp => "tcp",
        /// UDP over IPv4 or IPv6.
        Udp => "udp",
        /// Unix domain stream sockets.
        Unix => "unix",
        /// Unix domain datagram sockets.
        UnixDatagram => "unix-datagram",
    }
}

impl Transport {
    /// Whether the transport carries datagrams, so that registrations are leases.
    pub const fn is_datagram(self) -> bool {
        matches!(self, Transport::Udp | Transport::UnixDatagram)
    }

    /// Whether addresses are host and port, rather than a path or an abstract name.
    pub const fn is_inet(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Udp)
    }
}

impl FromStr for Transport {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Transport::from_name(text).ok_or_else(|| {
            let names = Transport::NAMES.join(", ");
            AddressError(format!("unknown transport \"{text}\"; it is one of {names}"))
        })
    }
}
