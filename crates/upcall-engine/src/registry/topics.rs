//! The index of filters: finds the endpoints that an input on a topic is due to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::id::EndpointId;
use crate::log::filters::FilterSet;

/// The endpoints that have filters, by filter. The cost of an input depends only on the endpoints that it is due to.
#[derive(Debug, Default)]
pub(crate) struct TopicIndex {
    exact: HashMap<Box<str>, BTreeSet<EndpointId>>,
    prefixes: HashMap<Box<str>, BTreeSet<EndpointId>>,
    /// How many prefixes there are of each length. Only lengths that occur are looked up.
    lengths: BTreeMap<usize, usize>,
}

impl TopicIndex {
    pub(crate) fn add(&mut self, id: EndpointId, filters: &FilterSet) {
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

    pub(crate) fn remove(&mut self, id: EndpointId, filters: &FilterSet) {
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

    /// Adds the endpoints with a filter that matches this topic to `due`, each once.
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
    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;

    fn filters(of: &[String]) -> FilterSet {
        let mut filters = FilterSet::default();
        assert!(filters.add(of.iter().map(String::as_str)));
        filters
    }

    proptest! {
        /// Whichever endpoints register and leave, the index finds exactly those with a filter that matches.
        #[test]
        fn the_index_agrees_with_the_filters(
            endpoints in prop::collection::vec((prop::collection::vec("[ab]{0,3}\\*|[ab]{1,3}", 1..4), any::<bool>()), 1..12),
            topics in prop::collection::vec("[ab]{0,4}", 1..10),
        ) {
            let mut index = TopicIndex::default();
            let mut ids: SlotMap<EndpointId, (FilterSet, bool)> = SlotMap::with_key();
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
