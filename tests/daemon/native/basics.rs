//! Registration, receipts, repeats, roles and filters.

use upcall_wire::frame::{Code, Filters, Frame, Hello, Role, kind};

use super::{NAMES, auto, broken, everywhere, lab};
use crate::support::{Daemon, Event, Native, Place, Received, over};

over!(each:
    an_input_has_a_receipt_and_goes_to_all,
    a_repeat_is_appended_once,
    an_id_above_the_next_one,
    filters_are_answered_by_what_is_in_force,
    requests_count,
    roles,
    listeners_take_from_roles,
    history_needs_a_listener_that_offers_it,
    a_session_is_left_by_bye,
);

fn an_input_has_a_receipt_and_goes_to_all(place: Place) {
    let daemon = lab(place, "", "");
    let mut one = Native::join(&daemon, "lab");
    let mut two = Native::join(&daemon, "lab");
    let mut three = Native::join(&daemon, "lab");
    let [first, second, third] = [&one, &two, &three].map(|native| native.welcome());
    assert_eq!((first.version, first.resumed, first.last_message, first.start, first.next), (1, false, 0, 1, 1));
    assert_eq!(first.max_message, 60 << 10);
    assert_eq!((first.lease, first.key != 0), if place.is_datagram() { (120_000, true) } else { (0, false) });
    assert!(first.log == second.log && second.log == third.log);
    assert!(first.id != second.id && first.secret != second.secret && second.secret != third.secret);
    assert_eq!(one.send_confirmed("door/1", "open"), (1, 2), "the sender is not counted");
    assert_eq!(two.send_confirmed("", "shut"), (2, 2));
    for native in [&mut one, &mut two, &mut three] {
        for (sequence, source, topic, payload) in [(1, first.id, "door/1", "open"), (2, second.id, "", "shut")] {
            let upcall = native.upcall();
            assert_eq!((upcall.sequence, upcall.source, &upcall.topic[..]), (sequence, source, topic));
            assert_eq!(upcall.payload, payload.as_bytes());
        }
        assert!(native.so_far().is_empty());
    }
    // A newcomer gets nothing from before.
    let mut late = Native::join(&daemon, "lab");
    assert_eq!(late.welcome().start, 3);
    assert!(late.so_far().is_empty());
}

/// A repeat gets the same receipt, with a flag; of the last 64, and then it is stale.
fn a_repeat_is_appended_once(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::join(&daemon, "lab");
    let mut other = Native::join(&daemon, "lab");
    for id in 1..=70 {
        assert_eq!(native.send_confirmed("", format!("{id}")), (id, 1));
    }
    for id in [70, 7, 69] {
        native.send_again(id, "", format!("{id}").as_bytes());
        let Received::Receipt(receipt) = native.take(|item| matches!(item, Received::Receipt(_))) else {
            unreachable!()
        };
        assert_eq!((receipt.id, receipt.sequence, receipt.due, receipt.repeat), (id, id, 1, true));
    }
    for id in [6, 1, 0] {
        native.send_again(id, "", b"once more");
        assert_eq!(native.error(), (Code::Stale, kind::SEND, id));
    }
    assert_eq!(native.send_confirmed("", "71"), (71, 1));
    for id in 1..=71 {
        assert_eq!(other.upcall().payload, format!("{id}").as_bytes());
    }
    assert!(other.so_far().is_empty());
}

fn an_id_above_the_next_one(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::join(&daemon, "lab");
    let mut other = Native::join(&daemon, "lab");
    assert_eq!(native.send_confirmed("", "1"), (1, 1));
    native.send_again(3, "", b"3");
    if place.is_datagram() {
        // The message before it may be on its way; the client will repeat this one.
        let item = native.so_far();
        assert!(item.iter().all(|item| matches!(item, Received::Upcall(_))), "{item:?}");
        assert_eq!(native.send_confirmed("", "2"), (2, 1));
        assert_eq!(native.send_confirmed("", "3"), (3, 1));
    } else {
        let session = native.session();
        assert_eq!(native.error(), (Code::OutOfOrder, kind::SEND, 3));
        assert!(matches!(native.rest().last(), Some(Received::End(_))));
        // That ended the connection, not the session.
        let mut native = Native::connect(&daemon.url("lab"));
        let welcome = native.register(&Hello { resume: Some(session), ..Hello::new(0) });
        assert_eq!((welcome.resumed, welcome.last_message), (true, 1));
        assert_eq!((native.send_confirmed("", "2"), native.send_confirmed("", "3")), ((2, 1), (3, 1)));
    }
    assert_eq!([(); 3].map(|()| other.upcall().payload), [b"1", b"2", b"3"]);
}

fn filters_are_answered_by_what_is_in_force(place: Place) {
    let daemon = lab(place, "", "");
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let mut all = Native::join(&daemon, "lab");
    let mut some = Native::join_as(&daemon, "lab", &Hello { filters: vec!["door/*"], ..Hello::new(0) });
    let mut say = |topic: &str| sender.send_confirmed(topic, topic);
    assert_eq!(say("door/1"), (1, 2));
    assert_eq!(say("doo"), (2, 1));
    assert_eq!(say(""), (3, 1), "no topic matches nothing but *");
    assert_eq!(some.subscribe(true, &["lamp", "door/*"]), (4, vec!["door/*".into(), "lamp".into()]));
    assert_eq!(say("lamp"), (4, 2));
    assert_eq!(say("lamp/1"), (5, 1), "a topic is no prefix");
    assert_eq!(some.subscribe(false, &["door/*", "never there"]), (6, vec!["lamp".into()]));
    assert_eq!(say("door/1"), (6, 1));
    assert_eq!(some.subscribe(false, &["lamp"]), (7, vec![]), "nothing is in force, so nothing is due");
    assert_eq!(say("lamp"), (7, 1));
    assert_eq!(some.subscribe(true, &["*"]), (8, vec!["*".into()]));
    assert_eq!(say(""), (8, 2));
    // One that has never given a filter loses none.
    all.request += 1;
    let change = Filters { request: 1, filters: vec!["lamp"] };
    all.send_frame(&Frame::Unsubscribe(change));
    let item = all.take(|item| matches!(item, Received::Subscribed { .. }));
    assert_eq!(item, Received::Subscribed { request: 1, from: 1, everything: true, filters: vec![] }, "as ever");
    for sequence in 1..=8 {
        assert_eq!(all.upcall().sequence, sequence);
    }
    for sequence in [1, 4, 8] {
        assert_eq!(some.upcall().sequence, sequence);
    }
    assert!(all.so_far().is_empty() && some.so_far().is_empty());
}

/// A repeated request changes nothing; one above the next is out of order; an ERROR uses its id up.
fn requests_count(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::join(&daemon, "lab");
    assert_eq!(native.subscribe(true, &["a"]).1, ["a"]);
    native.request = 0;
    assert_eq!(native.subscribe(true, &["b"]).1, ["a"], "it was answered before");
    native.send_frame(&Frame::Subscribe(Filters { request: 2, filters: vec!["a\u{7f}"] }));
    assert_eq!(native.error(), (Code::BadTopic, kind::SUBSCRIBE, 2));
    native.request = 1;
    assert_eq!(native.subscribe(true, &["c"]).1, ["a"], "the ERROR has used it up");
    let names: Vec<String> = (0..64).map(|number| format!("{number}")).collect();
    native.send_frame(&Frame::Subscribe(Filters { request: 3, filters: names.iter().map(|name| &name[..]).collect() }));
    assert_eq!(native.error(), (Code::Limit, kind::SUBSCRIBE, 3));
    native.request = 3;
    assert_eq!(native.subscribe(true, &["d"]).1, ["a", "d"]);
    native.send_frame(&Frame::Subscribe(Filters { request: 6, filters: vec!["f"] }));
    if place.is_datagram() {
        assert!(native.so_far().is_empty());
        assert_eq!(native.subscribe(true, &["e"]).1, ["a", "d", "e"]);
    } else {
        assert_eq!(native.error(), (Code::OutOfOrder, kind::SUBSCRIBE, 6));
        assert_eq!(native.rest(), broken());
    }
}

fn roles(place: Place) {
    let daemon = lab(place, "", "");
    let mut both = Native::join(&daemon, "lab");
    let mut sends = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let mut receives = Native::join_as(&daemon, "lab", &Hello { role: Role::ReceiveOnly, ..Hello::new(0) });
    assert_eq!(sends.send_confirmed("", "1"), (1, 2));
    receives.send("", "no");
    assert_eq!(receives.error(), (Code::NotPermitted, kind::SEND, 1));
    receives.send_again(1, "", b"no");
    assert_eq!(receives.error(), (Code::NotPermitted, kind::SEND, 1), "the same again");
    sends.send_frame(&Frame::Subscribe(Filters { request: 1, filters: vec!["a"] }));
    assert_eq!(sends.error(), (Code::NotPermitted, kind::SUBSCRIBE, 1));
    assert_eq!(both.send_confirmed("", "2"), (2, 1));
    assert_eq!((receives.upcall().sequence, receives.upcall().sequence), (1, 2));
    let item = sends.so_far();
    assert!(item.is_empty(), "{item:?}");
}

fn listeners_take_from_roles(place: Place) {
    let config =
        auto(place, "lab", "") + &auto(place, "in", "role = \"input\"") + &auto(place, "out", "role = \"output\"");
    let daemon = Daemon::start(&config);
    let mut receiver = Native::join(&daemon, "lab");
    let mut input = Native::join(&daemon, "in");
    let mut output = Native::join(&daemon, "out");
    assert_eq!(input.send_confirmed("", "1"), (1, 2));
    output.send("", "no");
    assert_eq!(output.error(), (Code::NotPermitted, kind::SEND, 1));
    assert_eq!((receiver.upcall().sequence, output.upcall().sequence), (1, 1));
    let item = input.so_far();
    assert!(item.is_empty(), "{item:?}");
    let mut wants = Native::join_as(&daemon, "in", &Hello { role: Role::ReceiveOnly, ..Hello::new(0) });
    wants.send("", "no");
    assert_eq!(
        wants.error(),
        (Code::NotPermitted, kind::SEND, 1),
        "the listener and the role take away different permissions"
    );
}

fn history_needs_a_listener_that_offers_it(place: Place) {
    let daemon = Daemon::start(&(auto(place, "lab", "history = true") + &auto(place, "shut", "")));
    let mut sender = Native::join(&daemon, "lab");
    for text in ["1", "2", "3"] {
        sender.send_confirmed("", text);
    }
    for (since, start) in [(0, 1), (2, 2), (1000, 4)] {
        let mut native = Native::join_as(&daemon, "lab", &Hello { since: Some(since), ..Hello::new(0) });
        assert_eq!((native.welcome().start, native.welcome().next), (start, 4));
        for sequence in start..4 {
            assert_eq!(native.upcall().sequence, sequence);
        }
        assert!(native.so_far().is_empty());
    }
    let mut native = Native::connect(&daemon.url("shut"));
    let refused = native.hello(&Hello { since: Some(0), ..Hello::new(0) });
    assert!(matches!(refused, Received::Error { code: Code::NotPermitted, about: kind::HELLO, .. }), "{refused:?}");
    assert_eq!(native.register(&Hello::new(0)).start, 4, "another HELLO may follow");
}

fn a_session_is_left_by_bye(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::join(&daemon, "lab");
    native.send_confirmed("", "1");
    native.send_frame(&Frame::Bye("enough"));
    let rest = native.rest();
    assert!(rest.contains(&Received::Bye("closed".into())), "{rest:?}");
    daemon.wait(Event::Left.reason("closed"));
    let mut late = Native::connect(&daemon.url("lab"));
    let answer = late.hello(&Hello { resume: Some(native.session()), ..Hello::new(0) });
    assert!(matches!(answer, Received::Error { code: Code::UnknownSession, .. }), "{answer:?}");
    assert!(!late.register(&Hello::new(0)).resumed);
}

/// One order for all, on every transport.
#[test]
fn all_transports_reach_each_other() {
    let daemon = everywhere("");
    let mut all: Vec<Native> = NAMES.iter().map(|name| Native::join(&daemon, name)).collect();
    for ((native, name), sequence) in all.iter_mut().zip(NAMES).zip(1..) {
        assert_eq!(native.send_confirmed("", name), (sequence, 3));
    }
    for native in &mut all {
        for name in NAMES {
            assert_eq!(native.upcall().payload, name.as_bytes());
        }
    }
}
