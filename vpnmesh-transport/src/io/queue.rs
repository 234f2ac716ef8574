//! A bounded queue between threads whose reader waits on a descriptor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::wake::Wake;

/// The descriptor is readable exactly while the queue holds something or is closed.
///
/// Senders lock once per batch and make a system call only when the queue was empty.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    bound: usize,
    wake: Wake,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>, // at most `bound`
    closed: bool,
}

/// Why a push did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: usize) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
            }),
            bound,
            wake: Wake::new()?,
        })
    }

    pub(super) fn push(&self, item: T) -> Result<(), (Refused, T)> {
        let mut state = self.lock();
        if state.closed {
            return Err((Refused::Closed, item));
        }
        if state.items.len() >= self.bound {
            return Err((Refused::Full, item));
        }
        if state.items.is_empty() {
            self.wake.signal();
        }
        state.items.push_back(item);
        Ok(())
    }

    /// Pushes what `make` builds from each input until the queue is full; says how many went in.
    pub(super) fn push_all<I>(
        &self,
        inputs: impl IntoIterator<Item = I>,
        mut make: impl FnMut(I) -> T,
    ) -> Result<usize, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let was_empty = state.items.is_empty();
        let room = self.bound - state.items.len();
        let before = state.items.len();
        state
            .items
            .extend(inputs.into_iter().take(room).map(&mut make));
        let pushed = state.items.len() - before;
        if was_empty && pushed > 0 {
            self.wake.signal();
        }
        Ok(pushed)
    }

    /// Moves all items to the end of `out`; `None` once the queue is closed and empty.
    pub(super) fn take_all(&self, out: &mut Vec<T>) -> Option<usize> {
        self.take_while(out, |_| true)
    }

    /// Moves items to the end of `out` as long as `accept` says yes; `None` once the queue is
    /// closed and empty.
    pub(super) fn take_while(
        &self,
        out: &mut Vec<T>,
        mut accept: impl FnMut(&T) -> bool,
    ) -> Option<usize> {
        let mut state = self.lock();
        if state.items.is_empty() && state.closed {
            return None;
        }
        let before = out.len();
        while state.items.front().is_some_and(&mut accept) {
            out.extend(state.items.pop_front());
        }
        if state.items.is_empty() && !state.closed {
            self.wake.clear();
        }
        Some(out.len() - before)
    }

    /// Nothing goes in any more; what is inside can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.signal();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The closures that run under the lock leave the queue whole even if they panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> AsFd for Queue<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable<T>(queue: &Queue<T>) -> bool {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(queue, PollFlags::IN)], Some(&zero)).unwrap() > 0
    }

    #[test]
    fn it_is_readable_exactly_while_it_holds_something() {
        let queue = Queue::new(3).unwrap();
        let mut out = Vec::new();
        assert!(!readable(&queue));
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        assert!(readable(&queue));
        assert_eq!(queue.take_while(&mut out, |&n| n < 2), Some(1));
        assert!(readable(&queue));
        assert_eq!(queue.take_all(&mut out), Some(1));
        assert!(!readable(&queue));
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn it_refuses_at_its_bound_and_hands_the_item_back() {
        let queue = Queue::new(2).unwrap();
        assert_eq!(queue.push_all([1, 2, 3], |n| n), Ok(2));
        assert_eq!(queue.push(4), Err((Refused::Full, 4)));
        assert_eq!(queue.push_all([5], |n| n), Ok(0));
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_holds_then_ends() {
        let queue = Queue::new(2).unwrap();
        let mut out = Vec::new();
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2), Err((Refused::Closed, 2)));
        assert_eq!(queue.take_all(&mut out), Some(1));
        assert!(readable(&queue));
        assert_eq!(queue.take_all(&mut out), None);
    }
}
