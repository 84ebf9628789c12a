//! Topic filters: which inputs an endpoint subscribes to.

use std::collections::BTreeSet;
use std::rc::Rc;

use upcall_wire::topic::{MAX_FILTER_BYTES, MAX_FILTERS, matches};

/// The filters of one endpoint. An input is due to it if one of them matches the topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FilterSet(BTreeSet<Box<str>>);

impl FilterSet {
    /// Adds filters. Returns whether all of them are within the limits.
    pub(crate) fn add<'a>(&mut self, filters: impl Iterator<Item = &'a str>) -> bool {
        self.0.extend(filters.map(Box::from));
        self.0.len() <= MAX_FILTERS && self.iter().map(str::len).sum::<usize>() <= MAX_FILTER_BYTES
    }

    pub(crate) fn remove<'a>(&mut self, filters: impl Iterator<Item = &'a str>) {
        for filter in filters {
            self.0.remove(filter);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether one of them matches a topic, given as the bytes of a frame.
    pub(crate) fn match_bytes(&self, topic: &[u8]) -> bool {
        std::str::from_utf8(topic).is_ok_and(|topic| self.iter().any(|filter| matches(filter, topic)))
    }
}

/// Filters that were in force before sequence `until`. `None`: everything was due.
#[derive(Debug, Clone)]
pub(crate) struct EarlierFilters {
    pub(crate) until: u64,
    pub(crate) filters: Option<Rc<FilterSet>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_bounded() {
        let mut many = FilterSet::default();
        assert!(many.add((0..MAX_FILTERS).map(|n| ["a", "b", "c", "d"][n % 4])));
        let names: Vec<String> = (0..=MAX_FILTERS).map(|n| n.to_string()).collect();
        assert!(!many.clone().add(names.iter().map(String::as_str)));
        assert!(!many.add((0..60).map(|n| "x".repeat(60 + n)).collect::<Vec<_>>().iter().map(String::as_str)));
    }
}
