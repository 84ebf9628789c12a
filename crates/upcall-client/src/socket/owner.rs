//! The check that a datagram over a Unix socket comes from the daemon.
//!
//! Every user of the machine may write to the client's socket, so the sender's user id must be that of the owner of the
//! daemon's socket file: a user who may replace that file could act as the daemon anyway. Root is admitted as well,
//! since it can read and change everything. An abstract name has no owner and belongs to the first process that binds
//! it, so there is nothing to compare with. (To trust only the first sender would be worse than to trust all: it could
//! lock the daemon out.)

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use upcall_wire::address::UnixName;

/// A sender that is not the daemon, whose datagrams are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSender {
    /// The sender's user id, if the kernel reported it (SO_PASSCRED, unix(7)).
    pub uid: Option<u32>,
    /// The daemon's socket.
    pub path: PathBuf,
    /// The user id of the owner of the daemon's socket, if the socket exists.
    pub owner: Option<u32>,
}

/// The owner of the daemon's socket, against which senders are checked.
#[derive(Debug)]
pub(super) struct SocketOwner {
    path: Option<PathBuf>,
    uid: Option<u32>,
    foreign: Option<ForeignSender>,
    reported: bool,
}

impl SocketOwner {
    /// The owner of the socket with this name.
    pub(super) fn of(name: &UnixName) -> SocketOwner {
        let path = match name {
            UnixName::Path(path) => Some(path.clone()),
            UnixName::Abstract(_) => None,
        };
        SocketOwner { path, uid: None, foreign: None, reported: false }
    }

    /// Checks the sender of a datagram. The first that is not admitted is kept for [`SocketOwner::take_foreign`].
    pub(super) fn admit(&mut self, uid: Option<u32>) -> bool {
        let Some(path) = &self.path else { return true };
        if uid == Some(0) || (uid.is_some() && uid == self.uid) {
            return true;
        }
        // The daemon may have been restarted by another user.
        self.uid = fs::metadata(path).ok().map(|file| file.uid());
        if uid.is_some() && uid == self.uid {
            return true;
        }
        if !self.reported {
            self.reported = true;
            self.foreign = Some(ForeignSender { uid, path: path.clone(), owner: self.uid });
        }
        false
    }

    /// The first sender that was not admitted, once.
    pub(super) fn take_foreign(&mut self) -> Option<ForeignSender> {
        self.foreign.take()
    }
}

impl fmt::Display for ForeignSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (uid, owner) = (OptionalUid(self.uid), OptionalUid(self.owner));
        write!(f, "ignored a datagram of uid {uid}: {} belongs to uid {owner}", self.path.display())
    }
}

/// A user id that may be unknown, for messages.
struct OptionalUid(Option<u32>);

impl fmt::Display for OptionalUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(uid) => uid.fmt(f),
            None => f.write_str("(unknown)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_the_file_and_root_are_admitted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let uid = file.as_file().metadata().unwrap().uid();
        let mut owner = SocketOwner::of(&UnixName::Path(file.path().into()));
        for (uid, admitted) in [(Some(uid), true), (Some(0), true), (Some(uid + 1), false), (None, false)] {
            assert_eq!(owner.admit(uid), admitted, "{uid:?}");
        }
        let foreign = owner.take_foreign().unwrap();
        assert_eq!((foreign.uid, foreign.owner), (Some(uid + 1), Some(uid)));
        drop(file);
        assert!(!owner.admit(Some(uid + 1)));
        assert_eq!(owner.take_foreign(), None, "reported once");
        let mut anyone = SocketOwner::of(&UnixName::Abstract(b"x".to_vec()));
        assert!(anyone.admit(Some(4711)) && anyone.admit(None));
    }
}
