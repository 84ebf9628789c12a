//! The report for programs: every figure of every round, with medians and ratios.

use std::io;

use serde_json::{Map, Value, json};

use super::machine;
use crate::marks;
use crate::measure::Pace;
use crate::results::{Done, Results, Row};
use crate::servers::Host;

/// All of it.
pub(crate) fn write(results: &Results, host: &Host, pace: &Pace) -> io::Result<String> {
    let works: Vec<Value> = results.works.iter().map(|done| work(done, results.builds)).collect();
    let document = json!({
        "machine": machine::machine(),
        "core": host.core,
        "upcalld": host.builds,
        "pace": pace,
        "works": works,
        "marks": marks::judge(results),
        "errors": results.errors,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn work(done: &Done, builds: usize) -> Value {
    let rows: Vec<Value> = done.rows.iter().map(|row| contestant(done, row, builds)).collect();
    json!({ "name": done.work.name(), "contestants": rows })
}

fn contestant(done: &Done, row: &Row, builds: usize) -> Value {
    let mut median = Map::new();
    let mut times_floor = Map::new();
    for name in row.rounds.iter().flatten().next().into_iter().flat_map(|figures| figures.keys()) {
        median.insert((*name).into(), json!(row.spread(name)));
        times_floor.insert((*name).into(), json!(done.times_floor(row, name)));
    }
    json!({
        "name": row.who.label(builds),
        "left_out": row.left_out,
        "figures": median,
        "times_floor": times_floor,
        "rounds": row.rounds,
    })
}
