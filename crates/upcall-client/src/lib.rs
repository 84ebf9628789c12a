//! A client of upcalld, for programs that may block. No async runtime.
//!
//! A [`Client`] is a registered endpoint that speaks the native protocol (upcall-protocol(7)) over TCP, UDP, Unix stream or
//! Unix datagram sockets. It blocks, and needs no async runtime. Inputs are confirmed by receipts and sent once, whatever
//! happens to the connection; upcalls come in order, without duplicates, and what is missing is announced as a gap; a
//! connection that was lost is made again, and the session goes on where it was.
//!
//! Send, and hear:
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::Daemon::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcall_client::{Client, Item};
//!
//! // url is for example "tcp://127.0.0.1:4141"; insist: the daemon may only be starting.
//! let mut display = Client::builder(url).name("display").filter("door/*").insist().connect()?;
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
//! Keep a session, and go on with it in another process:
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::Daemon::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcall_client::{Client, Item, Session};
//!
//! let listener = Client::builder(url).insist().connect()?;
//! // Hanging up is no goodbye: the daemon keeps the session for a while.
//! let kept: String = listener.hang_up().map(|session| session.to_string()).unwrap_or_default();
//!
//! Client::connect(url)?.send(b"said meanwhile")?;
//!
//! let mut again = Client::builder(url).resume(kept.parse::<Session>()?).connect()?;
//! let item = again.next_timeout(Duration::from_secs(5))?;
//! assert!(matches!(item, Some(Item::Upcall(upcall)) if upcall.payload == b"said meanwhile"));
//! # Ok::<(), upcall_client::Error>(())
//! ```
//!
//! Listen for ever, and tell what is missing:
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::Daemon::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use upcall_client::{Client, Item};
//!
//! let mut listener = Client::builder(url).insist().connect()?;
//! # let mut other = Client::connect(url)?;
//! # for _ in 0..3 { other.send(b"stop")?; }
//! for item in &mut listener {
//!     match item? {
//!         Item::Upcall(upcall) if upcall.payload == b"stop" => break,
//!         Item::Upcall(upcall) => println!("{} bytes", upcall.payload.len()),
//!         Item::Gap(gap) => println!("{} to {} are missing", gap.first, gap.last),
//!         Item::Disconnected { error, retry_in } => println!("{error}; again in {retry_in:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), upcall_client::Error>(())
//! ```
//!
//! A client belongs to one thread at a time. To send and to hear in two threads, use two clients, one of them with
//! [`Role::SendOnly`]; to wait for other things as well, poll its descriptor (see [`Client`]).

#![forbid(unsafe_code)]

pub mod backoff;
mod builder;
mod calls;
mod client;
mod driver;
mod error;
mod item;
pub mod machine;
mod session;
pub mod socket;
mod wakeup;

pub use builder::{Builder, read_token};
pub use client::Client;
pub use error::Error;
pub use item::{Gap, InputId, Item, Receipt, Subscription};
pub use machine::{Loss, Upcall};
pub use session::Session;
pub use socket::owner::Foreign;
pub use upcall_wire::frame::{Code, Role};
