//! The floors: the least that a program can do to give every peer what one of them sent, with no protocol, registry or limits.
//! What upcalld costs is a multiple of what these cost.

pub(crate) mod datagram;
pub(crate) mod stream;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a floor listens.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// Listen on TCP.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// Listen on a Unix stream socket at this path.
    #[arg(long)]
    unix: Option<PathBuf>,
    /// Take UDP.
    #[arg(long)]
    udp: Option<SocketAddr>,
    /// Take Unix datagrams at this path.
    #[arg(long)]
    unix_datagram: Option<PathBuf>,
}

/// Says on standard output that the socket is bound: who has started us waits for it.
fn ready() -> io::Result<()> {
    let mut output = io::stdout();
    output.write_all(b"ready\n")?;
    output.flush()
}

/// Serves until it is killed.
pub(crate) fn run(place: &Place) -> io::Result<()> {
    if let Some(path) = place.unix.as_ref().or(place.unix_datagram.as_ref()) {
        let _ = fs::remove_file(path);
    }
    match place {
        Place { tcp: Some(address), .. } => stream::tcp(*address),
        Place { unix: Some(path), .. } => stream::unix(path),
        Place { udp: Some(address), .. } => datagram::udp(*address),
        Place { unix_datagram: Some(path), .. } => datagram::unix(path),
        _ => Err(io::Error::other("a floor needs a place")),
    }
}
