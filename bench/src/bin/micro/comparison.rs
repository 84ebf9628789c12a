//! Compares counts with the baseline: which case costs more than before, and which cost grows with the number of
//! endpoints.

use std::fmt;

use crate::baseline::Baseline;
use crate::callgrind::Counts;
use crate::cases::Case;

/// A case fails if it costs more than the baseline by this factor. If it costs less by this factor, an update is
/// suggested. Two runs of one build differ by at most a thousandth, because of the seeds of hash tables.
const TOLERANCE: f64 = 1.03;

/// The factor where the baseline was made with another compiler, C library or processor, which may change the counts.
/// Work that is done twice is still detected.
const TOLERANCE_ELSEWHERE: f64 = 2.0;

/// One unit may cost more by this factor with ten times as many endpoints: a tree of deadlines is a level or two
/// higher.
const MAX_GROWTH: f64 = 1.25;

/// The hint that follows failures.
const UPDATE_HINT: &str = "to accept these counts: \
                     cargo run --release --locked --manifest-path bench/Cargo.toml --bin micro -- --update";

/// The result of one run.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    lines: Vec<String>,
    findings: Vec<String>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Comparison {
    /// Compares counts with the baseline.
    pub(crate) fn of(baseline: &Baseline, machine: &str, cases: &[Case], counts: &Counts) -> Comparison {
        let mut comparison = Comparison::default();
        let same = baseline.machine == machine;
        if !same {
            comparison.line(format_args!("stored: {}\nhere:   {machine}", baseline.machine));
        }
        let mut previous: Option<(&Case, f64)> = None;
        for case in cases {
            let name = case.name();
            let Some(&count) = counts.get(&name) else {
                comparison.fail(format_args!("{name}: not counted"));
                continue;
            };
            match baseline.instructions.get(&name) {
                Some(&before) => comparison.compare(case, count, before, same),
                None => comparison.fail(format_args!("{name}: no count for it in {}", crate::baseline::FILE)),
            }
            if let Some((few, of_few)) = previous.filter(|(few, _)| few.what == case.what) {
                comparison.compare_growth(few, of_few, case, count);
            }
            previous = Some((case, count));
        }
        comparison
    }

    fn compare(&mut self, case: &Case, count: f64, before: f64, same: bool) {
        let (name, unit, change) = (case.name(), case.unit, (count / before - 1.0) * 100.0);
        self.line(format_args!("{count:10.1} {:22} {name} ({change:+.1} %)", format!("instructions/{unit}")));
        let limit = if same { TOLERANCE } else { TOLERANCE_ELSEWHERE };
        if count > before * limit {
            let file = crate::baseline::FILE;
            let text = "instructions for each";
            self.fail(format_args!(
                "{name}: {count:.1} {text} {unit}, {change:+.1} % over the {before:.1} in {file}; the limit is {:.0} %",
                (limit - 1.0) * 100.0
            ));
        } else if !same {
            self.skipped += 1;
            self.findings.push(format!(
                "SKIPPED {name}: stored on another machine, so it was only checked that the count is not doubled"
            ));
        } else {
            self.passed += 1;
            if count * TOLERANCE < before {
                self.findings.push(format!("LESS {name}: {change:+.1} %; --update stores the lower count"));
            }
        }
    }

    /// Compares a case with the same case with fewer endpoints.
    fn compare_growth(&mut self, few: &Case, of_few: f64, case: &Case, of_many: f64) {
        let (growth, unit) = (of_many / of_few, case.unit);
        if growth > MAX_GROWTH {
            let (few, many) = (few.endpoints.unwrap_or(0), case.endpoints.unwrap_or(0));
            self.fail(format_args!(
                "{}: each {unit} costs {growth:.2} times as much with {many} endpoints as with {few}; \
                 the limit is {MAX_GROWTH}",
                case.what
            ));
        } else {
            self.passed += 1;
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(line.to_string());
    }

    fn fail(&mut self, finding: fmt::Arguments<'_>) {
        self.failed += 1;
        self.findings.push(format!("FAILED {finding}"));
    }

    /// Prints the result, with the totals at the end. Returns whether no case has failed.
    pub(crate) fn print(&self) -> bool {
        self.lines.iter().chain(&self.findings).for_each(|line| println!("{line}"));
        if self.failed > 0 {
            println!("{UPDATE_HINT}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        self.failed == 0
    }
}

/// Prints the result without valgrind, which counts nothing: a failure under CI, where everything must be installed.
pub(crate) fn without_valgrind(cases: usize) -> bool {
    let required = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    println!(
        "{} micro-benchmarks: valgrind is not installed (apt install valgrind)",
        if required { "FAILED" } else { "SKIPPED" }
    );
    let (failed, skipped) = if required { (cases, 0) } else { (0, cases) };
    println!("0 passed, {failed} failed, {skipped} skipped");
    !required
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result where `stored` and `counted` are the counts of the first two cases that differ only in endpoints.
    fn compare(stored: [f64; 2], counted: [f64; 2], machine: &str) -> Comparison {
        let cases: Vec<Case> =
            crate::cases::all().into_iter().filter(|case| case.endpoints.is_some()).take(2).collect();
        let counts = |of: [f64; 2]| cases.iter().map(Case::name).zip(of).collect();
        let baseline = Baseline { machine: "here".into(), instructions: counts(stored) };
        Comparison::of(&baseline, machine, &cases, &counts(counted))
    }

    fn sums(comparison: &Comparison) -> [usize; 3] {
        [comparison.passed, comparison.failed, comparison.skipped]
    }

    #[test]
    fn a_small_increase_passes_and_a_larger_one_fails() {
        assert_eq!(sums(&compare([100.0, 100.0], [102.0, 98.0], "here")), [3, 0, 0]);
        let worse = compare([100.0, 100.0], [104.0, 100.0], "here");
        assert_eq!(sums(&worse), [2, 1, 0]);
        assert!(worse.findings[0].contains("+4.0 %"), "{:?}", worse.findings);
    }

    #[test]
    fn less_is_reported() {
        let better = compare([100.0, 100.0], [90.0, 90.0], "here");
        assert_eq!(sums(&better), [3, 0, 0]);
        assert_eq!(better.findings.len(), 2);
    }

    #[test]
    fn counts_of_another_machine_fail_only_if_doubled() {
        assert_eq!(sums(&compare([100.0, 100.0], [150.0, 150.0], "elsewhere")), [1, 0, 2]);
        assert_eq!(sums(&compare([100.0, 100.0], [201.0, 190.0], "elsewhere")), [1, 1, 1]);
    }

    #[test]
    fn growth_with_the_endpoints_fails_on_every_machine() {
        assert_eq!(sums(&compare([100.0, 130.0], [100.0, 130.0], "here")), [2, 1, 0]);
        assert_eq!(sums(&compare([100.0, 130.0], [100.0, 130.0], "elsewhere")), [0, 1, 2]);
    }

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_stored_count() {
        let mut names: Vec<String> = crate::cases::all().iter().map(Case::name).collect();
        names.sort();
        let stored: Vec<String> = Baseline::read().unwrap().instructions.into_keys().collect();
        assert_eq!(names, stored);
    }
}
