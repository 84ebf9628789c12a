//! The listeners of `--listen`, which replace those of the file. The rules are the same; the messages name options
//! instead of keys.

use upcall_wire::address::Address;

use super::mistake::{Mistake, Mistakes, Place};
use super::types::{Config, ListenerConfig, MAX_LISTENERS};
use super::validate::{bindable, collision, default_name, exposed};

impl Config {
    /// Replaces the configured listeners with those of `--listen`, if there are any. `open` permits clients of other
    /// machines.
    pub fn with_listeners(mut self, addresses: Vec<Address>, open: bool) -> Result<Config, Mistakes> {
        if addresses.is_empty() {
            return Ok(self);
        }
        let mut mistakes = Vec::new();
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        for (index, address) in addresses.into_iter().enumerate() {
            let place = Place::Option(format!("--listen {address}"));
            match listener(address, index, open, &listeners) {
                Ok(listener) => listeners.push(listener),
                Err(reasons) => mistakes.extend(reasons.iter().map(|reason| Mistake::new(place.clone(), reason))),
            }
        }
        self.listeners = listeners;
        Mistakes::some(mistakes).map_or(Ok(self), Err)
    }
}

fn listener(
    address: Address,
    index: usize,
    open: bool,
    others: &[ListenerConfig],
) -> Result<ListenerConfig, Vec<String>> {
    let address = bindable(address).map_err(|reason| vec![reason])?;
    let mut listener = ListenerConfig::new(default_name(&address, index, |_| false), address);
    listener.open = open;
    let exposure =
        "can be reached from other machines; add --open to admit every client, or write a configuration file";
    let too_many = format!("there can be at most {MAX_LISTENERS} listeners");
    let reasons: Vec<String> = [
        exposed(&listener).map(|_| exposure.to_string()),
        collision(&listener, others),
        (index >= MAX_LISTENERS).then_some(too_many),
    ]
    .into_iter()
    .flatten()
    .collect();
    if reasons.is_empty() { Ok(listener) } else { Err(reasons) }
}
