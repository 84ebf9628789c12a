//! Reads tables field by field, so that one wrong value does not hide the next. Knows TOML, but not the meaning of
//! keys.

use toml::de::{DeTable, DeValue};

use super::mistake::Report;
use super::values::ValueKind;
use super::words::{did_you_mean, nearest};

/// The value of a key, if there is one.
pub(super) enum Field<T> {
    /// The key is missing.
    Absent,
    /// The value is wrong. That has been reported, so nothing may be concluded from the value.
    Wrong,
    /// A valid value.
    Given {
        /// Offset of the value.
        at: usize,
        /// The value.
        value: T,
    },
}

impl<T> Field<T> {
    /// Whether the value is wrong.
    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Field::Wrong)
    }

    /// The offset of the value, if there is a valid one.
    pub(super) fn at(&self) -> Option<usize> {
        match self {
            Field::Given { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// The value, if there is a valid one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Field::Given { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Replaces the default with the value, if there is a valid one.
    pub(super) fn set(self, target: &mut T) {
        if let Field::Given { value, .. } = self {
            *target = value;
        }
    }

    /// The field without its value.
    pub(super) fn mark(&self) -> Field<()> {
        match self {
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
            Field::Given { at, .. } => Field::Given { at: *at, value: () },
        }
    }

    /// Applies a further step to the value, and reports the step's error.
    pub(super) fn then<U>(self, report: &mut Report<'_>, step: impl FnOnce(T) -> Result<U, String>) -> Field<U> {
        match self {
            Field::Absent => Field::Absent,
            Field::Wrong => Field::Wrong,
            Field::Given { at, value } => Field::new(at, step(value), report),
        }
    }

    fn new(at: usize, read: Result<T, String>, report: &mut Report<'_>) -> Field<T> {
        match read {
            Ok(value) => Field::Given { at, value },
            Err(reason) => {
                report.wrong(at, reason);
                Field::Wrong
            }
        }
    }
}

/// A table whose keys are known.
pub(super) struct Section<'t> {
    table: Option<&'t DeTable<'t>>,
    /// Known keys that a misspelt one was probably meant to be; they do not count as missing.
    misspelt: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// A missing table.
    pub(super) const ABSENT: Section<'static> = Section { table: None, misspelt: Vec::new() };

    /// Makes a section, and reports the table's unknown keys. `elsewhere` returns the table that a key belongs to.
    pub(super) fn new(
        name: &str,
        table: &'t DeTable<'t>,
        keys: &'static [&'static str],
        elsewhere: impl Fn(&str) -> Option<String>,
        report: &mut Report<'_>,
    ) -> Section<'t> {
        let mut misspelt = Vec::new();
        for key in table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())) {
            let word = key.get_ref().as_ref();
            let near = nearest(word, keys.iter().copied());
            let advice = match elsewhere(word) {
                Some(other) => format!("it belongs in {other}"),
                None if near.is_some() || keys.len() <= 6 => did_you_mean(word, keys.iter().copied()),
                None => "`upcalld --print-config` shows all keys".into(),
            };
            misspelt.extend(near);
            let place = if name.is_empty() { String::new() } else { format!(" in {name}") };
            report.wrong(key.span().start, format!("unknown key \"{word}\"{place}; {advice}"));
        }
        Section { table: Some(table), misspelt }
    }

    /// The offset of a key, if it is in the table.
    pub(super) fn key_at(&self, key: &str) -> Option<usize> {
        self.table?.get_key_value(key).map(|(key, _)| key.span().start)
    }

    /// Reads the value of a key.
    pub(super) fn field<T>(&self, key: &str, kind: &ValueKind<T>, report: &mut Report<'_>) -> Field<T> {
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return self.missing(key) };
        let read = (kind.read)(value.get_ref()).unwrap_or_else(|| {
            let (takes, found) = (kind.takes, type_name(value.get_ref()));
            Err(format!("\"{key}\" takes {takes}, not {found}; write for example {key} = {}", kind.example))
        });
        Field::new(value.span().start, read, report)
    }

    /// Reads a list of values; every wrong one is reported.
    pub(super) fn list<T>(&self, key: &str, kind: &ValueKind<T>, report: &mut Report<'_>) -> Field<Vec<T>> {
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return self.missing(key) };
        let at = value.span().start;
        let misfit = |found| {
            let (takes, example) = (kind.takes, &kind.example);
            format!("\"{key}\" takes a list of {takes}, {found}; write for example {key} = [{example}]")
        };
        let Some(array) = value.get_ref().as_array() else {
            return Field::new(at, Err(misfit(format!("not {}", type_name(value.get_ref())))), report);
        };
        let read: Vec<Field<T>> = (array.iter())
            .map(|element| {
                let found = type_name(element.get_ref());
                let read = (kind.read)(element.get_ref());
                let read = read.unwrap_or_else(|| Err(misfit(format!("but this is {found}"))));
                Field::new(element.span().start, read, report)
            })
            .collect();
        if read.iter().any(Field::is_wrong) {
            return Field::Wrong;
        }
        Field::Given { at, value: read.into_iter().filter_map(Field::value).collect() }
    }

    fn missing<T>(&self, key: &str) -> Field<T> {
        if self.misspelt.contains(&key) { Field::Wrong } else { Field::Absent }
    }
}

/// A TOML type in words, with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
