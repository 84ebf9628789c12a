//! Unix datagram peers: whether the daemon may send to the name that a datagram came from.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use socket2::SockAddr;
use upcall_wire::address::UnixName;

/// A Unix datagram peer that may be sent to: it has an abstract name, or a socket file that belongs to the user that
/// sent from it. For a path, it holds a file descriptor.
#[derive(Debug)]
pub struct UnixPeer {
    name: UnixName,
    pub(super) address: SockAddr,
    /// The socket file that was verified. Datagrams are sent to this file, through /proc/self/fd, and not to the file
    /// that is at the path later: otherwise a peer could replace its socket by a link to another user's.
    file: Option<File>,
}

/// The reason why a name must not be sent to.
#[derive(Debug)]
pub enum Unwritable {
    /// The path is relative to the sender's directory, which is unknown.
    Relative,
    /// The file at the path is not a socket. A symbolic link is not one either.
    NotASocket,
    /// The socket belongs to this other user.
    NotOwned(u32),
    /// It cannot be inspected: it does not exist here, or there are no file descriptors.
    System(io::Error),
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwritable::Relative => f.write_str("its path is relative"),
            Unwritable::NotASocket => f.write_str("its path is not that of a socket"),
            Unwritable::NotOwned(uid) => write!(f, "its socket belongs to uid {uid}"),
            Unwritable::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unwritable {}

impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Unwritable {
        Unwritable::System(error)
    }
}

impl UnixPeer {
    /// Verifies the name of a socket from which `uid` has sent.
    pub fn verify(name: &UnixName, uid: u32) -> Result<UnixPeer, Unwritable> {
        let (address, file) = match name {
            UnixName::Abstract(name) => (abstract_address(name)?, None),
            UnixName::Path(path) => {
                let file = verify_path(path, uid)?;
                (SockAddr::unix(format!("/proc/self/fd/{}", file.as_raw_fd()))?, Some(file))
            }
        };
        Ok(UnixPeer { name: name.clone(), address, file })
    }

    /// Whether the verified socket is still at the path. Its owner, or another user, may have put another one there.
    /// Always true for an abstract name, which always refers to the socket that has it now.
    pub fn is_current(&self) -> bool {
        let (UnixName::Path(path), Some(file)) = (&self.name, &self.file) else { return true };
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let found = fs::symlink_metadata(path).map(identity);
        found.is_ok_and(|found| file.metadata().map(identity).is_ok_and(|held| held == found))
    }

    /// The name that was verified.
    pub fn name(&self) -> &UnixName {
        &self.name
    }
}

/// The socket address of an abstract name, which begins with NUL (unix(7)).
pub(super) fn abstract_address(name: &[u8]) -> io::Result<SockAddr> {
    SockAddr::unix(OsStr::from_bytes(&[&[0], name].concat()))
}

fn verify_path(path: &Path, uid: u32) -> Result<File, Unwritable> {
    if !path.is_absolute() {
        return Err(Unwritable::Relative);
    }
    // O_PATH refers to the file without opening the socket; with O_NOFOLLOW, to a symbolic link itself (open(2)).
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    match metadata.uid() {
        _ if !metadata.file_type().is_socket() => Err(Unwritable::NotASocket),
        owner if owner != uid => Err(Unwritable::NotOwned(owner)),
        _ => Ok(file),
    }
}
