//! The floors: the minimum work to send to every peer what one of them sent, without a protocol, a registry or limits.
//! The cost of upcalld is reported as a multiple of theirs.

pub(crate) mod datagram;
mod ready;
pub(crate) mod stream;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a floor listens.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct FloorAddress {
    /// Listen on TCP.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// Listen on a Unix stream socket at this path.
    #[arg(long)]
    unix: Option<PathBuf>,
    /// Receive on UDP.
    #[arg(long)]
    udp: Option<SocketAddr>,
    /// Receive on a Unix datagram socket at this path.
    #[arg(long)]
    unix_datagram: Option<PathBuf>,
}

/// Serves until it is killed.
pub(crate) fn run(address: &FloorAddress) -> io::Result<()> {
    if let Some(path) = address.unix.as_ref().or(address.unix_datagram.as_ref()) {
        let _ = fs::remove_file(path);
    }
    match address {
        FloorAddress { tcp: Some(address), .. } => stream::tcp(*address),
        FloorAddress { unix: Some(path), .. } => stream::unix(path),
        FloorAddress { udp: Some(address), .. } => datagram::udp(*address),
        FloorAddress { unix_datagram: Some(path), .. } => datagram::unix(path),
        _ => Err(io::Error::other("a floor needs an address")),
    }
}
