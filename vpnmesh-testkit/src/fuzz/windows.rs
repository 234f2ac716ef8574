//! Counters, streams and sizes by lists of operations.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use vpnmesh_core::Timestamp;
use vpnmesh_transport::mtu::MtuSearch;
use vpnmesh_transport::replay::{Refusal, ReplayWindow};
use vpnmesh_transport::stream::{ControlStream, Fragment, StreamAck};
use vpnmesh_transport::wire::{ETHERNET_PAYLOAD, SAFE_PAYLOAD};

use super::members::START;
use super::script::Script;

/// The window accepts each counter once and never one that lies too far back; a plain set of all
/// counters agrees with it.
pub fn replay(data: &[u8]) {
    let mut script = Script::new(data);
    let (mut window, mut seen) = (ReplayWindow::new(), BTreeSet::new());
    while script.goes_on() {
        let greatest = seen.last().copied().unwrap_or(0);
        let counter = match script.byte() % 4 {
            0 => script.long().min(u64::MAX - 1),
            1 => u64::saturating_add(greatest, script.short().into()).min(u64::MAX - 1),
            2 => u64::saturating_sub(greatest, script.short().into()),
            _ => u64::saturating_sub(greatest, script.byte().into()),
        };
        let expected = if seen.contains(&counter) && greatest - counter <= ReplayWindow::REACH {
            Err(Refusal::Seen)
        } else if !seen.is_empty() && counter < greatest && greatest - counter > ReplayWindow::REACH
        {
            Err(Refusal::TooOld)
        } else {
            Ok(())
        };
        assert_eq!(window.check(counter), expected);
        assert_eq!(window.accept(counter), expected);
        if expected.is_ok() {
            seen.insert(counter);
        }
        assert_eq!(window.greatest(), seen.last().copied());
    }
}

/// The search stays between what every path carries and what is wanted, whatever is answered.
pub fn mtu(data: &[u8]) {
    let mut script = Script::new(data);
    let wanted = SAFE_PAYLOAD + usize::from(script.byte());
    let wanted = wanted.min(ETHERNET_PAYLOAD);
    let mut search = MtuSearch::new(wanted, wanted);
    let (mut now, mut last) = (START, 0);
    while script.goes_on() {
        match script.byte() % 6 {
            0 => search.handle_used(script.short().into(), now),
            1 => search.handle_reply(last, now),
            2 => search.handle_reply(last.wrapping_sub(script.byte().into()), now),
            3 => search.restart(wanted),
            4 => now += Duration::from_millis(script.short().into()),
            _ => now += Duration::from_secs(script.short().into()),
        }
        let patience = Duration::from_millis(100);
        while let Some((number, size)) = search.poll_probe(patience, now) {
            assert!(size > 0 && size <= wanted, "a probe of {size} bytes");
            last = number;
        }
        let found = search.found();
        assert!((SAFE_PAYLOAD..=wanted).contains(&found), "found {found}");
    }
}

/// Two ends of a control stream over a network that loses, repeats and reorders: messages come
/// whole, in order, and none is made up. A third end hears whatever is said.
pub fn stream(data: &[u8]) {
    let mut script = Script::new(data);
    let (mut sender, mut receiver) = (ControlStream::default(), ControlStream::default());
    let mut hostile = ControlStream::default();
    let (mut sent, mut heard) = (Vec::new(), 0);
    let mut fragments: VecDeque<Fragment> = VecDeque::new();
    let mut acks: VecDeque<StreamAck> = VecDeque::new();
    let mut now = START;
    while script.goes_on() {
        match script.byte() % 8 {
            0 => {
                let message = script.text().to_vec();
                if sender.send(&message).is_ok() {
                    sent.push(message);
                }
            }
            1 => fragments.extend(sender.poll_fragment(RETRY, now)),
            2 => {
                if let Some(fragment) = fragments.pop_front() {
                    let _ = receiver.handle_fragment(fragment);
                }
            }
            3 => {
                if let Some(fragment) = fragments.back().cloned() {
                    let _ = receiver.handle_fragment(fragment);
                }
            }
            4 => drop(fragments.pop_front()),
            5 => acks.extend(receiver.poll_ack()),
            6 => {
                if let Some(ack) = acks.pop_back() {
                    sender.handle_ack(ack);
                }
            }
            _ => {
                now += Duration::from_millis(script.byte().into());
                offend(&mut hostile, &mut script, now);
            }
        }
        fragments.truncate(MAX_FLYING);
        acks.truncate(MAX_FLYING);
        while let Some(message) = receiver.poll_message() {
            let expected = sent.get(heard).map(Vec::as_slice);
            assert_eq!(Some(message.as_slice()), expected);
            heard += 1;
        }
    }
}

/// Says anything to an end of a stream.
fn offend(stream: &mut ControlStream, script: &mut Script<'_>, now: Timestamp) {
    let number = u32::from(script.short());
    let _ = stream.handle_fragment(Fragment {
        number: number.wrapping_sub(8),
        last: script.byte() & 1 == 0,
        bytes: script.text().to_vec().into(),
    });
    stream.handle_ack(StreamAck {
        wanted: number,
        ahead: script.long(),
    });
    let _ = (stream.poll_ack(), stream.poll_fragment(RETRY, now));
    let _ = (stream.poll_message(), stream.poll_timeout());
}

const RETRY: Duration = Duration::from_millis(50);
const MAX_FLYING: usize = 128;
