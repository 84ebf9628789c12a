//! Reading a token from a file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use upcall_wire::frame::MAX_TOKEN;

use super::Error;

/// The permission bits of other users to read and to write.
const OTHERS: u32 = 0o006;

/// Reads a token from a file. The newline at its end is not part of the token.
///
/// The length is not checked here; [`Builder::token`](crate::Builder::token) does.
///
/// # Errors
///
/// [`Error::Invalid`] if the file cannot be read, or if users other than its owner and group may read or write it.
pub fn read_token(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::Invalid(format!("cannot read the token file {path:?}: {error}"));
    let mut file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.mode() & OTHERS != 0 {
        return Err(Error::Invalid(format!("the token file {path:?} is open to all users; chmod o-rw it")));
    }
    let mut token = Vec::new();
    // The limit leaves room for a newline (2 bytes) and 1 byte more, which shows that the token is too long.
    (&mut file).take(MAX_TOKEN as u64 + 3).read_to_end(&mut token).map_err(unreadable)?;
    let end = token.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line).len());
    token.truncate(end.unwrap_or(token.len()));
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_file_must_be_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "secret\r\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_token(&path).unwrap(), b"secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_token(&path).unwrap_err().to_string().contains("chmod o-rw"));
        assert!(read_token(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
