//! Whose datagrams are the daemon's, on Unix sockets.
//!
//! Every user of this machine may write to our socket, so the sender's uid must be that of the socket's file: whoever may
//! replace that file is the daemon for all we know. Root could read and change everything anyway. An abstract name has no
//! owner and belongs to whoever takes it first, so that there is nothing to compare with. (To believe only the first that
//! writes would be worse than to believe all: it could shut the daemon out.)

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::failure::say;
use crate::address::UnixName;

/// Tells the daemon from others.
#[derive(Debug)]
pub(super) struct Senders {
    path: Option<PathBuf>,
    owner: Option<u32>,
    warned: bool,
}

impl Senders {
    /// Those that a socket of this name can have.
    pub(super) fn to(name: &UnixName) -> Senders {
        let path = match name {
            UnixName::Path(path) => Some(path.clone()),
            UnixName::Abstract(_) => None,
        };
        Senders { path, owner: None, warned: false }
    }

    /// Whether a datagram of this user counts. The first that does not is complained about.
    pub(super) fn admit(&mut self, uid: Option<u32>) -> bool {
        let Some(path) = &self.path else { return true };
        if uid == Some(0) || (uid.is_some() && uid == self.owner) {
            return true;
        }
        // The daemon may have come back as somebody else.
        self.owner = fs::metadata(path).ok().map(|file| file.uid());
        if uid.is_some() && uid == self.owner {
            return true;
        }
        if !self.warned {
            self.warned = true;
            let (uid, owner) = (Shown(uid), Shown(self.owner));
            say(&format!("ignored a datagram of uid {uid}, for {} belongs to uid {owner}", path.display()));
        }
        false
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
    fn senders_are_the_owner_of_the_file_and_root() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        let mut senders = Senders { path: Some(file.path().into()), owner: None, warned: true };
        for (uid, admitted) in [(Some(owner), true), (Some(0), true), (Some(owner + 1), false), (None, false)] {
            assert_eq!(senders.admit(uid), admitted, "{uid:?}");
        }
        drop(file);
        assert!(!senders.admit(Some(owner + 1)));
        let mut anybody = Senders { path: None, owner: None, warned: true };
        assert!(anybody.admit(Some(4711)) && anybody.admit(None));
    }
}
