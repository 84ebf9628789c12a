//! How a listener is bound, apart from its address.

/// Options of a bound socket. Those that do not apply to its transport are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binding {
    /// An IPv6 wildcard listener accepts IPv4 clients too.
    pub dual_stack: bool,
    /// File mode of a Unix socket.
    pub mode: u32,
    /// Group of a Unix socket's file, a gid; `None`: the group of the process.
    pub group: Option<u32>,
}
