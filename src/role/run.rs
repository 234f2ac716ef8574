//! A role as the whole work of a process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use vpnmesh_keys::harden_process;
use vpnmesh_transport::io::Clock;

use super::json::fields;
use super::lines::Lines;
use super::{Role, start};
use crate::Error;

/// What a role prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// Nothing.
    #[default]
    Quiet,
    /// Events and reports, one JSON object a line, on standard output.
    JsonLines,
}

/// Runs a role until SIGTERM or SIGINT, and stops it in order.
///
/// # Errors
/// Those of [`Role::start`]; [`Error::Stopped`] if the role ended by itself.
pub fn run<R: Role>(settings: R::Settings, output: Output) -> Result<(), Error> {
    let ended = own_process()?;
    let handle = start::<R>(settings)?;
    let mut lines =
        (output == Output::JsonLines).then(|| Lines::new(io::stdout(), R::NAME, handle.name()));
    let mut print = |at, event: &str, record| {
        if let Some(out) = &mut lines
            && out.print(at, event, record).is_err()
        {
            lines = None; // nobody reads any more: the role matters more than its records
        }
    };
    print(
        Clock.now(),
        "started",
        fields(json!({"pid": std::process::id()})),
    );
    let mut reported = None;
    while !ended.load(Ordering::Acquire) {
        match handle.events().recv_timeout(POLL) {
            Ok(event) => {
                let (name, record) = R::event_record(&event.what, &handle.names());
                print(event.at, name, record);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped { role: R::NAME }),
        }
        if let Some(report) = handle.report()
            && reported != Some(report.at)
        {
            reported = Some(report.at);
            print(
                report.at,
                "report",
                R::report_record(&report.what, &handle.names()),
            );
        }
    }
    handle.stop();
    print(Clock.now(), "stopped", fields(json!({})));
    Ok(())
}

/// Makes this process that of a role: it leaves no core dump, and SIGTERM and SIGINT do not kill it
/// but make the flag true.
pub(crate) fn own_process() -> Result<Arc<AtomicBool>, Error> {
    harden_process()?;
    let failed = || Error::system("wait for signals");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed())?;
    let guard = runtime.enter();
    let mut term = signal(SignalKind::terminate()).map_err(failed())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    drop(guard);
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        flag.store(true, Ordering::Release);
    };
    let thread = thread::Builder::new()
        .name("vpnmesh-signals".into())
        .spawn(wait);
    thread.map_err(failed())?;
    Ok(ended)
}

/// A signal and a new report are noticed within this time.
const POLL: Duration = Duration::from_millis(20);
