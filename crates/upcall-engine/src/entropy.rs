//! The source of secrets and keys: the operating system in a daemon, a seed in a simulation.

use std::fmt;

/// A source of random numbers.
pub struct Entropy(Box<dyn FnMut() -> u64>);

impl Entropy {
    /// Takes the numbers from `next`. In a daemon they are secrets, so they must be unpredictable.
    pub fn new(next: impl FnMut() -> u64 + 'static) -> Entropy {
        Entropy(Box::new(next))
    }

    /// Gives the same numbers for the same seed, as a simulation needs. The numbers are not secret.
    pub fn seeded(seed: u64) -> Entropy {
        let mut random = fastrand::Rng::with_seed(seed);
        Entropy::new(move || random.u64(..))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
