//! The path of a Unix socket: bound only if no live socket has it, never more accessible than configured, and removed
//! at the end.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, chown, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

/// The path of a bound socket, with its lock file. Dropping it removes the socket file, if that is still the one that
/// was bound, and the lock file.
#[derive(Debug)]
pub(super) struct OwnedPath {
    path: PathBuf,
    /// Device and inode of the socket file.
    identity: (u64, u64),
    lock_path: PathBuf,
    _lock: Flock<File>,
}

impl OwnedPath {
    /// Binds `socket` at `path`, with this mode and, if given, this group.
    pub(super) fn bind(socket: &Socket, path: &Path, mode: u32, group: Option<u32>) -> io::Result<OwnedPath> {
        if let Some(directory) = path.parent()
            && !directory.is_dir()
        {
            let message = format!("its directory {} does not exist", directory.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let lock_path = lock_path(path);
        let lock = lock(&lock_path)?;
        let bound = remove_if_dead(path).and_then(|()| {
            bind_closed(socket, path)?;
            let identity = identity(path)?;
            set_access(path, mode, group).inspect_err(|_| drop(fs::remove_file(path)))?;
            Ok(identity)
        });
        match bound {
            Ok(identity) => Ok(OwnedPath { path: path.into(), identity, lock_path, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_file(&lock_path);
                Err(error)
            }
        }
    }

    /// Changes mode and group of the socket file. Fails if the file was replaced.
    pub(super) fn set_access(&self, mode: u32, group: Option<u32>) -> io::Result<()> {
        if identity(&self.path)? != self.identity {
            return Err(io::Error::other("there is another file at its path now"));
        }
        set_access(&self.path, mode, group)
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        // If another process has replaced the file, it stays. The lock file is removed last, while it is locked: see
        // `lock`.
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Creates and locks the lock file beside the socket. The owner removes the file while it holds the lock. So if a
/// locked file is not at its path any more, it belonged to an earlier owner, and locking is tried again.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A symbolic link must not be followed, and a FIFO must not block.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| explain(error, format!("cannot open its lock file {}", path.display())))?;
        let opened = file.metadata()?;
        if !opened.is_file() || opened.uid() != geteuid().as_raw() {
            let message = format!("its lock file {} is not a regular file of this user; remove it", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::Error::EWOULDBLOCK => {
                io::Error::new(io::ErrorKind::AddrInUse, "another upcalld is listening there (it holds the lock)")
            }
            errno => explain(errno.into(), format!("cannot lock {}", path.display())),
        })?;
        let locked = file.metadata()?;
        if fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
}

/// Removes the socket file of a process that is gone. Any other file at the path stays, and is an error.
fn remove_if_dead(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let refuse = |message: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    if !metadata.file_type().is_socket() {
        return refuse("there is a file that is not a socket; remove it, or choose another path");
    }
    if metadata.uid() != geteuid().as_raw() {
        return refuse("there is a socket of another user; remove it, or choose another path");
    }
    // The kernel refuses a connect to a dead socket of any type. Connecting a datagram socket to a live stream socket
    // fails with EPROTOTYPE, and a live datagram socket does not notice it. Connecting a stream socket would leave a
    // connection in the backlog.
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The socket is alive: it accepts datagrams, has another type, or is connected to another socket (EPERM).
        _ => refuse("a program is listening there"),
    }
}

/// Binds with mode 0, so that the file is never more accessible than the mode that is set next.
fn bind_closed(socket: &Socket, path: &Path) -> io::Result<()> {
    let address = SockAddr::unix(path)?;
    let before = umask(Mode::all());
    let result = socket.bind(&address);
    umask(before);
    result
}

fn set_access(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        chown(path, None, Some(Gid::from_raw(group)))
            .map_err(|errno| explain(errno.into(), format!("cannot change its group to {group}")))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn explain(error: io::Error, what: String) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
