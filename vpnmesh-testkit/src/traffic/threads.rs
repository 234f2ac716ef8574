//! Threads that stop together.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Threads that run until they are told to stop; dropping it stops and awaits them.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    stop: Stop,
    running: Vec<JoinHandle<()>>, // one per part of a load or resource: a few dozen
}

/// Tells threads to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it is time to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is time to stop.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Threads {
    /// Starts one more.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(Stop) + Send + 'static,
    ) -> io::Result<()> {
        let stop = self.stop.clone();
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.running.push(builder.spawn(move || work(stop))?);
        Ok(())
    }

    /// Lets go of those that ended on their own.
    pub(crate) fn forget_finished(&mut self) {
        self.running.retain(|thread| !thread.is_finished());
    }

    /// Stops all and waits until they are gone.
    pub(crate) fn stop(&mut self) {
        self.stop.set();
        for thread in self.running.drain(..) {
            let _ = thread.join(); // a panic was printed by its own thread
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Locks; a thread that panicked while it held the lock leaves only counts behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
