//! The client library: a registered endpoint, for programs that may block. No async runtime.

mod bell;
mod builder;
mod calls;
mod client;
mod driver;
mod error;
mod item;
mod session;
mod way;

pub use builder::Builder;
pub(super) use builder::read_token;
pub use client::Client;
pub use error::Error;
pub use item::{Gap, InputId, Item, Receipt, Subscription};
pub use session::Session;

pub use crate::client::machine::{Loss, Upcall};
pub use crate::wire::frame::{Code, Role};
