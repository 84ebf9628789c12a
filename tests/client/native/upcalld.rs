//! A daemon of the test's own, with a listener of every transport.

use std::process::{Command, Stdio};

use crate::support::client::{Finished, Running, client};

pub(crate) struct Upcalld {
    running: Running,
    /// TCP, UDP, Unix stream, Unix datagram.
    pub(crate) urls: [String; 4],
}

impl Upcalld {
    pub(crate) fn start() -> Upcalld {
        let name = format!("upcall-client-native-{}-{}", std::process::id(), fastrand::u64(..));
        Upcalld::start_at([
            "tcp://127.0.0.1:0".into(),
            "udp://127.0.0.1:0".into(),
            format!("unix://@{name}"),
            format!("unix-datagram://@{name}-d"),
        ])
    }

    /// Starts one where another one was.
    pub(crate) fn start_again(urls: [String; 4]) -> Upcalld {
        Upcalld::start_at(urls)
    }

    fn start_at(urls: [String; 4]) -> Upcalld {
        let mut arguments = vec!["-c".to_owned(), "/dev/null".into()];
        urls.into_iter().for_each(|url| arguments.extend(["--listen".into(), url]));
        Upcalld::with(&arguments)
    }

    /// Starts one with a configuration file instead.
    pub(crate) fn configured(config: &str) -> (tempfile::TempDir, Upcalld) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("upcalld.toml");
        std::fs::write(&file, config.replace("SCRATCH", directory.path().to_str().unwrap())).unwrap();
        let daemon = Upcalld::with(&["-c".into(), file.to_str().unwrap().into()]);
        (directory, daemon)
    }

    fn with(arguments: &[String]) -> Upcalld {
        let mut command = Command::new(env!("CARGO_BIN_EXE_upcalld"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut log = running.complaints();
        let mut urls = Vec::new();
        for line in log.by_ref().take_while(|line| !line.ends_with(" ready")) {
            urls.extend(line.split_once("listening on ").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned()));
        }
        // Somebody has to read on, or the log finds its pipe full.
        std::thread::spawn(move || log.for_each(drop));
        urls.resize(4, String::new());
        Upcalld { running, urls: urls.try_into().unwrap() }
    }

    /// Kills it as a crash would, and starts another one in its place.
    pub(crate) fn crash_and_start(self) -> Upcalld {
        let Upcalld { mut running, urls } = self;
        running.child.kill().unwrap();
        running.wait();
        Upcalld::start_at(urls)
    }

    pub(crate) fn tcp(&self) -> &str {
        &self.urls[0]
    }

    pub(crate) fn udp(&self) -> &str {
        &self.urls[1]
    }

    pub(crate) fn unix(&self) -> &str {
        &self.urls[2]
    }
}

/// The client with these arguments, speaking native.
pub(crate) fn native(url: &str, arguments: &[&str]) -> Command {
    let [name, rest @ ..] = arguments else { return client(url, arguments) };
    match *name {
        "send" | "listen" => client(url, &[&[name, "--protocol", "native"], rest].concat()),
        _ => client(url, arguments),
    }
}

/// Runs it to its end.
pub(crate) fn run(url: &str, arguments: &[&str]) -> Finished {
    Running::start(&mut native(url, arguments)).finish()
}
