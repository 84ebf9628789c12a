//! One measurement: starts a server, registers endpoints, runs the workload, and ends the server.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use upcall_wire::address::Transport;

use crate::contestants::{ClientProtocol, Contestant};
use crate::figures::{
    BINARY, CPU, DELIVERIES, IDLE, LOAD, MESSAGES, P50, RATE, READY, RESIDENT, RoundFigures, SERVED, SILENT, TOTAL,
    WAKEUPS,
};
use crate::load::datagrams::DatagramAddress;
use crate::load::native_datagrams::NativeDatagrams;
use crate::load::streams::{StreamAddress, Streams};
use crate::load::text_datagrams::TextDatagrams;
use crate::load::{LoadClients, LoadRun, Sample};
use crate::servers::{RunningServer, ServerAddress, ServerHost};
use crate::workloads::{Workload, WorkloadKind};

/// How measurements are made.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct MeasurementSettings {
    /// How long a workload runs before it is measured.
    pub(crate) warm_up: Duration,
    /// How long it is measured.
    pub(crate) duration: Duration,
    /// How long idle endpoints are measured.
    pub(crate) idle: Duration,
    /// The most messages that may be outstanding to the slowest receiver.
    pub(crate) window: u32,
    /// Messages a second for lone messages.
    pub(crate) rate: u32,
}

/// How long to wait until the protocol of silent clients is decided: with `protocol = "auto"` they become text clients
/// after a second.
const SETTLING: Duration = Duration::from_millis(1500);

/// Runs a workload once with one contestant.
pub(crate) fn measure(
    host: &ServerHost,
    settings: &MeasurementSettings,
    workload: &Workload,
    contestant: Contestant,
) -> io::Result<RoundFigures> {
    if workload.kind == WorkloadKind::Start {
        return start(host, contestant);
    }
    let server = host.start(contestant, workload.transport)?;
    let (_, unused) = server.process().memory()?;
    let mut clients = connect_clients(&server, workload, contestant)?;
    let mut figures = RoundFigures::new();
    if workload.kind == WorkloadKind::Idle {
        sleep(SETTLING);
        let (_, silent) = server.process().memory()?;
        figures.insert(SILENT, silent.saturating_sub(unused) as f64 / workload.endpoints as f64);
    }
    let mut run = LoadRun::new(clients.as_mut(), server.process())?;
    match workload.kind {
        WorkloadKind::FanOut => {
            deliveries(run.fan_out(settings.window, settings.warm_up, settings.duration)?, &mut figures)
        }
        WorkloadKind::RoundTrip => deliveries(run.round_trips(settings.warm_up, settings.duration)?, &mut figures),
        WorkloadKind::Lone => deliveries(run.lone(settings.rate, settings.warm_up, settings.duration)?, &mut figures),
        WorkloadKind::Idle => idle(&server, settings, unused, workload.endpoints, &mut figures)?,
        WorkloadKind::Start => {}
    }
    Ok(figures)
}

fn connect_clients(
    server: &RunningServer,
    workload: &Workload,
    contestant: Contestant,
) -> io::Result<Box<dyn LoadClients>> {
    let count = workload.endpoints;
    if !workload.transport.is_datagram() {
        let address = match &server.address {
            ServerAddress::Inet(address) => StreamAddress::Tcp(*address),
            ServerAddress::Path(path) => StreamAddress::Unix(path.clone()),
        };
        return Ok(Box::new(Streams::connect(&address, contestant.driver(), count)?));
    }
    let address = match &server.address {
        ServerAddress::Inet(address) => DatagramAddress::Udp(*address),
        ServerAddress::Path(path) => DatagramAddress::Unix(path.clone()),
    };
    Ok(match contestant {
        Contestant::Upcalld { protocol: ClientProtocol::Native, .. } => {
            Box::new(NativeDatagrams::join(&address, count)?)
        }
        _ => Box::new(TextDatagrams::join(&address, count)?),
    })
}

fn deliveries(sample: Sample, figures: &mut RoundFigures) {
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

fn idle(
    server: &RunningServer,
    settings: &MeasurementSettings,
    unused: u64,
    endpoints: usize,
    figures: &mut RoundFigures,
) -> io::Result<()> {
    let process = server.process();
    sleep(SETTLING);
    let (_, served) = process.memory()?;
    figures.insert(SERVED, served.saturating_sub(unused) as f64 / endpoints as f64);
    let (cpu, wakeups, begin) = (process.cpu()?, process.wakeups()?, Instant::now());
    sleep(settings.idle);
    let seconds = begin.elapsed().as_secs_f64();
    figures.insert(IDLE, (process.cpu()? - cpu).as_secs_f64() / seconds * 100.0);
    figures.insert(WAKEUPS, (process.wakeups()? - wakeups) as f64 / seconds);
    Ok(())
}

fn start(host: &ServerHost, contestant: Contestant) -> io::Result<RoundFigures> {
    let server = host.start(contestant, Transport::Tcp)?;
    let (resident, _) = server.process().memory()?;
    let mut figures = RoundFigures::new();
    figures.insert(READY, server.startup.as_secs_f64() * 1e3);
    figures.insert(RESIDENT, resident as f64 / 1e6);
    if let Contestant::Upcalld { build, .. } = contestant {
        figures.insert(BINARY, fs::metadata(&host.builds[build])?.len() as f64 / 1e6);
    }
    Ok(figures)
}
