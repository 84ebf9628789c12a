//! The practicum's own client, ten lines of Python, unchanged.

use crate::support::{Daemon, Event, Place, Program, listener, skip_without};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/compose/clientcall.py");

/// A running script, connected and registered.
pub(crate) fn script(daemon: &Daemon, test: &str) -> Option<Program> {
    let before = daemon.connected();
    let program = Program::start("python3", &[SCRIPT, "127.0.0.1", &daemon.port("lab").to_string()]);
    match program {
        Some(_) => daemon.wait_connected(before + 1),
        None => skip_without(test, "python3"),
    }
    program
}

#[test]
fn the_script_gets_what_the_practicum_promises() {
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let Some(mut student) = script(&daemon, "practicum") else { return };
    for message in ["haii", "how are you?", "grüß dich"] {
        student.type_in(&format!("{message}\n"));
        student.wait_output(&format!("Upcall event: Processing {message}\n"));
    }
    student.type_in("bye\n");
    assert!(student.wait_exit().success());
    let expected =
        "Upcall event: Processing haii\nUpcall event: Processing how are you?\nUpcall event: Processing grüß dich\n";
    assert_eq!(student.output().text(), expected);
    daemon.wait(Event::Left.reason("closed"));
}

#[test]
fn a_class_of_students_each_served_alone() {
    let config = Place::Tcp.listener("lab", "") + "[upcall]\ndeliver_to = \"sender\"\n";
    let daemon = Daemon::start(&config);
    let Some(first) = script(&daemon, "practicum") else { return };
    let mut students = vec![first];
    students.extend((1..8).filter_map(|_| script(&daemon, "practicum")));
    for round in 0..5 {
        for (index, student) in students.iter_mut().enumerate() {
            student.type_in(&format!("student {index} round {round}\n"));
        }
    }
    for (index, mut student) in students.into_iter().enumerate() {
        student.type_in(" BYE \n");
        assert!(student.wait_exit().success());
        let expected: String =
            (0..5).map(|round| format!("Upcall event: Processing student {index} round {round}\n")).collect();
        assert_eq!(student.output().text(), expected);
    }
}

/// Every script receives all upcalls. They print one stream, split where their `recv` happened to split it.
#[test]
fn a_class_of_students_sees_one_order() {
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let Some(first) = script(&daemon, "practicum") else { return };
    let mut students = vec![first];
    students.extend((1..5).filter_map(|_| script(&daemon, "practicum")));
    let witness = daemon.join("lab");
    let mut all = String::new();
    for round in 0..3 {
        for (index, student) in students.iter_mut().enumerate() {
            let upcall = format!("Upcall event: Processing student {index} round {round}");
            student.type_in(&format!("student {index} round {round}\n"));
            witness.expect(&upcall);
            all += &upcall;
        }
    }
    for (index, mut student) in students.into_iter().enumerate() {
        student.end_input();
        assert!(student.wait_exit().success());
        let output = student.output().text().replace('\n', "");
        assert!(!output.is_empty() && all.starts_with(&output), "student {index}: {output}");
    }
}

#[test]
fn the_log_shows_the_whole_session() {
    let config = listener("lab", "tcp", "127.0.0.1:0", "");
    let daemon = crate::support::Setup::new(&config).args(&["--log-inputs", "always", "--log-format", "text"]).start();
    let Some(mut student) = script(&daemon, "practicum") else { return };
    student.type_in("haii\nbye\n");
    assert!(student.wait_exit().success());
    daemon.wait(Event::Left);
    let log = daemon.log().raw().text();
    let story = [
        ": configuration: ",
        "listening on tcp://127.0.0.1:",
        " ready",
        " connected from 127.0.0.1:",
        "; 1 registered",
        "Received from client: haii -- #",
        ", upcall 1 to 1 endpoint",
        " left: closed",
    ];
    let mut rest = log.as_str();
    for part in story {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part:?} in its place in\n{log}"));
        rest = &rest[at + part.len()..];
    }
}
