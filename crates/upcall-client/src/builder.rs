//! What a client is to be, before it connects.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::driver::{Driver, Policy};
use super::{Client, Error, Session};
use crate::machine::Settings;
use crate::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::{Address, DEFAULT_PORT};
use upcall_wire::frame::{MAX_NAME, Role};
use upcall_wire::topic::{MAX_FILTER_BYTES, MAX_FILTERS, is_filter};

/// The longest token, in bytes.
const MAX_TOKEN: usize = 1024;

/// Others may neither read nor write it.
const OTHERS: u32 = 0o006;

/// What a client is to be. Mistakes are reported by [`Builder::connect`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    address: Result<Address, Error>,
    settings: Result<Settings, Error>,
    policy: Policy,
}

impl Builder {
    /// A client of the daemon at a URL: `tcp://host:port`, `udp://host:port`, `unix:///path`, `unix-datagram:///path`; `@name`
    /// instead of a path is an abstract socket. Without a port it is 4141.
    pub fn new(url: &str) -> Builder {
        let address = Address::parse_url(url, Some(DEFAULT_PORT)).map_err(|error| Error::Invalid(error.to_string()));
        Builder::at(address)
    }

    /// A client of the daemon at an address.
    pub fn to(address: &Address) -> Builder {
        Builder::at(Ok(address.clone()))
    }

    fn at(address: Result<Address, Error>) -> Builder {
        let settings = address.clone().map(|address| Settings::new(super::socket::carrier(&address)));
        let policy = Policy {
            connect_timeout: CONNECT_TIMEOUT,
            timeout: Duration::from_secs(30),
            reconnect: Some((Duration::from_millis(500), Duration::from_secs(30))),
            insist: false,
        };
        Builder { address, settings, policy }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings) -> Result<(), Error>) -> Builder {
        // The first mistake is the one that is told.
        self.settings = self.settings.and_then(|mut settings| change(&mut settings).map(|()| settings));
        self
    }

    /// What the daemon calls the endpoint in its log: 1 to 64 bytes without control characters.
    pub fn name(self, name: &str) -> Builder {
        self.set(|settings| {
            if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
                return Err(Error::Invalid("a name is 1 to 64 bytes long and has no control characters".into()));
            }
            settings.name = name.to_owned();
            Ok(())
        })
    }

    /// What it is for; both by default. One that only sends should say so: it then gets no upcalls that nobody takes.
    pub fn role(self, role: Role) -> Builder {
        self.set(|settings| {
            settings.role = role;
            Ok(())
        })
    }

    /// Adds a filter: a topic, or the beginning of topics and an asterisk. Without any, everything is due.
    pub fn filter(self, filter: &str) -> Builder {
        self.set(|settings| {
            check_filters(&[filter])?;
            settings.filters.push(filter.to_owned());
            let bytes: usize = settings.filters.iter().map(String::len).sum();
            if settings.filters.len() > MAX_FILTERS || bytes > MAX_FILTER_BYTES {
                let message =
                    format!("at most {MAX_FILTERS} filters, of {MAX_FILTER_BYTES} bytes together, are possible");
                return Err(Error::Invalid(message));
            }
            Ok(())
        })
    }

    /// The secret that the listener wants: 1 to 1024 bytes.
    pub fn token(self, token: &[u8]) -> Builder {
        self.set(|settings| {
            if !(1..=MAX_TOKEN).contains(&token.len()) {
                return Err(Error::Invalid("a token is 1 to 1024 bytes long".into()));
            }
            settings.token = Some(token.to_vec());
            Ok(())
        })
    }

    /// The file that the secret is in, without the newline at its end. Others than owner and group may not read it.
    pub fn token_file(self, path: &Path) -> Builder {
        match read_token(path) {
            Ok(token) => self.token(&token),
            Err(error) => self.set(|_| Err(error)),
        }
    }

    /// Wants what was said before, from this sequence on; 0 for all that the daemon still has. The listener has to allow it
    /// (`history = true`). Means nothing to a session that is resumed.
    pub fn since(self, sequence: u64) -> Builder {
        self.set(|settings| {
            settings.since = Some(sequence);
            Ok(())
        })
    }

    /// Goes on with a session. Where the daemon does not know it any more, a new one begins.
    pub fn resume(self, session: Session) -> Builder {
        self.set(|settings| {
            settings.resume = Some(session.0);
            Ok(())
        })
    }

    /// How long it may take to connect and register; 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.policy.connect_timeout = timeout;
        self
    }

    /// How long a call waits for its answer, reconnecting included; 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.policy.timeout = timeout;
        self
    }

    /// How often the daemon is asked for a sign of life while nothing else happens, at least a millisecond; 30 s by default.
    /// Over datagrams it is asked at least three times in a lease. It is taken for dead when it has not answered three times
    /// over datagrams, or for 20 s; or for a minute on a stream, where inputs may be held back with everything in order.
    pub fn ping_interval(self, interval: Duration) -> Builder {
        self.set(|settings| {
            settings.ping_interval = interval.max(Duration::from_millis(1));
            Ok(())
        })
    }

    /// How long to wait before a lost connection is made again: a random time of at most `base`, and of at most twice as
    /// much each further time, up to `cap`. By default 500 ms and 30 s.
    pub fn reconnect(mut self, base: Duration, cap: Duration) -> Builder {
        self.policy.reconnect = Some((base, cap));
        self
    }

    /// A lost connection is the end.
    pub fn no_reconnect(mut self) -> Builder {
        self.policy.reconnect = None;
        self
    }

    /// Keeps trying where the daemon cannot be reached at first, too, as long as `connect_timeout` says.
    pub fn insist(mut self) -> Builder {
        self.policy.insist = true;
        self
    }

    /// Connects, and registers.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a mistake in what was asked for; else why the daemon cannot be reached or refuses.
    pub fn connect(self) -> Result<Client, Error> {
        Client::connected(self.driver()?)
    }

    /// Starts to connect, without waiting for the registration: call [`Client::register`] until it is complete.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a mistake in what was asked for.
    pub fn start(self) -> Result<Client, Error> {
        Ok(Client::begun(self.driver()?))
    }

    fn driver(self) -> Result<Driver, Error> {
        Driver::new(self.address?, self.settings?, self.policy)
    }
}

/// Whether these are filters, at least one.
pub(super) fn check_filters(filters: &[&str]) -> Result<(), Error> {
    if filters.is_empty() {
        return Err(Error::Invalid("there is no filter".into()));
    }
    match filters.iter().find(|filter| !is_filter(filter)) {
        Some(wrong) => Err(Error::Invalid(format!(
            "\"{}\" is not a filter: 1 to 128 bytes without control characters, and an asterisk at the end at most",
            upcall_wire::escape::Escaped(wrong.as_bytes())
        ))),
        None => Ok(()),
    }
}

/// Reads the secret in a file, without the newline at its end.
///
/// # Errors
///
/// [`Error::Invalid`] where the file cannot be read, or where other users may read it.
pub fn read_token(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::Invalid(format!("cannot read the token file {path:?}: {error}"));
    let mut file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.mode() & OTHERS != 0 {
        return Err(Error::Invalid(format!("the token file {path:?} is open to everybody; chmod o-rw it")));
    }
    let mut token = Vec::new();
    // One more than fits shows that it is too long; nothing is read without end.
    (&mut file).take(MAX_TOKEN as u64 + 3).read_to_end(&mut token).map_err(unreadable)?;
    let end = token.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line).len());
    token.truncate(end.unwrap_or(token.len()));
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn mistake(builder: Builder) -> String {
        builder.settings.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_told_without_connecting() {
        let builder = || Builder::new("tcp://lab");
        assert!(mistake(builder().name("a\n").name("b")).contains("name"));
        assert!(mistake(builder().filter("a\t")).contains("a\\t"));
        assert!(mistake(builder().token(b"")).contains("token"));
        assert!((0..65).fold(builder(), |builder, i| builder.filter(&format!("{i}"))).settings.is_err());
        assert!(matches!(Builder::new("tpc://x").connect(), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_token_file_is_kept_from_others() {
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
