//! nc, socat, ncat and upcall-client as clients, all at once.

use nix::sys::signal::Signal;

use crate::practicum::script;
use crate::support::{Daemon, Event, Place, Program, Stream, listener, skip_without};

const CLIENT: &str = env!("CARGO_BIN_EXE_upcall-client");

/// A daemon on every transport, and every program that is installed, connected to it.
fn all_programs(test: &str, rest: &str) -> (Daemon, Vec<Program>) {
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

/// Everything up to the given number of line ends.
fn lines(witness: &Stream, count: usize) -> String {
    let (mut bytes, mut ends) = (Vec::new(), 0);
    while ends < count {
        let byte = witness.read_exactly(1);
        ends += usize::from(byte == b"\n");
        bytes.extend(byte);
    }
    String::from_utf8(bytes).expect("text")
}

/// The text without line ends, which programs put in different places.
fn joined(text: &str) -> String {
    text.replace('\n', "")
}

#[test]
fn all_of_them_see_one_order() {
    let (daemon, mut programs) = all_programs("all_of_them_see_one_order", "");
    let mut student = script(&daemon, "all_of_them_see_one_order");
    let witness = daemon.join("lab");
    let (count, mut all, mut sequence) = (programs.len(), String::new(), 0);
    // The student's messages have no line end, and the script reads only after it has sent.
    let mut send_line = |all: &mut String, sequence: &mut usize| {
        if let Some(student) = &mut student {
            student.type_in("a student's line\n");
            *sequence += 1;
            let upcall = format!("{sequence} a student's line");
            witness.expect(&upcall);
            *all += &upcall;
        }
    };
    send_line(&mut all, &mut sequence);
    for (index, program) in programs.iter_mut().enumerate() {
        for line in 0..5 {
            program.type_in(&format!("program {index} line {line}\n"));
        }
    }
    all += &lines(&witness, 5 * count);
    sequence += 5 * count;
    send_line(&mut all, &mut sequence);
    witness.send("that was all\n");
    let end = format!("{} that was all\n", sequence + 1);
    witness.expect(&end);
    all += &end;

    for program in &programs {
        program.wait_output("that was all\n");
        assert_eq!(joined(&program.output().text()), joined(&all), "{}", program.name());
    }
    for index in 0..count {
        let name = format!(" program {index} line ");
        let own: Vec<&str> = all.split(&name).skip(1).map(|rest| &rest[..1]).collect();
        assert_eq!(own, ["0", "1", "2", "3", "4"], "program {index}'s own order");
    }
    if let Some(mut student) = student {
        student.type_in("bye\n");
        assert!(student.wait_exit().success());
        let output = joined(&student.output().text());
        assert!(!output.is_empty() && joined(&all).starts_with(&output), "the student got {output}");
    }
}

#[test]
fn kill_nine_harms_no_other() {
    let (mut daemon, mut programs) = all_programs("kill_nine_harms_no_other", "");
    let mut student = script(&daemon, "kill_nine_harms_no_other");
    let witness = daemon.join("lab");
    let mut sequence = 0;
    if let Some(student) = &mut student {
        student.type_in("whole\n");
        sequence += 1;
        witness.expect(format!("{sequence} whole"));
        student.kill();
        daemon.wait_count(Event::Left, 1);
    }
    while let Some(mut victim) = programs.pop() {
        // In the middle of a line, and while an upcall is on its way to the victim.
        victim.type_in("whole\nhalf a li");
        sequence += 1;
        witness.expect(format!("{sequence} whole\n"));
        let left = daemon.count(Event::Left);
        victim.kill();
        daemon.wait_count(Event::Left, left + 1);
        for survivor in &programs {
            survivor.wait_output(&format!("{sequence} whole\n"));
        }
        witness.send("witness\n");
        let next = lines(&witness, 1);
        // The half line may be the last message of the victim, or lost; it never arrives twice.
        let halves = next.matches("half a li").count();
        sequence += 1 + halves;
        assert!(halves <= 1 && next.ends_with(&format!("{sequence} witness\n")), "{next}");
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

/// A farewell counts only on a line of its own, and in the default format an input never is one.
#[test]
fn what_looks_like_a_farewell_is_sent_like_anything_else() {
    let daemon = Daemon::start(&Place::Tcp.listener("lab", ""));
    let (witness, url) = (daemon.join("lab"), daemon.url("lab"));
    for _ in 0..10 {
        let mut client =
            Program::start(CLIENT, &[&url, "send", "--protocol", "text", "upcalld: shutdown"]).expect("our own client");
        client.end_input();
        let status = client.wait_exit();
        assert_eq!(status.code(), Some(0), "{status}");
        witness.expect("Upcall event: Processing upcalld: shutdown\n");
    }
}
