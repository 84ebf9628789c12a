//! The meaning of an errno of a datagram socket. Pure functions of a number. Many peers share a socket, so the question
//! is always whether an error concerns the socket or only one peer.

use std::fmt;
use std::io;

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// There is no room. UDP: in the socket's send buffer; the poller reports when there is. Unix: there, or in the
    /// receiver's queue; only for a [`PeerSocket`](super::PeerSocket) does the poller report room in that queue.
    Full,
    /// The kernel has no memory (or no file descriptors) now. No event reports when it has, so the caller must retry.
    NoMemory,
    /// It is larger than this socket, or the path to this peer, can ever accept.
    TooLarge,
    /// The Unix socket does not exist any more.
    Gone,
    /// This peer cannot be sent to: an unreachable network, a firewall, an invalid address, a missing permission. Holds
    /// the errno.
    Unreachable(i32),
}

impl SendError {
    /// Interprets an error of sending over UDP (udp(7), ip(7), send(2)).
    pub const fn of_udp(errno: i32) -> SendError {
        match errno {
            libc::EAGAIN => SendError::Full,
            libc::ENOBUFS | libc::ENOMEM => SendError::NoMemory,
            libc::EMSGSIZE => SendError::TooLarge,
            errno => SendError::Unreachable(errno),
        }
    }

    /// Interprets an error of connecting or sending to a Unix datagram socket (unix(7), send(2)). EPERM means that the
    /// peer has connected its socket to another one than the sending one, and accepts datagrams from that one only.
    pub const fn of_unix(errno: i32) -> SendError {
        match errno {
            libc::EAGAIN => SendError::Full,
            libc::ENOBUFS | libc::ENOMEM | libc::EMFILE | libc::ENFILE => SendError::NoMemory,
            libc::EMSGSIZE => SendError::TooLarge,
            // The name does not exist; no socket is bound to it; the socket has shut down its reading side; a stream
            // socket has the name now.
            libc::ENOENT
            | libc::ENOTDIR
            | libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::ENOTCONN
            | libc::EPIPE
            | libc::EPROTOTYPE => SendError::Gone,
            errno => SendError::Unreachable(errno),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full => f.write_str("there is no room for it now"),
            SendError::NoMemory => f.write_str("the system has no memory for it now"),
            SendError::TooLarge => f.write_str("it is too large for a datagram"),
            SendError::Gone => f.write_str("its socket does not exist any more"),
            SendError::Unreachable(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

/// Whether an error of a run of datagrams (UDP_SEGMENT) may be caused by sending them as a run. If so, they are sent
/// one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunError {
    /// This run does not fit the path: a segment is larger than the MTU.
    Run,
    /// The device, or the kernel, cannot do it.
    Offload,
    /// The error has another cause.
    Other,
}

impl RunError {
    pub(super) const fn of(errno: i32) -> RunError {
        match errno {
            libc::EINVAL | libc::EMSGSIZE => RunError::Run,
            libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT => RunError::Offload,
            _ => RunError::Other,
        }
    }
}

/// The meaning of an error of receiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiveError {
    Drained,
    Interrupted,
    /// An earlier send to some peer has failed.
    OfPeer,
    NoMemory,
    Broken,
}

impl ReceiveError {
    /// Interprets an error of recvmmsg(2). Errors that ICMP and ICMPv6 can cause (icmp_err_convert in the kernel;
    /// ip(7)) concern something that was sent before, to any peer.
    pub(super) const fn of(errno: i32) -> ReceiveError {
        match errno {
            libc::EAGAIN => ReceiveError::Drained,
            libc::EINTR => ReceiveError::Interrupted,
            libc::ENOBUFS | libc::ENOMEM => ReceiveError::NoMemory,
            libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::ECONNABORTED
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::ENETRESET
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPROTO
            | libc::EACCES
            | libc::EPERM
            | libc::EMSGSIZE
            | libc::ETIMEDOUT
            | libc::EPIPE => ReceiveError::OfPeer,
            _ => ReceiveError::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every errno of Linux, and some numbers that are none.
    const EVERY: std::ops::Range<i32> = 1..200;

    fn those(is: impl Fn(i32) -> bool) -> Vec<i32> {
        EVERY.filter(|errno| is(*errno)).collect()
    }

    fn sorted(mut errnos: Vec<i32>) -> Vec<i32> {
        errnos.sort_unstable();
        errnos
    }

    #[test]
    fn f8_all_udp_errors_but_four_are_the_peers_own() {
        assert_eq!(those(|errno| SendError::of_udp(errno) == SendError::Full), [libc::EAGAIN]);
        assert_eq!(those(|errno| SendError::of_udp(errno) == SendError::NoMemory), [libc::ENOMEM, libc::ENOBUFS]);
        assert_eq!(those(|errno| SendError::of_udp(errno) == SendError::TooLarge), [libc::EMSGSIZE]);
        assert!(those(|errno| SendError::of_udp(errno) == SendError::Gone).is_empty());
        assert_eq!(those(|errno| SendError::of_udp(errno) == SendError::Unreachable(errno)).len(), EVERY.len() - 4);
    }

    #[test]
    fn f8_unix_errors_show_which_peer_is_gone() {
        assert_eq!(those(|errno| SendError::of_unix(errno) == SendError::Full), [libc::EAGAIN]);
        let no_memory = sorted(vec![libc::ENOMEM, libc::ENOBUFS, libc::EMFILE, libc::ENFILE]);
        assert_eq!(those(|errno| SendError::of_unix(errno) == SendError::NoMemory), no_memory);
        assert_eq!(those(|errno| SendError::of_unix(errno) == SendError::TooLarge), [libc::EMSGSIZE]);
        let gone = [libc::ENOENT, libc::ENOTDIR, libc::ECONNREFUSED, libc::ECONNRESET, libc::ENOTCONN];
        let gone = sorted([gone.as_slice(), &[libc::EPIPE, libc::EPROTOTYPE]].concat());
        assert_eq!(those(|errno| SendError::of_unix(errno) == SendError::Gone), gone);
        assert_eq!(SendError::of_unix(libc::EPERM), SendError::Unreachable(libc::EPERM));
    }

    #[test]
    fn f8_no_icmp_error_breaks_receiving() {
        assert_eq!(those(|errno| ReceiveError::of(errno) == ReceiveError::Drained), [libc::EAGAIN]);
        assert_eq!(those(|errno| ReceiveError::of(errno) == ReceiveError::NoMemory), [libc::ENOMEM, libc::ENOBUFS]);
        // The tables icmp_err_convert and icmpv6_err_convert of the kernel.
        let icmp = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENOPROTOOPT, libc::ECONNREFUSED, libc::EMSGSIZE];
        let more = [libc::EOPNOTSUPP, libc::EHOSTDOWN, libc::ENONET, libc::EACCES, libc::EPROTO];
        for errno in icmp.into_iter().chain(more) {
            assert_eq!(ReceiveError::of(errno), ReceiveError::OfPeer, "{errno}");
        }
        for errno in [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::EINVAL] {
            assert_eq!(ReceiveError::of(errno), ReceiveError::Broken, "{errno}");
        }
    }

    #[test]
    fn errors_have_a_text() {
        assert!(SendError::Unreachable(libc::EPERM).to_string().contains("not permitted"));
        assert_eq!(SendError::Gone.to_string(), "its socket does not exist any more");
    }
}
