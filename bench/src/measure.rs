//! From batches to one number an operation.

use std::{collections::BTreeMap, fs::File, thread::sleep, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    attached::{Attached, Watching},
    container::{How, Measured},
    operations::Operation,
};

/// Batches of each operation. The smallest counts: what an interrupt adds is added, never taken away.
const BATCHES: u64 = 24;

/// How long a watcher may take in what has gathered, between batches. An emulated machine that idles loses no time.
const DRAIN: Duration = Duration::from_millis(50);

/// Longer than a container is young for Lastwords; nobody else knows such a time.
const GROWN_UP: Duration = Duration::from_secs(300);

/// In the order of the table. A young container comes first.
const INSIDE: &[Operation] = &[
    Operation::Getppid,
    Operation::OpenClose,
    Operation::OpenMissingInside,
    Operation::ConnectOk,
    Operation::ConnectRefused,
    Operation::Write,
    Operation::UdpEcho,
    Operation::TcpSendRecv,
    Operation::Process,
    Operation::Sigterm,
];

/// Nanoseconds of one operation.
type Row = BTreeMap<String, f64>;

/// Counts every operation with this one attached. A watcher that cannot run is a reason, not an error.
pub(crate) fn count(attached: Attached) -> Result<Value> {
    match measured(attached, How::Counted) {
        Ok(row) => {
            // No operation takes more instructions than an i64 holds.
            let row: BTreeMap<_, _> =
                row.into_iter().map(|(name, cost)| (name, cost.round() as i64)).collect();
            Ok(json!({ "attached": attached, "operations": row }))
        }
        Err(error) => Ok(json!({ "attached": attached, "skipped": format!("{error:#}") })),
    }
}

/// Times every operation with each attached, by turns, `rounds` times.
pub(crate) fn compare(attached: &[Attached], rounds: usize) -> Result<Value> {
    let mut turns = Vec::new();
    for _ in 0..rounds {
        for one in attached {
            turns.push(match measured(*one, How::Timed) {
                Ok(row) => json!({ "attached": one, "operations": row }),
                Err(error) => json!({ "attached": one, "skipped": format!("{error:#}") }),
            });
        }
    }
    Ok(json!(turns))
}

fn measured(attached: Attached, how: How) -> Result<Row> {
    let watching = Watching::start(attached)?;
    let mut row = Row::new();
    {
        let mut container = Measured::inside(how)?;
        let mut take = |container: &mut Measured, operation: Operation| -> Result<()> {
            row.insert(operation.name(), smallest(container, operation, how)?);
            Ok(())
        };
        take(&mut container, Operation::OpenCloseYoung)?;
        if how == How::Counted && attached.is_lastwords() {
            grow_up();
        }
        for operation in INSIDE {
            take(&mut container, *operation)?;
        }
        take(&mut Measured::outside(how)?, Operation::OpenMissingOutside)?;
    }
    let failures = BATCHES * u64::from(Operation::OpenMissingInside.batch());
    watching.end(failures)?;
    Ok(row)
}

/// In short steps: the clock of QEMU 7.2 stands still where a machine idles for long while a timer of another process keeps firing.
fn grow_up() {
    const STEP: Duration = Duration::from_millis(200);
    let mut slept = Duration::ZERO;
    while slept < GROWN_UP {
        sleep(STEP);
        slept += STEP;
    }
    // What looked at young containers notices at the next open of the node that there is none any more.
    let _ = File::open("/etc/hosts");
}

fn smallest(measured: &mut Measured, operation: Operation, how: How) -> Result<f64> {
    let mut smallest = u64::MAX;
    for _ in 0..BATCHES {
        if how == How::Counted {
            sleep(DRAIN);
        }
        let took = measured.batch(operation)?;
        smallest = smallest.min(took);
    }
    Ok(as_number(smallest) / f64::from(operation.batch()))
}

fn as_number(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1e9
}
