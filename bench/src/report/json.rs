//! The report for programs: every figure of every round, with medians and ratios.

use std::io;

use serde_json::{Map, Value, json};

use super::machine;
use crate::marks;
use crate::measure::MeasurementSettings;
use crate::results::{ContestantRow, Results, WorkloadResult};
use crate::servers::ServerHost;

/// Writes the whole report.
pub(crate) fn write(results: &Results, host: &ServerHost, settings: &MeasurementSettings) -> io::Result<String> {
    let workloads: Vec<Value> = results.workloads.iter().map(|done| workload(done, results.builds)).collect();
    let document = json!({
        "machine": machine::machine(),
        "core": host.core,
        "upcalld": host.builds,
        "pace": settings,
        "works": workloads,
        "marks": marks::evaluate(results),
        "errors": results.errors,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn workload(done: &WorkloadResult, builds: usize) -> Value {
    let rows: Vec<Value> = done.rows.iter().map(|row| contestant(done, row, builds)).collect();
    json!({ "name": done.workload.name(), "contestants": rows })
}

fn contestant(done: &WorkloadResult, row: &ContestantRow, builds: usize) -> Value {
    let mut median = Map::new();
    let mut times_floor = Map::new();
    for name in row.rounds.iter().flatten().next().into_iter().flat_map(|figures| figures.keys()) {
        median.insert((*name).into(), json!(row.spread(name)));
        times_floor.insert((*name).into(), json!(done.times_floor(row, name)));
    }
    json!({
        "name": row.contestant.label(builds),
        "left_out": row.left_out,
        "figures": median,
        "times_floor": times_floor,
        "rounds": row.rounds,
    })
}
