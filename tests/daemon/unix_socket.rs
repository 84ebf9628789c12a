//! The files of Unix sockets: their owner, their mode, and what is never touched.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::{Daemon, Setup, Stream, figure, listener};

const CANNOT_CREATE: i32 = 73;

/// A listener on `name` in the daemon's scratch directory.
fn on(name: &str, more: &str) -> String {
    listener("local", "unix", &format!("SCRATCH/{name}"), more)
}

/// A listener on this very path.
fn at(path: &Path) -> String {
    listener("local", "unix", &path.display().to_string(), "")
}

#[test]
fn s9_a_live_socket_is_not_taken_over() {
    let first = Daemon::start(&on("live.sock", ""));
    let path = first.setup().scratch().join("live.sock");
    let stream = first.join("local");
    let inode = fs::metadata(&path).expect("the socket is there").ino();
    let second = Setup::new(&at(&path)).run();
    assert_eq!(second.code(), CANNOT_CREATE, "{}", second.stderr);
    assert!(second.stderr.contains("live.sock"), "{}", second.stderr);
    assert_eq!(fs::metadata(&path).expect("the socket is still there").ino(), inode);
    stream.send("still served");
    stream.expect("Upcall event: Processing still served");
    first.join("local");
}

/// A live socket of another program, which has no lock file.
#[test]
fn s9_a_live_socket_of_another_program_is_not_taken_over() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = scratch.path().join("other.sock");
    let other = UnixListener::bind(&path).expect("a socket");
    let daemon = Setup::new(&at(&path)).run();
    assert_eq!(daemon.code(), CANNOT_CREATE, "{}", daemon.stderr);
    Stream::connect(&format!("unix://{}", path.display()));
    drop(other);
}

#[test]
fn s9_a_tcp_port_in_use_is_refused() {
    let first = Daemon::start(&listener("lab", "tcp", "127.0.0.1:0", ""));
    let stream = first.join("lab");
    let second = Setup::new(&listener("lab", "tcp", &format!("127.0.0.1:{}", first.port("lab")), "")).run();
    assert_eq!(second.code(), CANNOT_CREATE, "{}", second.stderr);
    stream.send("hi");
    stream.expect("Upcall event: Processing hi");
}

#[test]
fn s10_a_stale_socket_is_replaced() {
    let first = Daemon::start(&on("stale.sock", ""));
    let rest = first.crash();
    let path = rest.scratch().join("stale.sock");
    assert!(fs::symlink_metadata(&path).expect("a crash leaves it").file_type().is_socket());
    let start = Instant::now();
    let second = rest.start();
    figure("s10", &format!("bound again within {:.2?}", start.elapsed()));
    let stream = second.join("local");
    stream.send("hi");
    stream.expect("Upcall event: Processing hi");
}

#[test]
fn the_socket_is_gone_after_an_orderly_end() {
    let mut daemon = Daemon::start(&on("gone.sock", ""));
    let path = daemon.setup().scratch().join("gone.sock");
    daemon.join("local");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert!(fs::symlink_metadata(&path).is_err(), "the socket is still there");
}

/// A file that has replaced the socket of the daemon is not removed.
#[test]
fn a_file_that_replaced_the_socket_stays() {
    let mut daemon = Daemon::start(&on("theirs.sock", ""));
    let path = daemon.setup().scratch().join("theirs.sock");
    fs::remove_file(&path).expect("the socket is there");
    fs::write(&path, "precious").expect("the directory can be written");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "precious");
}

#[test]
fn s11_what_is_no_socket_is_not_touched() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("file");
    fs::write(&file, "precious").expect("it can be written");
    let stale = scratch.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("a socket"));
    let make = |name: &str| scratch.path().join(name);
    let (directory, to_file, to_socket, to_nothing) =
        (make("directory"), make("to_file"), make("to_socket"), make("to_nothing"));
    fs::create_dir(&directory).expect("a directory");
    symlink(&file, &to_file).expect("a link");
    symlink(&stale, &to_socket).expect("a link");
    symlink(make("nothing"), &to_nothing).expect("a link");
    for path in [&file, &directory, &to_file, &to_socket, &to_nothing] {
        let before = kind(path);
        let ended = Setup::new(&at(path)).run();
        assert!([CANNOT_CREATE, 78].contains(&ended.code()), "{}: {}", ended.status, ended.stderr);
        assert_eq!(kind(path), before, "{}", path.display());
    }
    assert_eq!(fs::read_to_string(&file).expect("it is still there"), "precious");
    assert!(stale.exists() && !make("nothing").exists());
}

fn kind(path: &PathBuf) -> (u64, u32, i64) {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    (metadata.ino(), metadata.mode(), metadata.mtime_nsec())
}

/// A thread watches the file from before the start: its mode is never wider than configured, whatever the umask.
#[test]
fn s12_the_mode_is_never_wider() {
    const STARTS: usize = 100;
    let mut setup = Setup::new(&on("narrow.sock", "mode = \"0600\"")).after_shell("umask 000");
    let path = setup.scratch().join("narrow.sock");
    let over = Arc::new(AtomicBool::new(false));
    let watching = thread::spawn({
        let (path, over) = (path.clone(), Arc::clone(&over));
        move || {
            let (mut seen, mut widest) = (0_usize, 0);
            while !over.load(Ordering::Relaxed) {
                if let Ok(metadata) = fs::symlink_metadata(&path) {
                    seen += 1;
                    widest |= metadata.permissions().mode() & 0o777;
                }
            }
            (seen, widest)
        }
    });
    for _ in 0..STARTS {
        let daemon = setup.start();
        daemon.connect("local");
        setup = daemon.crash();
        let _ = fs::remove_file(&path);
    }
    over.store(true, Ordering::Relaxed);
    let (seen, widest) = watching.join().expect("the watcher ends");
    assert!(seen > STARTS, "it was watched: {seen}");
    assert_eq!(widest & !0o600, 0, "{widest:o} was seen");
}

#[test]
fn mode_and_group_are_as_configured() {
    let group = nix::unistd::getegid();
    let Ok(Some(entry)) = nix::unistd::Group::from_gid(group) else {
        return crate::support::skip("mode_and_group_are_as_configured", "the own group has no name");
    };
    for mode in ["0600", "0660", "0666"] {
        let daemon = Daemon::start(&on("mode.sock", &format!("mode = \"{mode}\"\ngroup = \"{}\"", entry.name)));
        let metadata = fs::metadata(daemon.setup().scratch().join("mode.sock")).expect("the socket is there");
        assert_eq!(format!("{:04o}", metadata.mode() & 0o7777), mode);
        assert_eq!(metadata.gid(), group.as_raw());
    }
}

#[test]
fn two_daemons_on_two_paths_in_one_directory() {
    let first = Daemon::start(&on("one.sock", ""));
    let second = Daemon::start(&at(&first.setup().scratch().join("two.sock")));
    for daemon in [&first, &second] {
        let stream = daemon.join("local");
        stream.send("hi");
        stream.expect("Upcall event: Processing hi");
    }
}

/// An open of a FIFO as if it were a file would block until another process opens it.
#[test]
fn a_fifo_as_the_lock_does_not_stop_the_start() {
    let setup = Setup::new(&on("fifo.sock", ""));
    let lock = setup.scratch().join("fifo.sock.lock");
    nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let ended = setup.run();
    assert_eq!(ended.code(), CANNOT_CREATE, "{}", ended.stderr);
    assert!(ended.stderr.contains("fifo.sock"), "{}", ended.stderr);
    assert!(fs::symlink_metadata(&lock).expect("it is still there").file_type().is_fifo());
}
