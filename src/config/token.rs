//! The token of a listener, a secret that its clients share. It is read from a file that other users cannot read, and
//! it is never shown.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use upcall_wire::frame::MAX_TOKEN;

/// The mode bits that allow the group or others to write the file, or others to read it. The group may read it, so that
/// the daemon can read a file that belongs to root.
const EXPOSED: u32 = 0o026;

/// A token, and the file that it was read from. Only the file name is ever printed.
#[derive(Clone)]
pub struct Token {
    path: PathBuf,
    secret: Box<[u8]>,
}

impl Token {
    /// Reads the token from a file: 1 to 1024 bytes without NUL, not counting one newline at the end. The file has to
    /// be a regular one that belongs to root or to the user of this process, with a mode that excludes others. The
    /// error is a message, and never contains any part of the token.
    pub fn read(path: PathBuf) -> Result<Token, String> {
        let shown = path.display();
        let wrong = |reason: &str| format!("token_file \"{shown}\" {reason}");
        let failed = |error: std::io::Error| format!("token_file \"{shown}\": {error}");
        // Without O_NONBLOCK, opening a FIFO would wait for a writer. The checks apply to the opened file, not to its
        // name.
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path);
        let file = open.map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(wrong("is not a regular file"));
        }
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
            return Err(wrong(&format!(
                "belongs to user {owner}; chown it to root, or to the user that upcalld runs as"
            )));
        }
        if mode & EXPOSED != 0 {
            return Err(wrong(&format!("has mode {mode:04o}: others can read or write it; chmod it to 0600 or 0640")));
        }
        let secret = contents(file).map_err(failed)?;
        match secret.len() {
            0 => Err(wrong("is empty")),
            length if length > MAX_TOKEN => {
                Err(wrong(&format!("holds more than {MAX_TOKEN} bytes, the longest token")))
            }
            _ if secret.contains(&0) => Err(wrong("holds a NUL byte; a token has none")),
            _ => Ok(Token { path, secret }),
        }
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the token. The time of the comparison depends only on the length of `offered`, not on the token.
    ///
    /// It needs five lines, which do not justify a dependency: the usual crate uses the same black box against the
    /// optimiser.
    pub fn is(&self, offered: &[u8]) -> bool {
        let of_secret = self.secret.iter().cycle();
        let differs = offered.iter().zip(of_secret).fold(0, |differs, (a, b)| black_box(differs | (a ^ b)));
        // Not `&&`, whose time would depend on the first operand.
        (differs == 0) & (offered.len() == self.secret.len())
    }
}

/// The contents of a file, without one newline at the end. Of a long file, it reads only one byte more than the longest
/// token has.
fn contents(file: File) -> std::io::Result<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(MAX_TOKEN + 2);
    file.take(MAX_TOKEN as u64 + 2).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes.into())
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.path == other.path && self.is(&other.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?}, …)", self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(contents: &[u8], mode: u32) -> Result<Token, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, contents).unwrap();
        file.as_file().set_permissions(PermissionsExt::from_mode(mode)).unwrap();
        Token::read(file.path().into()).map_err(|reason| {
            assert!(!reason.contains("hunter2"), "{reason}");
            reason.split_once("\" ").unwrap().1.to_string()
        })
    }

    #[test]
    fn only_the_token_is_the_token() {
        let token = token(b"hunter2 hunter2\n", 0o600).unwrap();
        assert!(token.is(b"hunter2 hunter2"));
        for wrong in [&b""[..], b"hunter2", b"hunter2 hunter2\n", b"hunter2 hunter3", b"Hunter2 hunter2"] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert!(!token.is(&b"hunter2 hunter2".repeat(2)), "what repeats the token is not the token");
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_token() {
        assert!(token(b"hunter2\n\n", 0o600).unwrap().is(b"hunter2\n"));
        assert!(token(&[b'x'; MAX_TOKEN], 0o600).is_ok());
        let longest = [&[b'x'; MAX_TOKEN][..], b"\n"].concat();
        assert!(token(&longest, 0o600).unwrap().is(&longest[..MAX_TOKEN]));
        let too_long = "holds more than 1024 bytes, the longest token";
        for bytes in [[b'x'; MAX_TOKEN + 1].to_vec(), [&longest[..], b"\n"].concat(), vec![b'x'; 1 << 20]] {
            assert_eq!(token(&bytes, 0o600).unwrap_err(), too_long);
        }
        assert_eq!(token(b"\n", 0o600).unwrap_err(), "is empty");
        assert_eq!(token(b"", 0o600).unwrap_err(), "is empty");
        assert_eq!(token(b"hunter2\0", 0o600).unwrap_err(), "holds a NUL byte; a token has none");
    }

    #[test]
    fn a_mode_that_gives_others_access_is_refused() {
        for mode in [0o600, 0o400, 0o640, 0o440, 0o700, 0o750] {
            assert!(token(b"hunter2", mode).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o660, 0o620, 0o666, 0o777] {
            let reason = token(b"hunter2", mode).unwrap_err();
            assert!(reason.starts_with(&format!("has mode {mode:04o}: others can")), "{mode:o}: {reason}");
        }
    }

    #[test]
    fn it_belongs_to_root_or_to_us() {
        // Only root can change a file's owner, so that other users cannot make such a file.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "hunter2").unwrap();
        std::os::unix::fs::chown(file.path(), Some(65534), None).unwrap();
        assert!(Token::read(file.path().into()).unwrap_err().contains("belongs to user 65534; chown it to root"));
    }

    #[test]
    fn a_file_that_is_not_regular_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [fifo, directory.path().into(), "/dev/null".into()] {
            assert!(Token::read(path).unwrap_err().ends_with("is not a regular file"));
        }
        assert!(Token::read("/nowhere/token".into()).unwrap_err().contains("No such file"));
    }

    #[test]
    fn it_is_never_shown() {
        let token = token(b"hunter2", 0o600).unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
