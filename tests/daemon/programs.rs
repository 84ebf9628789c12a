//! nc, socat, ncat and our own client as clients, all at once.

use nix::sys::signal::Signal;

use crate::common::{Daemon, Place, Program, listener, skip_without};

const CLIENT: &str = env!("CARGO_BIN_EXE_upcall-client");

/// A daemon on every transport, and every program that is installed, connected to it.
fn everybody(test: &str, rest: &str) -> (Daemon, Vec<Program>) {
    let abstract_name = format!("upcalld-test-{}-{test}", std::process::id());
    let config = Place::Tcp.listener("lab", "")
        + &listener("local", "unix", "SCRATCH/p.sock", "")
        + &listener("abstract", "unix", &format!("@{abstract_name}"), "")
        + "[upcall]\nformat = \"{seq} {data}\"\n"
        + rest;
    let daemon = Daemon::start(&config);
    let port = daemon.port("lab").to_string();
    let path = daemon.setup().scratch().join("p.sock").display().to_string();
    let commands: Vec<Vec<String>> = [
        format!("nc 127.0.0.1 {port}"),
        format!("nc -U {path}"),
        format!("socat - TCP:127.0.0.1:{port}"),
        format!("socat - UNIX-CONNECT:{path}"),
        format!("socat - ABSTRACT-CONNECT:{abstract_name}"),
        format!("ncat 127.0.0.1 {port}"),
        format!("ncat -U {path}"),
        format!("{CLIENT} tcp://127.0.0.1:{port}"),
        format!("{CLIENT} unix://{path}"),
        format!("{CLIENT} unix://@{abstract_name}"),
    ]
    .iter()
    .map(|line| line.split(' ').map(str::to_owned).collect())
    .collect();
    let mut programs = Vec::new();
    for words in commands {
        match Program::start(&words[0], &words[1..]) {
            Some(program) => {
                programs.push(program);
                daemon.wait_connected(programs.len());
            }
            None => skip_without(test, &words[0]),
        }
    }
    (daemon, programs)
}

#[test]
fn all_of_them_see_one_order() {
    let (daemon, mut programs) = everybody("all_of_them_see_one_order", "");
    let witness = daemon.join("lab");
    let count = programs.len();
    for (index, program) in programs.iter_mut().enumerate() {
        for line in 0..5 {
            program.type_in(&format!("program {index} line {line}\n"));
        }
    }
    // Sequences are told by the daemon, so the witness knows where all of it ends.
    let mut all = Vec::new();
    while all.iter().filter(|byte| **byte == b'\n').count() < 5 * count {
        all.extend(witness.read_exactly(1));
    }
    let all = String::from_utf8(all).expect("text");
    let last = all.lines().last().expect("there are lines");
    for program in &programs {
        program.wait_output(last);
        program.wait_output("\n");
    }
    for program in &programs {
        let text = program.output().text();
        assert_eq!(text.trim_end(), all.trim_end(), "{}", program.name());
    }
    for index in 0..count {
        let own: Vec<&str> = all.lines().filter(|line| line.contains(&format!(" program {index} "))).collect();
        let lines: Vec<char> = own.iter().filter_map(|line| line.chars().last()).collect();
        assert_eq!(lines, ['0', '1', '2', '3', '4'], "{own:?}");
    }
}

#[test]
fn kill_nine_harms_nobody() {
    let (mut daemon, mut programs) = everybody("kill_nine_harms_nobody", "");
    let witness = daemon.join("lab");
    let mut sequence = 0;
    while let Some(mut victim) = programs.pop() {
        // In the middle of a line, and with an upcall on its way to it.
        victim.type_in("whole\nhalf a li");
        sequence += 1;
        witness.expect(format!("{sequence} whole\n"));
        let left = daemon.log().count(" left: ");
        victim.kill();
        daemon.wait_log_count(" left: ", left + 1);
        for survivor in &programs {
            survivor.wait_output(&format!("{sequence} whole\n"));
        }
        witness.send("witness\n");
        let mut next = witness.read_exactly(1);
        while !next.ends_with(b"witness\n") {
            next.extend(witness.read_exactly(1));
        }
        // What the victim had begun may be its last message, or lost with it; it is never there twice.
        let next = String::from_utf8(next).expect("text");
        assert!(next.matches("half a li").count() <= 1, "{next}");
        sequence += 1 + next.matches("half a li").count();
        assert!(next.ends_with(&format!("{sequence} witness\n")), "{next}");
    }
    assert!(daemon.is_running());
    daemon.signal(Signal::SIGTERM);
    witness.expect_rest("upcalld: shutdown\n");
    drop(witness);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

/// `printf | nc -N`: a shell pipeline gets every upcall before it ends.
#[test]
fn b12_a_pipeline_half_closes() {
    let config = listener("lab", "tcp", "127.0.0.1:0", "") + "[upcall]\nformat = \"{data}\"\n";
    let daemon = Daemon::start(&config);
    let port = daemon.port("lab").to_string();
    let address = format!("TCP:127.0.0.1:{port}");
    let commands: [&[&str]; 3] =
        [&["nc", "-N", "127.0.0.1", &port], &["socat", "-t60", "-", &address], &["ncat", "127.0.0.1", &port]];
    let text: String = (0..2_000).map(|line| format!("line {line}\n")).collect();
    for command in commands {
        let Some(mut program) = Program::start(command[0], &command[1..]) else {
            skip_without("b12_a_pipeline_half_closes", command[0]);
            continue;
        };
        program.type_in(&text);
        program.end_input();
        program.wait_exit();
        assert!(program.output().text() == text, "{}: {} bytes", command[0], program.output().bytes().len());
    }
}
