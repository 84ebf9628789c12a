//! The options of a client, before it connects.

use std::path::Path;
use std::time::Duration;

use upcall_wire::address::{Address, DEFAULT_PORT};
use upcall_wire::frame::{MAX_NAME, MAX_TOKEN, Role};
use upcall_wire::topic::{MAX_FILTER_BYTES, MAX_FILTERS};

use super::check::check_filters;
use super::driver::{ConnectionPolicy, Driver};
use super::token::read_token;
use super::{Client, Error, Session};
use crate::machine::Settings;
use crate::socket::carrier;
use crate::socket::stream::CONNECT_TIMEOUT;

/// The options of a [`Client`].
///
/// [`Builder::connect`] and [`Builder::start`] report the first invalid option.
///
/// ```no_run
/// use std::time::Duration;
/// use upcall_client::{Client, Role};
///
/// let mut sensor = Client::builder("tcp://upcall-server")
///     .name("sensor")
///     .role(Role::SendOnly)
///     .timeout(Duration::from_secs(5))
///     .connect()?;
/// sensor.send(b"on")?;
/// # Ok::<(), upcall_client::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    address: Result<Address, Error>,
    settings: Result<Settings, Error>,
    policy: ConnectionPolicy,
}

impl Client {
    /// Connects to the daemon at a URL with the default options, and registers.
    ///
    /// # Errors
    ///
    /// The same as those of [`Builder::connect`].
    pub fn connect(url: &str) -> Result<Client, Error> {
        Client::builder(url).connect()
    }

    /// Creates the options of a client of the daemon at a URL. The same as [`Builder::new`].
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }
}

impl Builder {
    /// Creates the options of a client of the daemon at a URL: `tcp://host:port`, `udp://host:port`, `unix:///path` or
    /// `unix-datagram:///path`. `@name` in place of a path names an abstract socket. The default port is 4141.
    pub fn new(url: &str) -> Builder {
        let address = Address::parse_url(url, Some(DEFAULT_PORT)).map_err(|error| Error::Invalid(error.to_string()));
        Builder::at(address)
    }

    /// Creates the options of a client of the daemon at an address.
    pub fn to(address: &Address) -> Builder {
        Builder::at(Ok(address.clone()))
    }

    fn at(address: Result<Address, Error>) -> Builder {
        let settings = address.clone().map(|address| Settings::new(carrier(&address)));
        let policy = ConnectionPolicy {
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: Duration::from_secs(30),
            reconnect: Some((Duration::from_millis(500), Duration::from_secs(30))),
            retry_first: false,
        };
        Builder { address, settings, policy }
    }

    /// Changes the settings, unless an earlier option was invalid: only the first error is reported.
    fn set(mut self, change: impl FnOnce(&mut Settings) -> Result<(), Error>) -> Builder {
        self.settings = self.settings.and_then(|mut settings| change(&mut settings).map(|()| settings));
        self
    }

    /// Sets the endpoint's name in the daemon's log: 1 to 64 bytes without control characters.
    pub fn name(self, name: &str) -> Builder {
        self.set(|settings| {
            if !(1..=MAX_NAME).contains(&name.len()) || name.chars().any(char::is_control) {
                return Err(Error::Invalid("a name is 1 to 64 bytes long and has no control characters".into()));
            }
            settings.name = name.to_owned();
            Ok(())
        })
    }

    /// Sets the endpoint's role; [`Role::Both`] by default. A client that only sends should use [`Role::SendOnly`], so
    /// that the daemon sends it no upcalls.
    pub fn role(self, role: Role) -> Builder {
        self.set(|settings| {
            settings.role = role;
            Ok(())
        })
    }

    /// Adds a filter: a topic, or a prefix of topics followed by an asterisk. Without filters, the client receives
    /// everything. At most 64 filters are allowed, with 4096 bytes in total.
    pub fn filter(self, filter: &str) -> Builder {
        self.set(|settings| {
            check_filters(&[filter])?;
            settings.filters.push(filter.to_owned());
            let bytes: usize = settings.filters.iter().map(String::len).sum();
            if settings.filters.len() > MAX_FILTERS || bytes > MAX_FILTER_BYTES {
                let message =
                    format!("at most {MAX_FILTERS} filters are allowed, with {MAX_FILTER_BYTES} bytes in total");
                return Err(Error::Invalid(message));
            }
            Ok(())
        })
    }

    /// Sets the token that the listener requires: 1 to 1024 bytes.
    pub fn token(self, token: &[u8]) -> Builder {
        self.set(|settings| {
            if !(1..=MAX_TOKEN).contains(&token.len()) {
                return Err(Error::Invalid("a token is 1 to 1024 bytes long".into()));
            }
            settings.token = Some(token.to_vec());
            Ok(())
        })
    }

    /// Like [`Builder::token`], but reads the token from a file. See [`read_token`] for the file's format and
    /// permissions.
    pub fn token_file(self, path: &Path) -> Builder {
        match read_token(path) {
            Ok(token) => self.token(&token),
            Err(error) => self.set(|_| Err(error)),
        }
    }

    /// Requests the history from this sequence on; 0 requests everything that the daemon's log holds. The listener must
    /// allow it (`history = true`). This has no effect if a session is resumed.
    pub fn since(self, sequence: u64) -> Builder {
        self.set(|settings| {
            settings.since = Some(sequence);
            Ok(())
        })
    }

    /// Resumes a session. If the daemon no longer has it, a new session begins.
    pub fn resume(self, session: Session) -> Builder {
        self.set(|settings| {
            settings.resume = Some(session.0);
            Ok(())
        })
    }

    /// Sets the time limit for connecting and registering; 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.policy.connect_timeout = timeout;
        self
    }

    /// Sets the time limit of calls that wait for an answer and have no `timeout` parameter; 30 s by default. It
    /// includes the time for reconnecting.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.policy.call_timeout = timeout;
        self
    }

    /// Sets the interval of PINGs while nothing else happens: at least 1 ms; 30 s by default. Over datagrams, at least
    /// three PINGs are sent per lease.
    ///
    /// The interval also affects when the client gives up the daemon as unresponsive: over datagrams, when an answer
    /// has been due for 20 s or three intervals, whichever is shorter; on a stream, when a PING has had no answer for
    /// 60 s. The limit is longer on a stream because the daemon may hold inputs there although nothing is wrong.
    pub fn ping_interval(self, interval: Duration) -> Builder {
        self.set(|settings| {
            settings.ping_interval = interval.max(Duration::from_millis(1));
            Ok(())
        })
    }

    /// Sets the delays before attempts to reconnect. They are random: at most `base` before the first attempt, a
    /// maximum that doubles with each further attempt, and never more than `cap`. 500 ms and 30 s by default.
    pub fn reconnect(mut self, base: Duration, cap: Duration) -> Builder {
        self.policy.reconnect = Some((base, cap));
        self
    }

    /// Disables reconnecting: a lost connection ends the client.
    pub fn no_reconnect(mut self) -> Builder {
        self.policy.reconnect = None;
        self
    }

    /// Retries the first connection, too, within [`Builder::connect_timeout`]. Use this if the daemon may still be
    /// starting.
    pub fn retry_first_connect(mut self) -> Builder {
        self.policy.retry_first = true;
        self
    }

    /// Connects and registers. Blocks until the registration is complete.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an invalid option; otherwise the reason why the daemon cannot be reached or refuses the
    /// client.
    pub fn connect(self) -> Result<Client, Error> {
        Client::new(self.driver()?).register_blocking()
    }

    /// Creates a client without connecting. Call [`Client::register`] until it returns `true`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an invalid option; [`Error::Broken`] if the process has no file descriptors left.
    pub fn start(self) -> Result<Client, Error> {
        Ok(Client::new(self.driver()?))
    }

    fn driver(self) -> Result<Driver, Error> {
        Driver::new(self.address?, self.settings?, self.policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(builder: Builder) -> String {
        builder.settings.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_token_is_not_in_debug_output() {
        let builder = Builder::new("tcp://lab").name("sensor").token(b"secret");
        let shown = format!("{builder:?}");
        assert!(shown.contains("sensor") && !shown.contains("115") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn invalid_options_are_reported_without_connecting() {
        let builder = || Builder::new("tcp://lab");
        assert!(mistake(builder().name("a\n").name("b")).contains("name"));
        assert!(mistake(builder().filter("a\t")).contains("a\\t"));
        assert!(mistake(builder().token(b"")).contains("token"));
        assert!((0..65).fold(builder(), |builder, i| builder.filter(&format!("{i}"))).settings.is_err());
        assert!(matches!(Builder::new("tpc://x").connect(), Err(Error::Invalid(_))));
    }
}
