//! Numbers of things in log lines.

use std::fmt;

/// `1 input`, `2 inputs`.
pub(in crate::daemon) struct Count<N>(pub(in crate::daemon) N, pub(in crate::daemon) &'static str);

impl<N: Copy + TryInto<u64>> fmt::Display for Count<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(number, thing) = *self;
        let number = number.try_into().unwrap_or(u64::MAX);
        write!(f, "{number} {thing}{}", if number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_thing_is_singular() {
        let counts = [0u64, 1, 2].map(|number| Count(number, "input").to_string());
        assert_eq!(counts, ["0 inputs", "1 input", "2 inputs"]);
    }
}
