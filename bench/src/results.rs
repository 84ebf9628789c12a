//! What all rounds have measured, and what follows from it: medians, and ratios to the floor of the same round.

use crate::contestants::{Contestant, Protocol};
use crate::measure::Figures;
use crate::workloads::Work;

/// Everything of one run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// How many builds of upcalld there are.
    pub(crate) builds: usize,
    /// A work each.
    pub(crate) works: Vec<Done>,
    /// What was lost, out of order, or did not run.
    pub(crate) errors: Vec<String>,
    /// Whether one of these is not a peer's, but ours.
    pub(crate) failed: bool,
}

/// A work that was done.
#[derive(Debug)]
pub(crate) struct Done {
    /// Which.
    pub(crate) work: Work,
    /// Who took part.
    pub(crate) rows: Vec<Row>,
}

/// A contestant in a work.
#[derive(Debug)]
pub(crate) struct Row {
    /// Who.
    pub(crate) who: Contestant,
    /// Why it did not take part, if it did not.
    pub(crate) left_out: Option<String>,
    /// What each round has measured; nothing for a round that failed.
    pub(crate) rounds: Vec<Option<Figures>>,
}

/// A median, and the smallest and largest it is of.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of these; nothing of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Some(Spread { median, least, most })
    }
}

impl Row {
    /// A figure over all rounds.
    pub(crate) fn spread(&self, figure: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().flatten().filter_map(|figures| figures.get(figure)).copied().collect())
    }

    /// The protocol that is spoken, for upcalld.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        match self.who {
            Contestant::Upcalld { protocol, .. } => Some(protocol),
            _ => None,
        }
    }
}

impl Done {
    /// A figure as a multiple of the other's in the same round.
    pub(crate) fn ratio(&self, row: &Row, to: Contestant, figure: &str) -> Option<Spread> {
        let other = self.rows.iter().find(|row| row.who == to)?;
        let pairs = row.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(a, b)| Some(a.as_ref()?.get(figure)? / b.as_ref()?.get(figure)?)).collect())
    }

    /// A figure as a multiple of the floor's in the same round.
    pub(crate) fn times_floor(&self, row: &Row, figure: &str) -> Option<Spread> {
        self.ratio(row, Contestant::Floor, figure)
    }
}

impl Results {
    /// A work by its name.
    pub(crate) fn work(&self, name: &str) -> Option<&Done> {
        self.works.iter().find(|done| done.work.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of(vec![f64::NAN]), None);
    }
}
