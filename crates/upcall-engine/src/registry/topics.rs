//! Who wants which topics: the filters of an endpoint, and the index that finds the endpoints an input is due to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use crate::registry::endpoint::EndpointId;
use upcall_wire::topic::{MAX_FILTER_BYTES, MAX_FILTERS, matches};

/// The filters of one endpoint; an input is due to it if it passes one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeSet<Box<str>>);

impl Filters {
    /// Adds filters; says whether there is room for all of them.
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

    /// Whether a topic passes; the bytes are those of one.
    pub(crate) fn match_bytes(&self, topic: &[u8]) -> bool {
        std::str::from_utf8(topic).is_ok_and(|topic| self.iter().any(|filter| matches(filter, topic)))
    }
}

/// Filters that were in force up to a sequence, which is not one of theirs; none: everything was due.
#[derive(Debug, Clone)]
pub(crate) struct EarlierFilters {
    pub(crate) until: u64,
    pub(crate) filters: Option<Rc<Filters>>,
}

/// The endpoints that have filters, by filter: an input costs those it is due to, and nobody else.
#[derive(Debug, Default)]
pub(crate) struct TopicIndex {
    exact: HashMap<Box<str>, BTreeSet<EndpointId>>,
    prefixes: HashMap<Box<str>, BTreeSet<EndpointId>>,
    /// How many prefixes there are of each length: only those are looked for.
    lengths: BTreeMap<usize, usize>,
}

impl TopicIndex {
    pub(crate) fn add(&mut self, id: EndpointId, filters: &Filters) {
        for filter in filters.iter() {
            match filter.strip_suffix('*') {
                None => drop(self.exact.entry(filter.into()).or_default().insert(id)),
                Some(prefix) => {
                    let endpoints = self.prefixes.entry(prefix.into()).or_default();
                    if endpoints.is_empty() {
                        *self.lengths.entry(prefix.len()).or_default() += 1;
                    }
                    endpoints.insert(id);
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, id: EndpointId, filters: &Filters) {
        for filter in filters.iter() {
            let (map, key) = match filter.strip_suffix('*') {
                None => (&mut self.exact, filter),
                Some(prefix) => (&mut self.prefixes, prefix),
            };
            let Some(endpoints) = map.get_mut(key) else { continue };
            endpoints.remove(&id);
            if endpoints.is_empty() {
                map.remove(key);
                if key.len() < filter.len()
                    && let Some(count) = self.lengths.get_mut(&key.len())
                {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&key.len());
                    }
                }
            }
        }
    }

    /// Adds the endpoints that want this topic to `due`, each once.
    pub(crate) fn find(&self, topic: &str, due: &mut Vec<EndpointId>) {
        let prefixes = self.lengths.keys().filter_map(|length| self.prefixes.get(topic.get(..*length)?));
        let mut sets = 0;
        for endpoints in self.exact.get(topic).into_iter().chain(prefixes) {
            due.extend(endpoints);
            sets += 1;
        }
        if sets > 1 {
            due.sort_unstable();
            due.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use slotmap::SlotMap;

    fn filters(of: &[String]) -> Filters {
        let mut filters = Filters::default();
        assert!(filters.add(of.iter().map(String::as_str)));
        filters
    }

    #[test]
    fn filters_are_bounded() {
        let mut many = Filters::default();
        assert!(many.add((0..MAX_FILTERS).map(|n| ["a", "b", "c", "d"][n % 4])));
        let names: Vec<String> = (0..=MAX_FILTERS).map(|n| n.to_string()).collect();
        assert!(!many.clone().add(names.iter().map(String::as_str)));
        assert!(!many.add((0..60).map(|n| "x".repeat(60 + n)).collect::<Vec<_>>().iter().map(String::as_str)));
    }

    proptest! {
        /// Whoever comes and goes, the index finds exactly those whose filters a topic passes.
        #[test]
        fn the_index_agrees_with_the_filters(
            endpoints in prop::collection::vec((prop::collection::vec("[ab]{0,3}\\*|[ab]{1,3}", 1..4), any::<bool>()), 1..12),
            topics in prop::collection::vec("[ab]{0,4}", 1..10),
        ) {
            let mut index = TopicIndex::default();
            let mut ids: SlotMap<EndpointId, (Filters, bool)> = SlotMap::with_key();
            for (list, stays) in &endpoints {
                let list = filters(list);
                let id = ids.insert((list.clone(), *stays));
                index.add(id, &list);
            }
            for (id, (list, stays)) in &ids {
                if !stays {
                    index.remove(id, list);
                }
            }
            for topic in &topics {
                let mut found = Vec::new();
                index.find(topic, &mut found);
                found.sort_unstable();
                let mut expected: Vec<EndpointId> = ids
                    .iter()
                    .filter(|(_, (list, stays))| *stays && list.match_bytes(topic.as_bytes()))
                    .map(|(id, _)| id)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
            for (id, (list, _)) in &ids {
                index.remove(id, list);
            }
            prop_assert!(index.exact.is_empty() && index.prefixes.is_empty() && index.lengths.is_empty());
        }
    }
}
