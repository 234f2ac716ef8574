//! A wire that lies.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A relay in front of the node that may mistreat what passes.
pub(crate) struct Wire {
    pub(crate) node: SocketAddr,
    attack: Arc<Mutex<Attack>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is done to each datagram of a conversation with that outer address: the copies that travel
/// instead of it.
type Attack = Box<dyn FnMut(SocketAddr, &[u8]) -> Vec<Vec<u8>> + Send>;

impl Wire {
    pub(crate) fn new(front: UdpSocket, node: SocketAddr) -> Self {
        let fair: Attack = Box::new(|_, datagram| vec![datagram.to_vec()]);
        let attack = Arc::new(Mutex::new(fair));
        let stopping = Arc::new(AtomicBool::new(false));
        let (attack_too, stopping_too) = (Arc::clone(&attack), Arc::clone(&stopping));
        let work = move || relay(&front, node, &attack_too, &stopping_too);
        Self {
            node,
            attack,
            stopping,
            thread: Some(thread::spawn(work)),
        }
    }

    pub(crate) fn mistreat(
        &self,
        attack: impl FnMut(SocketAddr, &[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) {
        *self.attack.lock().unwrap() = Box::new(attack);
    }

    pub(crate) fn be_fair(&self) {
        self.mistreat(|_, datagram| vec![datagram.to_vec()]);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Each outer address gets a socket of its own towards the node.
fn relay(front: &UdpSocket, node: SocketAddr, attack: &Mutex<Attack>, stopping: &AtomicBool) {
    let tick = Some(Duration::from_millis(1));
    front.set_read_timeout(tick).unwrap();
    let mut backs: BTreeMap<SocketAddr, UdpSocket> = BTreeMap::new();
    let mut buffer = [0; 65_536];
    while !stopping.load(Ordering::Acquire) {
        if let Ok((len, from)) = front.recv_from(&mut buffer) {
            let back = backs.entry(from).or_insert_with(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect(node).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket
            });
            for copy in attack.lock().unwrap()(from, &buffer[..len]) {
                let _ = back.send(&copy); // too long a lie is refused by the kernel
            }
        }
        for (to, back) in &backs {
            while let Ok(len) = back.recv(&mut buffer) {
                for copy in attack.lock().unwrap()(*to, &buffer[..len]) {
                    let _ = front.send_to(&copy, to);
                }
            }
        }
    }
}
