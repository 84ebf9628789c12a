//! What an errno of a datagram socket means, and whose trouble it is: pure functions of a number. A socket is shared by many
//! peers, so the question is always whether the others can go on.

use std::fmt;
use std::io;

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room: for UDP in the socket's send buffer, and the poller says when there is again; for a Unix datagram
    /// there, or in the receiver's queue, and only a [`PeerSocket`](super::PeerSocket) can tell when there is again.
    Full,
    /// The kernel has no memory (or file descriptors) for now, and nobody says when it has.
    Starved,
    /// It is larger than what this socket, or the way to this peer, takes at all.
    TooLarge,
    /// Nobody has this Unix socket any more.
    Gone,
    /// This peer cannot be written to: an unreachable network, a firewall, an odd address, a missing permission. Holds
    /// the errno.
    Unreachable(i32),
}

impl Trouble {
    /// Reads an error of sending over UDP (udp(7), ip(7), send(2)).
    pub const fn of_udp(errno: i32) -> Trouble {
        match errno {
            libc::EAGAIN => Trouble::Full,
            libc::ENOBUFS | libc::ENOMEM => Trouble::Starved,
            libc::EMSGSIZE => Trouble::TooLarge,
            errno => Trouble::Unreachable(errno),
        }
    }

    /// Reads an error of connecting or sending to a Unix datagram socket (unix(7), send(2)). EPERM means that the peer has
    /// connected its socket to another one than that which sends, and so takes datagrams from that one only.
    pub const fn of_unix(errno: i32) -> Trouble {
        match errno {
            libc::EAGAIN => Trouble::Full,
            libc::ENOBUFS | libc::ENOMEM | libc::EMFILE | libc::ENFILE => Trouble::Starved,
            libc::EMSGSIZE => Trouble::TooLarge,
            // No such name; a name that nobody has bound, or whose owner is dead; one that has shut down its reading;
            // one that is a stream socket by now.
            libc::ENOENT
            | libc::ENOTDIR
            | libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::ENOTCONN
            | libc::EPIPE
            | libc::EPROTOTYPE => Trouble::Gone,
            errno => Trouble::Unreachable(errno),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Full => f.write_str("there is no room for it now"),
            Trouble::Starved => f.write_str("the system has no memory for it now"),
            Trouble::TooLarge => f.write_str("it is too large for a datagram"),
            Trouble::Gone => f.write_str("nobody has that socket any more"),
            Trouble::Unreachable(errno) => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

/// Whether an error of a run of datagrams (UDP_SEGMENT) may be one of sending them as a run: then they are sent singly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunTrouble {
    /// This run does not fit its way: a segment is larger than the path's MTU.
    Run,
    /// The device, or the kernel, cannot do it.
    Offload,
    /// It is none of that.
    Other,
}

impl RunTrouble {
    pub(super) const fn of(errno: i32) -> RunTrouble {
        match errno {
            libc::EINVAL | libc::EMSGSIZE => RunTrouble::Run,
            libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT => RunTrouble::Offload,
            _ => RunTrouble::Other,
        }
    }
}

/// What an error of receiving means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiveTrouble {
    Drained,
    Interrupted,
    Elsewhere,
    Starved,
    Broken,
}

impl ReceiveTrouble {
    /// Reads an error of recvmmsg(2). What ICMP and ICMPv6 can cause (icmp_err_convert in the kernel; ip(7)) is reported
    /// here for something that was sent before, to whomever.
    pub(super) const fn of(errno: i32) -> ReceiveTrouble {
        match errno {
            libc::EAGAIN => ReceiveTrouble::Drained,
            libc::EINTR => ReceiveTrouble::Interrupted,
            libc::ENOBUFS | libc::ENOMEM => ReceiveTrouble::Starved,
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
            | libc::EPIPE => ReceiveTrouble::Elsewhere,
            _ => ReceiveTrouble::Broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every errno that Linux has, and a few that it has not.
    const EVERY: std::ops::Range<i32> = 1..200;

    fn those(is: impl Fn(i32) -> bool) -> Vec<i32> {
        EVERY.filter(|errno| is(*errno)).collect()
    }

    fn sorted(mut errnos: Vec<i32>) -> Vec<i32> {
        errnos.sort_unstable();
        errnos
    }

    #[test]
    fn f8_udp_has_four_kinds_of_trouble_and_all_but_three_are_the_peers_own() {
        assert_eq!(those(|errno| Trouble::of_udp(errno) == Trouble::Full), [libc::EAGAIN]);
        assert_eq!(those(|errno| Trouble::of_udp(errno) == Trouble::Starved), [libc::ENOMEM, libc::ENOBUFS]);
        assert_eq!(those(|errno| Trouble::of_udp(errno) == Trouble::TooLarge), [libc::EMSGSIZE]);
        assert!(those(|errno| Trouble::of_udp(errno) == Trouble::Gone).is_empty());
        assert_eq!(those(|errno| Trouble::of_udp(errno) == Trouble::Unreachable(errno)).len(), EVERY.len() - 4);
    }

    #[test]
    fn f8_unix_knows_who_is_gone() {
        assert_eq!(those(|errno| Trouble::of_unix(errno) == Trouble::Full), [libc::EAGAIN]);
        let starved = sorted(vec![libc::ENOMEM, libc::ENOBUFS, libc::EMFILE, libc::ENFILE]);
        assert_eq!(those(|errno| Trouble::of_unix(errno) == Trouble::Starved), starved);
        assert_eq!(those(|errno| Trouble::of_unix(errno) == Trouble::TooLarge), [libc::EMSGSIZE]);
        let gone = [libc::ENOENT, libc::ENOTDIR, libc::ECONNREFUSED, libc::ECONNRESET, libc::ENOTCONN];
        let gone = sorted([gone.as_slice(), &[libc::EPIPE, libc::EPROTOTYPE]].concat());
        assert_eq!(those(|errno| Trouble::of_unix(errno) == Trouble::Gone), gone);
        assert_eq!(Trouble::of_unix(libc::EPERM), Trouble::Unreachable(libc::EPERM));
    }

    #[test]
    fn f8_nothing_that_icmp_can_cause_breaks_receiving() {
        assert_eq!(those(|errno| ReceiveTrouble::of(errno) == ReceiveTrouble::Drained), [libc::EAGAIN]);
        assert_eq!(those(|errno| ReceiveTrouble::of(errno) == ReceiveTrouble::Starved), [libc::ENOMEM, libc::ENOBUFS]);
        // The tables icmp_err_convert and icmpv6_err_convert of the kernel.
        let icmp = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENOPROTOOPT, libc::ECONNREFUSED, libc::EMSGSIZE];
        let more = [libc::EOPNOTSUPP, libc::EHOSTDOWN, libc::ENONET, libc::EACCES, libc::EPROTO];
        for errno in icmp.into_iter().chain(more) {
            assert_eq!(ReceiveTrouble::of(errno), ReceiveTrouble::Elsewhere, "{errno}");
        }
        for errno in [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::EINVAL] {
            assert_eq!(ReceiveTrouble::of(errno), ReceiveTrouble::Broken, "{errno}");
        }
    }

    #[test]
    fn trouble_has_words() {
        assert!(Trouble::Unreachable(libc::EPERM).to_string().contains("not permitted"));
        assert_eq!(Trouble::Gone.to_string(), "nobody has that socket any more");
    }
}
