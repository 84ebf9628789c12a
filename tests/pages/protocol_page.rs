//! upcall-protocol(7) and the code agree: every example on the page is read and written back by the codec, and
//! every number in the code is on the page with its name, and in the dissector for Wireshark.

use std::fs;
use std::path::Path;

use upcall_wire::frame::datagram::{self, Envelope};
use upcall_wire::frame::{self, Code, Frame, GapReason, Role, VERSION, flag, kind, option};
use upcall_wire::reason::{Reason, Refusal};
use upcall_wire::topic;

const PAGE: &str = include_str!("../../man/upcall-protocol.7");
const DISSECTOR: &str = include_str!("../../compose/wireshark/upcall.lua");

/// A message in an example: its direction, and its bytes.
struct Message {
    to_daemon: bool,
    bytes: Vec<u8>,
}

/// The examples: blocks behind a line of their own, whose lines are hexadecimal up to a bar.
fn examples() -> Vec<Vec<Message>> {
    let blocks = PAGE.split(".\\\" example\n.EX\n").skip(1);
    let lines = blocks.map(|block| block.split_once("\n.EE").expect("an example ends").0.lines());
    lines.map(|lines| lines.fold(Vec::new(), add_line)).collect()
}

fn add_line(mut messages: Vec<Message>, line: &str) -> Vec<Message> {
    let hex = line.split('|').next().unwrap();
    let hex = match hex.split_at(1) {
        (">" | "<", rest) => {
            messages.push(Message { to_daemon: hex.starts_with('>'), bytes: Vec::new() });
            rest
        }
        _ => hex,
    };
    let message = messages.last_mut().expect("a message begins with its direction");
    let digits = |pair: &str| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("\"{pair}\" in {line}"));
    message.bytes.extend(hex.split_whitespace().map(digits));
    messages
}

/// Reads a message and writes it again. The kinds of its frames, and what was written.
fn round_trip(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut kinds, mut written) = (Vec::new(), Vec::new());
    let mut frames = message;
    if message[1] == kind::DATAGRAM {
        let (envelope, rest) = Envelope::split(message).expect("the envelope of a datagram");
        envelope.write(&mut written);
        kinds.push(kind::DATAGRAM);
        frames = rest;
    }
    while !frames.is_empty() {
        kinds.push(frames[1]);
        Frame::take(&mut frames).unwrap_or_else(|wrong| panic!("{wrong}: {message:02x?}")).write(&mut written);
    }
    (kinds, written)
}

#[test]
fn every_example_is_read_and_written_back() {
    let mut seen = Vec::new();
    for Message { to_daemon, bytes } in examples().into_iter().flatten() {
        let (kinds, written) = round_trip(&bytes);
        assert_eq!(written, bytes);
        for kind in &kinds {
            let sender_is_right = match kind {
                0x01..0x20 => to_daemon,
                0x80.. => !to_daemon,
                _ => true,
            };
            assert!(sender_is_right, "kind {kind:#04x}: {bytes:02x?}");
        }
        seen.extend(kinds);
    }
    for (name, kind) in kind::ALL {
        let is_shown = seen.contains(&kind) || [kind::REPLY, kind::SKIPPABLE].contains(&kind);
        assert!(is_shown, "{name} has no example");
    }
}

/// The order of the frames in both sessions, as the page promises it.
#[test]
fn both_sessions_are_whole() {
    use kind::{ACK, BYE, DATAGRAM, HELLO, RECEIPT, RETRY, SEND, UPCALL, WELCOME};
    let kinds = |messages: &Vec<Message>| messages.iter().flat_map(|one| round_trip(&one.bytes).0).collect::<Vec<_>>();
    let examples = examples();
    let [.., tcp, udp] = &examples[..] else { panic!("there are no sessions") };
    assert_eq!(kinds(tcp), [HELLO, WELCOME, SEND, RECEIPT, UPCALL, BYE, BYE]);
    let udp_kinds = kinds(udp);
    let (handshake, rest) = udp_kinds.split_at(4);
    assert_eq!(handshake, [HELLO, RETRY, HELLO, WELCOME]);
    assert_eq!(rest, [DATAGRAM, UPCALL, DATAGRAM, ACK, DATAGRAM, BYE, DATAGRAM, BYE]);
    assert!(udp[0].bytes.len() >= udp[1].bytes.len(), "an unproved address gets no more than came from there");
}

/// Asserts that a row of a table begins so.
fn assert_row(cells: &[&str]) {
    let row = cells.join("\t");
    let begins = |line: &str| line.strip_prefix(&*row).is_some_and(|rest| rest.is_empty() || rest.starts_with('\t'));
    assert!(PAGE.lines().any(begins), "the page has no row {cells:?}");
}

#[test]
fn every_kind_is_on_the_page() {
    for (name, kind) in kind::ALL {
        let sender = match kind {
            0x00..0x20 => "client",
            0x20..0x80 => "both",
            0x80.. => "daemon",
        };
        if kind == kind::SKIPPABLE {
            assert!(PAGE.contains(&format!("\nKinds from {kind:#04x} on may be added")));
        } else {
            assert_row(&[&format!("{kind:#04x}"), name, sender]);
        }
    }
}

#[test]
fn every_flag_is_on_the_page() {
    for (name, bits) in flag::ALL {
        let frame = match name {
            "RECEIPT" => "SEND",
            "REPEAT" => "RECEIPT",
            "EVERYTHING" => "SUBSCRIBED",
            "CRITICAL" => {
                assert!(PAGE.contains(&format!("the bits {bits:#04x} are critical")));
                assert!(PAGE.contains(&format!("The bits {:#04x} are ignored", !flag::CRITICAL)));
                continue;
            }
            other => panic!("{other} is new: say here which kind of frame has it"),
        };
        assert_row(&[frame, &format!("{bits:#04x}"), name]);
    }
}

#[test]
fn every_option_and_role_is_on_the_page() {
    for (name, number) in option::ALL {
        if number == option::SKIPPABLE {
            assert!(PAGE.contains(&format!("An unknown type from {number:#04x} on is skipped")));
        } else {
            assert_row(&[&number.to_string(), name]);
        }
    }
    for role in Role::ALL {
        let described = format!("{} ({role})", role.number());
        assert!(PAGE.contains(&described), "the page does not have {described}");
    }
}

#[test]
fn every_code_and_reason_is_on_the_page() {
    for code in Code::ALL {
        let fatal = if code.is_fatal() { "yes" } else { "no" };
        assert_row(&[&code.number().to_string(), code.name(), fatal]);
    }
    for reason in GapReason::ALL {
        assert_row(&[&reason.number().to_string(), reason.name()]);
    }
    let only_logged = "\nreset, dead, lease_expired\t";
    for reason in Reason::ALL {
        match reason {
            Reason::Reset | Reason::Dead | Reason::LeaseExpired => {
                assert!(PAGE.contains(only_logged) && only_logged.contains(reason.name()));
            }
            _ => assert_row(&[reason.name()]),
        }
    }
    Refusal::ALL.iter().for_each(|refusal| assert_row(&[refusal.name()]));
}

/// What every constant that limits something is called on the page.
fn limits() -> Vec<(&'static str, usize, &'static str)> {
    vec![
        ("HEADER", frame::HEADER, "a frame's header"),
        ("OVERHEAD", datagram::OVERHEAD, "a datagram's header"),
        ("UPCALL_OVERHEAD", frame::UPCALL_OVERHEAD, "UPCALL, beside topic and payload"),
        ("SEND_OVERHEAD", frame::SEND_OVERHEAD, "SEND, beside topic and payload"),
        ("MAX_HELLO", frame::MAX_HELLO, "the body of a frame that is neither SEND nor UPCALL; else"),
        ("MAX_NAME", frame::MAX_NAME, "a name"),
        ("MAX_TOKEN", frame::MAX_TOKEN, "a token"),
        ("MAX_REASON", frame::MAX_REASON, "a reason"),
        ("MAX_TOPIC", topic::MAX_TOPIC, "a topic"),
        ("MAX_FILTER", topic::MAX_FILTER, "a filter"),
        ("MAX_FILTERS", topic::MAX_FILTERS, "filters of an endpoint (a number)"),
        ("MAX_FILTER_BYTES", topic::MAX_FILTER_BYTES, "all filters of an endpoint"),
    ]
}

#[test]
fn every_limit_is_on_the_page() {
    for (_, value, of) in limits() {
        let rows = [format!("\n{value}\t{of}\n"), format!("\n{value}\tT{{\n{of}")];
        assert!(rows.iter().any(|row| PAGE.contains(row)), "the page has no row {value}, {of}");
    }
    assert!(PAGE.contains(&format!("the native protocol of upcalld, version {VERSION}\n")));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/upcall-wire/src");
    let files = fs::read_dir(folder.join("frame")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.chain([folder.join("topic.rs")]) {
        let source = fs::read_to_string(&file).unwrap();
        for name in source.lines().filter_map(limit_in) {
            let is_known = limits().iter().any(|(known, ..)| *known == name) || file.ends_with("tests.rs");
            assert!(is_known, "{name} in {} is new: it belongs on the page, and in the list here", file.display());
        }
    }
}

/// The name of a constant that limits something, if this line defines one.
fn limit_in(line: &str) -> Option<&str> {
    let name = line.strip_prefix("pub const ").or(line.strip_prefix("const "))?.split_once(": usize =")?.0;
    Some(name)
}

/// A table of the dissector's.
fn lua_table(name: &str) -> &'static str {
    let (_, rest) = DISSECTOR.split_once(&format!("local {name} = {{")).unwrap_or_else(|| panic!("no {name}"));
    rest.split_once("\n}").expect("its end").0
}

/// Every string in a piece of Lua.
fn strings(lua: &str) -> Vec<&str> {
    lua.split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_dissector_knows_every_kind_and_flag() {
    let kinds = lua_table("KINDS");
    let mut known = 0;
    for (name, kind) in kind::ALL {
        if kind == kind::SKIPPABLE {
            assert!(DISSECTOR.contains(&format!("SKIPPABLE_OPTION = {kind:#04x}, {:#04x}\n", option::SKIPPABLE)));
            continue;
        }
        let sender = match kind {
            0x00..0x20 => "CLIENT",
            0x20..0x80 => "BOTH",
            0x80.. => "DAEMON",
        };
        let row = format!("[{kind:#04x}] = {{ name = \"{name}\", by = {sender}, ");
        assert!(kinds.contains(&row), "the dissector has no {row}");
        known += 1;
    }
    assert_eq!(kinds.matches("name = ").count(), known);
    for (kind, flag) in [("SEND", flag::RECEIPT), ("RECEIPT", flag::REPEAT), ("SUBSCRIBED", flag::EVERYTHING)] {
        let row = kinds.lines().find(|line| line.contains(&format!("\"{kind}\""))).unwrap();
        assert!(row.contains(&format!("flags = {flag:#04x}")), "{row}");
    }
    assert!(DISSECTOR.contains(&format!("local MAX_BODY = {} ", frame::MAX_HELLO)));
}

#[test]
fn the_dissector_knows_every_name() {
    let codes: Vec<(&str, bool)> = lua_table("CODES")
        .split("{ ")
        .skip(1)
        .map(|row| (strings(row)[0], row.split('}').next().unwrap().contains("true")))
        .collect();
    assert_eq!(codes, Code::ALL.map(|code| (code.name(), code.is_fatal())));
    let line = |name| DISSECTOR.lines().find(|line| line.starts_with(&format!("local {name} = {{"))).unwrap();
    assert_eq!(strings(line("GAPS")), GapReason::ALL.map(GapReason::name));
    let options: Vec<_> = option::ALL.into_iter().filter(|(_, number)| *number != option::SKIPPABLE).collect();
    assert!(options.iter().zip(1..).all(|((_, number), place)| *number == place), "{options:?}");
    assert_eq!(strings(line("OPTION_NAMES")), options.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    assert!(Role::ALL.iter().zip(0..).all(|(role, place)| role.number() == place));
    assert_eq!(strings(line("ROLES")), Role::ALL.map(Role::name));

    let mut known: Vec<&str> =
        lua_table("REASONS").lines().filter_map(|line| Some(line.trim().split_once(" = ")?.0)).collect();
    let reasons = Reason::ALL.iter().map(|reason| reason.name());
    let mut all: Vec<&str> = reasons.chain(Refusal::ALL.iter().map(|refusal| refusal.name())).collect();
    known.sort_unstable();
    all.sort_unstable();
    all.dedup();
    assert_eq!(known, all);
}
