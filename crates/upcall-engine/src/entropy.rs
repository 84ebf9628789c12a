//! Where secrets and keys come from: the system in a daemon, a seed in a simulation.

use std::fmt;

/// A source of random numbers.
pub struct Entropy(Box<dyn FnMut() -> u64>);

impl Entropy {
    /// Numbers from this function. In a daemon they are secrets: nobody may be able to guess them.
    pub fn new(next: impl FnMut() -> u64 + 'static) -> Entropy {
        Entropy(Box::new(next))
    }

    /// The same numbers for the same seed, as a simulation needs them: no secrets.
    pub fn seeded(seed: u64) -> Entropy {
        let mut random = fastrand::Rng::with_seed(seed);
        Entropy::new(move || random.u64(..))
    }

    pub(crate) fn next(&mut self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
