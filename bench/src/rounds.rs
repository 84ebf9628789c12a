//! The rounds of a work: everybody once, then everybody again, so that what disturbs the machine disturbs all alike.

use std::io::{IsTerminal, Write};

use crate::contestants::Contestant;
use crate::marks::{number, short};
use crate::measure::{Pace, measure};
use crate::results::{Done, Results, Row};
use crate::servers::Host;
use crate::workloads::{Kind, Work, thousands};

/// Does every work, saying what it does on standard error.
pub(crate) fn run(host: &Host, pace: &Pace, works: Vec<Work>, rounds: usize, only: &[String]) -> Results {
    let mut results = Results { builds: host.builds.len(), ..Results::default() };
    for work in works {
        let done = rounds_of(host, pace, work, rounds, only, &mut results);
        results.works.push(done);
    }
    results
}

fn rounds_of(host: &Host, pace: &Pace, work: Work, rounds: usize, who: &[String], results: &mut Results) -> Done {
    let builds = host.builds.len();
    let limit = files();
    let mut rows: Vec<Row> = Vec::new();
    for contestant in work.contestants(builds) {
        let label = contestant.label(builds);
        let wanted = who.is_empty() || contestant == Contestant::Floor || who.iter().any(|part| label.contains(part));
        if wanted {
            let left_out = contestant.obstacle(work.transport, work.endpoints).or_else(|| {
                let needed = work.endpoints + 100;
                (needed > limit).then(|| format!("needs {} open files, {limit} are allowed", thousands(needed)))
            });
            rows.push(Row { who: contestant, left_out, rounds: Vec::new() });
        }
    }
    // What idle endpoints cost hardly varies, and takes long to watch.
    let rounds = if work.kind == Kind::Idle { 1 } else { rounds };
    for round in 0..rounds {
        for row in rows.iter_mut().filter(|row| row.left_out.is_none()) {
            say(&format!("{}, round {} of {rounds}: {}", work.name(), round + 1, row.who.label(builds)));
            let figures = measure(host, pace, &work, row.who);
            if let Err(error) = &figures {
                results.failed |= !Contestant::PEERS.contains(&row.who);
                results.errors.push(format!("{}, {}: {error}", work.name(), row.who.label(builds)));
            }
            row.rounds.push(figures.ok());
        }
    }
    let done = Done { work, rows };
    say("");
    eprintln!("{}", summary(&done, builds));
    done
}

/// One line that each work ends with.
fn summary(done: &Done, builds: usize) -> String {
    let figure = done.work.kind.figure();
    let of = |row: &Row| {
        let shown = match done.times_floor(row, figure) {
            Some(ratio) if row.who != Contestant::Floor => format!("{} × floor", number(ratio.median)),
            _ => number(row.spread(figure)?.median),
        };
        Some(format!("{} {shown}", row.who.label(builds)))
    };
    let figures: Vec<String> = done.rows.iter().filter_map(of).collect();
    format!("{}: {}: {}", done.work.name(), short(figure), figures.join(", "))
}

/// A line on a terminal that takes the place of the one before: what is being done.
fn say(line: &str) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

/// How many files may be open, after asking for as many as possible.
fn files() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}
