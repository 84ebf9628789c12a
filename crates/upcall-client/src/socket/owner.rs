//! Whose datagrams are the daemon's, on Unix sockets.
//!
//! Every user of this machine may write to our socket, so the sender's uid must be that of the socket's file: a user who may
//! replace that file could be the daemon anyway. Root is admitted as well, since it can read and change everything. An
//! abstract name has no owner and belongs to the process that takes it first, so there is nothing to compare with. (To
//! believe only the first sender would be worse than to believe all: it could shut the daemon out.)

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use upcall_wire::address::UnixName;

/// A sender that is not the daemon, whose datagrams are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The sender's user id, where the kernel told it.
    pub uid: Option<u32>,
    /// The daemon's socket.
    pub path: PathBuf,
    /// The user id that the socket belongs to, where it is there.
    pub owner: Option<u32>,
}

/// Tells the daemon's datagrams from those of others.
#[derive(Debug)]
pub(super) struct Owner {
    path: Option<PathBuf>,
    uid: Option<u32>,
    foreign: Option<Foreign>,
    reported: bool,
}

impl Owner {
    /// The owner of the socket with this name.
    pub(super) fn of(name: &UnixName) -> Owner {
        let path = match name {
            UnixName::Path(path) => Some(path.clone()),
            UnixName::Abstract(_) => None,
        };
        Owner { path, uid: None, foreign: None, reported: false }
    }

    /// Whether a datagram of this user counts. The first that does not can be reported with [`Owner::take_foreign`].
    pub(super) fn admit(&mut self, uid: Option<u32>) -> bool {
        let Some(path) = &self.path else { return true };
        if uid == Some(0) || (uid.is_some() && uid == self.uid) {
            return true;
        }
        // The daemon may have been restarted as another user.
        self.uid = fs::metadata(path).ok().map(|file| file.uid());
        if uid.is_some() && uid == self.uid {
            return true;
        }
        if !self.reported {
            self.reported = true;
            self.foreign = Some(Foreign { uid, path: path.clone(), owner: self.uid });
        }
        false
    }

    /// The first sender that was not admitted, once.
    pub(super) fn take_foreign(&mut self) -> Option<Foreign> {
        self.foreign.take()
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (uid, owner) = (Shown(self.uid), Shown(self.owner));
        write!(f, "ignored a datagram of uid {uid}: {} belongs to uid {owner}", self.path.display())
    }
}

struct Shown(Option<u32>);

impl fmt::Display for Shown {
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
        let mut owner = Owner::of(&UnixName::Path(file.path().into()));
        for (uid, admitted) in [(Some(uid), true), (Some(0), true), (Some(uid + 1), false), (None, false)] {
            assert_eq!(owner.admit(uid), admitted, "{uid:?}");
        }
        let foreign = owner.take_foreign().unwrap();
        assert_eq!((foreign.uid, foreign.owner), (Some(uid + 1), Some(uid)));
        drop(file);
        assert!(!owner.admit(Some(uid + 1)));
        assert_eq!(owner.take_foreign(), None, "reported once");
        let mut anyone = Owner::of(&UnixName::Abstract(b"x".to_vec()));
        assert!(anyone.admit(Some(4711)) && anyone.admit(None));
    }
}
