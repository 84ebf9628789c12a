//! A connection to the daemon, with a deadline on everything.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, retry};

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to a URL of the daemon's log.
    pub(crate) fn connect(url: &str) -> Stream {
        Stream::try_connect(url).unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
    }

    pub(crate) fn try_connect(url: &str) -> io::Result<Stream> {
        let (transport, place) = url.split_once("://").expect("a URL");
        let stream = match (transport, place.strip_prefix('@')) {
            ("tcp", _) => {
                let stream = TcpStream::connect_timeout(&place.parse().expect("a literal address"), DEADLINE)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            (_, Some(name)) => {
                let address = UnixAddr::from_abstract_name(name)?;
                Stream::Unix(retry(|| UnixStream::connect_addr(&address))?)
            }
            (_, None) => Stream::Unix(retry(|| UnixStream::connect(place))?),
        };
        stream.with_deadlines()
    }

    /// Connects over TCP from the given source address.
    pub(crate) fn connect_from(source: &str, url: &str) -> Stream {
        let source: IpAddr = source.parse().expect("an address");
        Stream::connect_with(url, |socket| socket.bind(&SocketAddr::new(source, 0).into()))
    }

    /// Connects over TCP with a small receive buffer, which fills soon if the test does not read.
    pub(crate) fn connect_narrow(url: &str) -> Stream {
        Stream::connect_with(url, |socket| socket.set_recv_buffer_size(4096))
    }

    fn connect_with(url: &str, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> Stream {
        let target: SocketAddr = url.strip_prefix("tcp://").and_then(|place| place.parse().ok()).expect("a TCP URL");
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).expect("a socket");
        prepare(&socket).expect("the socket takes it");
        socket.connect_timeout(&target.into(), DEADLINE).expect("the daemon listens");
        Stream::Tcp(socket.into()).with_deadlines().expect("timeouts can be set")
    }

    fn with_deadlines(self) -> io::Result<Stream> {
        self.socket().set_read_timeout(Some(DEADLINE))?;
        self.socket().set_write_timeout(Some(DEADLINE))?;
        Ok(self)
    }

    /// Another handle of the same connection, for another thread.
    pub(crate) fn again(&self) -> Stream {
        match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().expect("a descriptor")),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().expect("a descriptor")),
        }
    }

    pub(crate) fn socket(&self) -> SockRef<'_> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
        }
    }

    /// Our own address on TCP, as the daemon sees it.
    pub(crate) fn local(&self) -> SocketAddr {
        self.socket().local_addr().ok().and_then(|address| address.as_socket()).expect("a TCP address")
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let mut stream = self;
        stream.write_all(bytes.as_ref()).expect("the daemon reads");
    }

    /// Shuts the sending side down.
    pub(crate) fn finish(&self) {
        self.socket().shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Closes with a reset instead of an orderly end.
    pub(crate) fn reset(self) {
        self.socket().set_linger(Some(Duration::ZERO)).expect("the option exists");
    }

    pub(crate) fn read_exactly(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let (mut filled, until) = (0, Instant::now() + DEADLINE);
        let mut stream = self;
        while filled < count {
            assert!(Instant::now() < until, "only {filled} of {count} bytes came in time");
            match stream.read(&mut bytes[filled..]) {
                Ok(0) => panic!("the stream ended behind \"{}\"", bytes[..filled].escape_ascii()),
                Ok(read) => filled += read,
                Err(error) => panic!("{error} behind \"{}\"", bytes[..filled].escape_ascii()),
            }
        }
        bytes
    }

    pub(crate) fn read_until_eof(&self) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        let until = Instant::now() + DEADLINE;
        let mut stream = self;
        loop {
            assert!(Instant::now() < until, "the stream does not end; it has {} bytes so far", bytes.len());
            match stream.read(&mut buffer) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("{error} behind {} bytes", bytes.len()),
            }
        }
    }

    /// The next bytes are these.
    #[track_caller]
    pub(crate) fn expect(&self, bytes: impl AsRef<[u8]>) {
        let came = self.read_exactly(bytes.as_ref().len());
        assert_eq!(came.escape_ascii().to_string(), bytes.as_ref().escape_ascii().to_string());
    }

    /// The rest of the stream is this.
    #[track_caller]
    pub(crate) fn expect_rest(&self, bytes: impl AsRef<[u8]>) {
        let came = self.read_until_eof();
        assert_eq!(came.escape_ascii().to_string(), bytes.as_ref().escape_ascii().to_string());
    }

    #[track_caller]
    pub(crate) fn expect_eof(&self) {
        self.expect_rest(b"");
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        })
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
