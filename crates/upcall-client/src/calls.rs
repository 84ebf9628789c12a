//! Calls of a [`Client`] that wait for their answer, and keep whatever else comes meanwhile.

use std::time::Instant;

use super::Error;
use super::client::{Client, MAX_BYTES, MAX_ITEMS};
use super::driver::News;
use super::item::{Item, Subscription};
use crate::machine::Event;

impl Client {
    pub(super) fn until(&self) -> Option<Instant> {
        Instant::now().checked_add(self.driver.policy.timeout)
    }

    pub(super) fn turn(&mut self, until: Option<Instant>, what: &str) -> Result<(), Error> {
        if until.is_some_and(|until| until <= Instant::now()) {
            let place = self.driver.place();
            return Err(Error::TimedOut(format!("{what} did not come from {place} within the time allowed")));
        }
        if self.items.len() >= MAX_ITEMS || self.bytes >= MAX_BYTES {
            return Err(Error::Overflow);
        }
        self.driver.turn(until);
        self.hear();
        Ok(())
    }

    pub(super) fn await_answer<T>(
        &mut self,
        mut seen: usize,
        what: &str,
        answer: impl Fn(&Item) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let until = self.until();
        loop {
            while let Some(item) = self.items.get(seen) {
                if let Some(result) = answer(item) {
                    self.items.remove(seen);
                    return result;
                }
                seen += 1;
            }
            if self.ended {
                return Err(self.end.clone().unwrap_or(Error::Closed));
            }
            self.turn(until, what)?;
        }
    }

    pub(super) fn await_subscription(&mut self, request: u64) -> Result<Subscription, Error> {
        let until = self.until();
        self.await_event(until, "an answer", |event| match event {
            Event::Subscribed { request: of, from, everything, filters } if *of == request => {
                Some(Ok(Subscription { from: *from, everything: *everything, filters: filters.clone() }))
            }
            Event::NotSubscribed { request: of, code, text } if *of == request => {
                Some(Err(Error::refused(*code, text)))
            }
            _ => None,
        })
    }

    pub(super) fn await_event<T>(
        &mut self,
        until: Option<Instant>,
        what: &str,
        answer: impl Fn(&Event) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut found = None;
        self.driver.work();
        loop {
            while let Some(news) = self.driver.news() {
                if let News::Event(event) = &news {
                    found = found.or_else(|| answer(event));
                }
                self.note(news);
            }
            if let Some(result) = found {
                return result;
            }
            if self.ended {
                return Err(self.end.clone().unwrap_or(Error::Closed));
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                let place = self.driver.place();
                return Err(Error::TimedOut(format!("{what} did not come from {place} within the time allowed")));
            }
            self.driver.turn(until);
        }
    }
}
