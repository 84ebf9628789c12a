//! The slices of one vectored write.

use std::io::IoSlice;

/// How many slices one write can hold: enough for many pages, few enough to live on the stack.
pub(crate) const MAX_SLICES: usize = 16;

/// Slices of the log for one vectored write.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; MAX_SLICES],
    count: usize,
}

impl<'a> Slices<'a> {
    pub(crate) fn new() -> Slices<'a> {
        Slices { slices: [IoSlice::new(&[]); MAX_SLICES], count: 0 }
    }

    /// Adds a slice. Returns whether there was room for it; an empty one needs none.
    pub(crate) fn push(&mut self, bytes: &'a [u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let Some(slot) = self.slices.get_mut(self.count) else { return false };
        *slot = IoSlice::new(bytes);
        self.count += 1;
        true
    }

    /// Bytes in all slices together.
    pub fn bytes(&self) -> usize {
        self.iter().map(|slice| slice.len()).sum()
    }
}

impl<'a> std::ops::Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}
