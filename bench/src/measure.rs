//! One measurement: a server is started, endpoints register, the work is done, and the server ends.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::contestants::{Contestant, Protocol, Transport};
use crate::load::native_datagrams::NativeDatagrams;
use crate::load::streams::{self, Streams};
use crate::load::text_datagrams::TextDatagrams;
use crate::load::{Run, Sample, Swarm, datagrams};
use crate::servers::{Host, Place, Server};
use crate::workloads::{Kind, Work};

/// What was measured, by the name of the figure.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// The server's CPU time for a delivery, in microseconds.
pub(crate) const CPU: &str = "server_cpu_us_per_delivery";
/// The load's.
pub(crate) const LOAD: &str = "load_cpu_us_per_delivery";
/// Both together: a server that leaves work to its receivers' side does not gain by it.
pub(crate) const TOTAL: &str = "total_cpu_us_per_delivery";
/// Deliveries, all of them checked.
pub(crate) const DELIVERIES: &str = "deliveries";
/// Deliveries in a second.
pub(crate) const RATE: &str = "deliveries_per_second";
/// Messages published in a second.
pub(crate) const MESSAGES: &str = "messages_per_second";
/// From sending to receiving, the median, in microseconds.
pub(crate) const P50: &str = "p50_us";
/// Memory of an endpoint that has got nothing yet, in bytes.
pub(crate) const SILENT: &str = "bytes_per_silent_endpoint";
/// Memory of an endpoint that has got a message, in bytes.
pub(crate) const SERVED: &str = "bytes_per_served_endpoint";
/// CPU time while nothing happens, in percent of a core.
pub(crate) const IDLE: &str = "idle_cpu_percent";
/// Wakeups in a second while nothing happens.
pub(crate) const WAKEUPS: &str = "idle_wakeups_per_second";
/// From starting to READY, in milliseconds.
pub(crate) const READY: &str = "ready_ms";
/// Size of the program, in MB (10^6 bytes).
pub(crate) const BINARY: &str = "binary_mb";
/// Resident memory when ready, in MB.
pub(crate) const RESIDENT: &str = "resident_mb";

/// How a measurement is made.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Pace {
    /// How long a work is done before it counts.
    pub(crate) warm_up: Duration,
    /// How long it counts.
    pub(crate) duration: Duration,
    /// How long idle endpoints are watched.
    pub(crate) idle: Duration,
    /// Messages outstanding to the slowest receiver.
    pub(crate) window: u32,
    /// Lone messages a second.
    pub(crate) rate: u32,
}

/// Silent clients of `protocol = "auto"` are taken for text after a second.
const SILENCE: Duration = Duration::from_millis(1500);

/// Does a work once with one contestant.
pub(crate) fn measure(host: &Host, pace: &Pace, work: &Work, who: Contestant) -> io::Result<Figures> {
    if work.kind == Kind::Start {
        return start(host, who);
    }
    let server = host.start(who, work.transport)?;
    let (_, unused) = server.process().memory()?;
    let mut swarm = swarm(&server, work, who)?;
    let mut figures = Figures::new();
    if work.kind == Kind::Idle {
        sleep(SILENCE);
        let (_, silent) = server.process().memory()?;
        figures.insert(SILENT, silent.saturating_sub(unused) as f64 / work.endpoints as f64);
    }
    let mut run = Run::new(swarm.as_mut(), server.process())?;
    match work.kind {
        Kind::FanOut => deliveries(run.fan_out(pace.window, pace.warm_up, pace.duration)?, &mut figures),
        Kind::RoundTrip => deliveries(run.round_trips(pace.warm_up, pace.duration)?, &mut figures),
        Kind::Lone => deliveries(run.lone(pace.rate, pace.warm_up, pace.duration)?, &mut figures),
        Kind::Idle => idle(&server, pace, unused, work.endpoints, &mut figures)?,
        Kind::Start => {}
    }
    Ok(figures)
}

fn swarm(server: &Server, work: &Work, who: Contestant) -> io::Result<Box<dyn Swarm>> {
    let count = work.endpoints;
    if work.transport.is_stream() {
        let place = match &server.place {
            Place::Inet(address) => streams::Place::Tcp(*address),
            Place::Path(path) => streams::Place::Unix(path.clone()),
        };
        return Ok(Box::new(Streams::connect(&place, who.driver(), count)?));
    }
    let place = match &server.place {
        Place::Inet(address) => datagrams::Place::Udp(*address),
        Place::Path(path) => datagrams::Place::Unix(path.clone()),
    };
    Ok(match who {
        Contestant::Upcalld { protocol: Protocol::Native, .. } => Box::new(NativeDatagrams::join(&place, count)?),
        _ => Box::new(TextDatagrams::join(&place, count)?),
    })
}

fn deliveries(sample: Sample, figures: &mut Figures) {
    let each = 1e6 / sample.deliveries.max(1) as f64;
    figures.insert(CPU, sample.server_cpu * each);
    figures.insert(LOAD, sample.load_cpu * each);
    figures.insert(TOTAL, (sample.server_cpu + sample.load_cpu) * each);
    figures.insert(DELIVERIES, sample.deliveries as f64);
    figures.insert(RATE, sample.deliveries as f64 / sample.seconds);
    figures.insert(MESSAGES, sample.messages as f64 / sample.seconds);
    if let Some(p50) = sample.p50 {
        figures.insert(P50, p50 * 1e6);
    }
}

fn idle(server: &Server, pace: &Pace, unused: u64, endpoints: usize, figures: &mut Figures) -> io::Result<()> {
    let process = server.process();
    sleep(SILENCE);
    let (_, served) = process.memory()?;
    figures.insert(SERVED, served.saturating_sub(unused) as f64 / endpoints as f64);
    let (cpu, waits, begin) = (process.cpu()?, process.waits()?, Instant::now());
    sleep(pace.idle);
    let seconds = begin.elapsed().as_secs_f64();
    figures.insert(IDLE, (process.cpu()? - cpu).as_secs_f64() / seconds * 100.0);
    figures.insert(WAKEUPS, (process.waits()? - waits) as f64 / seconds);
    Ok(())
}

fn start(host: &Host, who: Contestant) -> io::Result<Figures> {
    let server = host.start(who, Transport::Tcp)?;
    let (resident, _) = server.process().memory()?;
    let mut figures = Figures::new();
    figures.insert(READY, server.took.as_secs_f64() * 1e3);
    figures.insert(RESIDENT, resident as f64 / 1e6);
    if let Contestant::Upcalld { build, .. } = who {
        figures.insert(BINARY, fs::metadata(&host.builds[build])?.len() as f64 / 1e6);
    }
    Ok(figures)
}
