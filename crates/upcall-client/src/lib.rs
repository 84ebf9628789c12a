//! A blocking client of upcalld.
//!
//! upcalld keeps a registry of endpoints and sends each of them an *upcall* for every input that any of them sends. A
//! [`Client`] is such an endpoint. It uses the native protocol, upcall-protocol(7), over TCP, UDP, and Unix stream and
//! datagram sockets, and it needs no async runtime.
//!
//! - Inputs are confirmed by receipts. A lost connection or datagram does not lose or duplicate an input.
//! - Upcalls arrive in the same order at all endpoints, without duplicates. Missing ones are reported as a [`Gap`].
//! - After a lost connection, the client reconnects and the session continues where it was.
//!
//! # Sending and receiving
//!
//! Inputs may have a topic, and an endpoint may have filters, which select the topics that it receives. By default the
//! sender receives its own inputs as well (`deliver_to` in the daemon's configuration); receipts do not count it.
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::DaemonOptions::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcall_client::{Client, Item};
//!
//! // `url` is, for example, "tcp://127.0.0.1:4141". The daemon may still be starting, so retry.
//! let mut display = Client::builder(url).name("display").filter("door/*").retry_first_connect().connect()?;
//! let mut sensor = Client::connect(url)?;
//!
//! let receipt = sensor.send_on("door/front", b"open")?;
//! assert_eq!(receipt.receivers, 1);
//!
//! match display.next_timeout(Duration::from_secs(5))? {
//!     Some(Item::Upcall(upcall)) => {
//!         assert_eq!((upcall.topic.as_str(), upcall.payload.as_slice()), ("door/front", &b"open"[..]));
//!         assert_eq!(upcall.sequence, receipt.sequence);
//!     }
//!     other => panic!("{other:?}"),
//! }
//! sensor.close(Duration::from_secs(1))?;
//! # Ok::<(), upcall_client::Error>(())
//! ```
//!
//! # Losses
//!
//! A client is an iterator of [`Item`]s, which also report lost connections and missing upcalls. It reconnects by
//! itself.
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::DaemonOptions::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use upcall_client::{Client, Item};
//!
//! let mut listener = Client::builder(url).retry_first_connect().connect()?;
//! # let mut other = Client::connect(url)?;
//! # for _ in 0..3 { other.send(b"stop")?; }
//! for item in &mut listener {
//!     match item? {
//!         Item::Upcall(upcall) if upcall.payload == b"stop" => break,
//!         Item::Upcall(upcall) => println!("{} bytes", upcall.payload.len()),
//!         Item::Gap(gap) => println!("{} to {} are missing", gap.first, gap.last),
//!         Item::Disconnected { error, retry_in } => println!("{error}; retrying in {retry_in:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), upcall_client::Error>(())
//! ```
//!
//! # Sending without waiting
//!
//! [`Client::submit`] does not wait for the receipt. Up to 64 inputs can be without a receipt at a time. Their results
//! arrive as items, and [`Client::flush`] waits for all of them.
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::DaemonOptions::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcall_client::{Client, Item, Role};
//!
//! let mut sensor = Client::builder(url).role(Role::SendOnly).retry_first_connect().connect()?;
//! for reading in 0..1000 {
//!     sensor.submit("temperature", reading.to_string().as_bytes())?;
//! }
//! sensor.flush(Duration::from_secs(5))?;
//!
//! let mut confirmed = 0;
//! while let Some(item) = sensor.try_next()? {
//!     if let Item::SendResult { result: Ok(_), .. } = item {
//!         confirmed += 1;
//!     }
//! }
//! assert_eq!(confirmed, 1000);
//! # Ok::<(), upcall_client::Error>(())
//! ```
//!
//! # Sessions
//!
//! The daemon keeps the session of a lost connection for a while. Another process can resume it, and receives what was
//! sent in between.
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::DaemonOptions::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcall_client::{Client, Item, Session};
//!
//! let listener = Client::builder(url).retry_first_connect().connect()?;
//! // Detaching closes the connection and keeps the session. Its text is a secret.
//! let saved: String = listener.detach().expect("the client is registered").to_string();
//!
//! Client::connect(url)?.send(b"sent in between")?;
//!
//! let mut resumed = Client::builder(url).resume(saved.parse::<Session>()?).connect()?;
//! let item = resumed.next_timeout(Duration::from_secs(5))?;
//! assert!(matches!(item, Some(Item::Upcall(upcall)) if upcall.payload == b"sent in between"));
//! # Ok::<(), upcall_client::Error>(())
//! ```
//!
//! # Threads and event loops
//!
//! A client belongs to one thread at a time. To send and receive in two threads, use two clients, and give the sending
//! one [`Role::SendOnly`]. To wait for other things as well, poll the client's descriptor; see [`Client`].
//!
//! # Stability
//!
//! The stable interface is [`Client`], [`Builder`], and the types that they use. The modules below are lower-level:
//! they are public for programs that have their own event loop or implement another protocol, and may change between
//! minor versions.
//!
//! The library never prints, and never exits the process. Every error is an [`Error`].

#![forbid(unsafe_code)]

pub mod backoff;
mod builder;
mod calls;
mod check;
mod client;
mod driver;
mod error;
mod item;
pub mod machine;
mod session;
pub mod socket;
mod token;
mod wakeup;

pub use builder::Builder;
pub use client::Client;
pub use error::Error;
pub use item::{Gap, Item, Receipt, Subscription};
pub use machine::{InputId, Loss, Upcall};
pub use session::Session;
pub use socket::owner::ForeignSender;
pub use token::read_token;
#[doc(inline)]
pub use upcall_wire::{
    address::Address,
    frame::{Code, Role},
};
