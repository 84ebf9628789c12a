//! `bench --protocol native`: every delivery is counted, on every transport.

use std::time::Duration;

use serde_json::Value;

use crate::support::client::*;
use crate::support::{Daemon, within};

#[test]
fn every_mode_counts_right_on_every_transport() {
    within(Duration::from_secs(60), || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            for (mode, deliveries) in [
                ("fan-out --messages 1000 --receivers 5 --duration 20s", 6_000),
                ("fan-out --messages 50 --receivers 2 --size 50000 --duration 20s --window 8", 150),
                ("latency --messages 100 --receivers 3 --rate 1000 --duration 20s", 400),
                ("ping-pong --messages 200 --duration 20s", 200),
            ] {
                let arguments: Vec<&str> =
                    ["bench", "--json", "--protocol", "native"].into_iter().chain(mode.split(' ')).collect();
                let done = run_native(url, &arguments);
                assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{url} {mode}");
                let json: Value = serde_json::from_str(&done.stdout).unwrap();
                assert_eq!((&json["protocol"], &json["results"][0]["correct"]), (&"native".into(), &true.into()));
                assert_eq!(json["results"][0]["deliveries"].as_u64(), Some(deliveries), "{url} {mode}");
            }
        }
    });
}

#[test]
fn what_is_refused_is_named() {
    within(Duration::from_secs(20), || {
        let daemon = Daemon::start(
            "[upcall]\nmax_message = \"100B\"\n\
             [[listener]]\nname = \"a\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"b\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\nprotocol = \"text\"\n",
        );
        let bench = ["bench", "--protocol", "native", "--size", "101", "fan-out", "--receivers", "1"];
        let done = run_native(&daemon.url("a"), &bench);
        assert_eq!(done.status, Some(65), "{done:?}");
        assert!(done.stderr.contains("too_large"), "{done:?}");
        let done = run_native(&daemon.url("b"), &bench);
        assert_eq!(done.status, Some(76), "{done:?}");
        assert!(done.stderr.contains("--protocol text"), "{done:?}");
    });
}
