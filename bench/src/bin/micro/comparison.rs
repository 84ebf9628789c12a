//! What the counts say: which case costs more than it did, and which cost grows with what is idle.

use std::fmt;

use crate::baseline::Stored;
use crate::callgrind::Counts;
use crate::cases::Case;

/// A case may cost so much more than what is stored for it; less, too, before it is said that the store wants renewing. Two
/// runs of one build differ by a thousandth, if at all, by the seeds of hash tables.
const TOLERANCE: f64 = 1.03;

/// The same where the counts that are stored come from another compiler, C library or processor, which may well cost
/// something; what does twice the work is found all the same.
const ELSEWHERE: f64 = 2.0;

/// One unit may cost so much more with ten times as many endpoints: a tree of deadlines is a level or two higher.
const GROWTH: f64 = 1.25;

/// What to do about a finding.
const RENEW: &str = "if these counts are as they have to be: \
                     cargo run --release --locked --manifest-path bench/Cargo.toml --bin micro -- --update";

/// Everything that is found of one run.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    lines: Vec<String>,
    findings: Vec<String>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Verdict {
    /// Compares what was counted with what is stored.
    pub(crate) fn of(stored: &Stored, machine: &str, cases: &[Case], counts: &Counts) -> Verdict {
        let mut verdict = Verdict::default();
        let same = stored.machine == machine;
        if !same {
            verdict.line(format_args!("stored: {}\nhere:   {machine}", stored.machine));
        }
        let mut fewer: Option<(&Case, f64)> = None;
        for case in cases {
            let name = case.name();
            let Some(&count) = counts.get(&name) else {
                verdict.fail(format_args!("{name}: it was not counted"));
                continue;
            };
            match stored.instructions.get(&name) {
                Some(&before) => verdict.compare(case, count, before, same),
                None => verdict.fail(format_args!("{name}: nothing is stored for it in {}", crate::baseline::FILE)),
            }
            if let Some((few, of_few)) = fewer.filter(|(few, _)| few.what == case.what) {
                verdict.compare_growth(few, of_few, case, count);
            }
            fewer = Some((case, count));
        }
        verdict
    }

    fn compare(&mut self, case: &Case, count: f64, before: f64, same: bool) {
        let (name, unit, change) = (case.name(), case.unit, (count / before - 1.0) * 100.0);
        self.line(format_args!("{count:10.1} {:22} {name} ({change:+.1} %)", format!("instructions/{unit}")));
        let limit = if same { TOLERANCE } else { ELSEWHERE };
        if count > before * limit {
            let file = crate::baseline::FILE;
            let text = "instructions for each";
            self.fail(format_args!(
                "{name}: {count:.1} {text} {unit}, {change:+.1} % over the {before:.1} in {file}; it may be {:.0} %",
                (limit - 1.0) * 100.0
            ));
        } else if !same {
            self.skipped += 1;
            self.findings.push(format!("SKIPPED {name}: stored elsewhere, so it was only seen that it is not doubled"));
        } else {
            self.passed += 1;
            if count * TOLERANCE < before {
                self.findings.push(format!("LESS {name}: {change:+.1} %; --update keeps what was gained"));
            }
        }
    }

    /// The same with more endpoints.
    fn compare_growth(&mut self, few: &Case, of_few: f64, case: &Case, of_many: f64) {
        let (growth, unit) = (of_many / of_few, case.unit);
        if growth > GROWTH {
            let (few, many) = (few.endpoints.unwrap_or(0), case.endpoints.unwrap_or(0));
            self.fail(format_args!(
                "{}: each {unit} costs {growth:.2} times as much with {many} endpoints as with {few}, more than {GROWTH}",
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

    /// Prints it, the sums last; says whether all is well.
    pub(crate) fn print(&self) -> bool {
        self.lines.iter().chain(&self.findings).for_each(|line| println!("{line}"));
        if self.failed > 0 {
            println!("{RENEW}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        self.failed == 0
    }
}

/// Without valgrind nothing is counted: that is a failure where everything has to be there.
pub(crate) fn without_valgrind(cases: usize) -> bool {
    let must = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    println!(
        "{} micro-benchmarks: valgrind is not installed (apt install valgrind)",
        if must { "FAILED" } else { "SKIPPED" }
    );
    let (failed, skipped) = if must { (cases, 0) } else { (0, cases) };
    println!("0 passed, {failed} failed, {skipped} skipped");
    !must
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where `stored` and `counted` are the counts of the first two cases that differ in endpoints only.
    fn verdict(stored: [f64; 2], counted: [f64; 2], machine: &str) -> Verdict {
        let cases: Vec<Case> =
            crate::cases::all().into_iter().filter(|case| case.endpoints.is_some()).take(2).collect();
        let counts = |of: [f64; 2]| cases.iter().map(Case::name).zip(of).collect();
        let stored = Stored { machine: "here".into(), instructions: counts(stored) };
        Verdict::of(&stored, machine, &cases, &counts(counted))
    }

    fn sums(verdict: &Verdict) -> [usize; 3] {
        [verdict.passed, verdict.failed, verdict.skipped]
    }

    #[test]
    fn what_costs_a_little_more_passes_and_what_costs_more_fails() {
        assert_eq!(sums(&verdict([100.0, 100.0], [102.0, 98.0], "here")), [3, 0, 0]);
        let worse = verdict([100.0, 100.0], [104.0, 100.0], "here");
        assert_eq!(sums(&worse), [2, 1, 0]);
        assert!(worse.findings[0].contains("+4.0 %"), "{:?}", worse.findings);
    }

    #[test]
    fn what_was_gained_is_said() {
        let better = verdict([100.0, 100.0], [90.0, 90.0], "here");
        assert_eq!(sums(&better), [3, 0, 0]);
        assert_eq!(better.findings.len(), 2);
    }

    #[test]
    fn counts_from_elsewhere_fail_only_where_they_are_doubled() {
        assert_eq!(sums(&verdict([100.0, 100.0], [150.0, 150.0], "elsewhere")), [1, 0, 2]);
        assert_eq!(sums(&verdict([100.0, 100.0], [201.0, 190.0], "elsewhere")), [1, 1, 1]);
    }

    #[test]
    fn what_grows_with_the_endpoints_fails_everywhere() {
        assert_eq!(sums(&verdict([100.0, 130.0], [100.0, 130.0], "here")), [2, 1, 0]);
        assert_eq!(sums(&verdict([100.0, 130.0], [100.0, 130.0], "elsewhere")), [0, 1, 2]);
    }

    #[test]
    fn every_case_has_a_name_of_its_own_and_a_count_that_is_stored() {
        let mut names: Vec<String> = crate::cases::all().iter().map(Case::name).collect();
        names.sort();
        let stored: Vec<String> = Stored::read().unwrap().instructions.into_keys().collect();
        assert_eq!(names, stored);
    }
}
