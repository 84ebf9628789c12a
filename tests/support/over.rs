//! One test body over several transports.

use super::{Place, skip};

/// Makes a test of each body for each place of a set: `over!(streams: first_body, second_body)` makes
/// `first_body::tcp`, `first_body::unix` and so on. A body is a `fn(Place)`.
///
/// The sets are `streams`, `datagrams`, `udp` (both families) and `each` (every transport once).
macro_rules! over {
    (@streams $body:ident) => {
        $crate::support::over!(@tests $body tcp Tcp, tcp6 Tcp6, unix UnixPath, abstract_unix UnixAbstract);
    };
    (@datagrams $body:ident) => {
        $crate::support::over!(@tests $body udp Udp, udp6 Udp6, path DatagramPath, abstract_name DatagramAbstract);
    };
    (@udp $body:ident) => {
        $crate::support::over!(@tests $body udp Udp, udp6 Udp6);
    };
    (@each $body:ident) => {
        $crate::support::over!(@tests $body tcp Tcp, unix UnixPath, udp Udp, unix_datagram DatagramAbstract);
    };
    (@tests $body:ident $($test:ident $place:ident),+) => {$(
        #[test]
        fn $test() {
            $crate::support::over::run($crate::support::Place::$place, stringify!($body), super::$body);
        }
    )+};
    ($set:ident: $($body:ident),+ $(,)?) => {$(
        mod $body {
            $crate::support::over!(@$set $body);
        }
    )+};
}
pub(crate) use over;

/// Runs a test body at one place, unless this machine does not have it.
pub(crate) fn run(place: Place, name: &str, body: fn(Place)) {
    if place.is_available() {
        body(place);
    } else {
        skip(name, "::1 is not available");
    }
}
