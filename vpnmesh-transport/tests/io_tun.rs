//! TUN devices and interfaces, each test in a network namespace of its own.
//!
//! A test runs its own program again, by name, inside fresh user and network namespaces. No root.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(
    unsafe_code,
    reason = "a child enters its namespaces between fork and exec"
)]

mod left_out;
mod machines;

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use left_out::left_out;
use machines::Bridge;
use rustix::fs::{Mode, OFlags};
use rustix::thread::UnshareFlags;
use vpnmesh_transport::io::{Driver, DriverHandle, Error, Link, PacketIo, Tun, UdpSocket};

/// Runs `scenario` in fresh namespaces; `test` is the name of the calling test.
fn in_namespace(test: &str, scenario: impl FnOnce()) {
    let net = UnshareFlags::NEWNET;
    inside(test, &[UnshareFlags::NEWUSER | net, net], scenario);
}

/// Runs `scenario` in the first kind of namespaces that this machine grants.
fn inside(test: &str, kinds: &[UnshareFlags], scenario: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return scenario();
    }
    if let Err(error) = std::fs::File::open("/dev/net/tun") {
        return left_out("tun", &format!("/dev/net/tun: {error}"), no_tun(&error));
    }
    let mut refused = None;
    for &kind in kinds {
        match again(test, kind) {
            Ok(passed) => return assert!(passed, "see above"),
            Err(error) => refused = Some(error),
        }
    }
    left_out(
        "tun",
        &format!("namespaces were refused: {refused:?}"),
        None,
    );
}

/// Whether this test passes in new namespaces; an error if there are none.
fn again(test: &str, kind: UnshareFlags) -> io::Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    let user = format!("0 {} 1", rustix::process::geteuid().as_raw());
    let group = format!("0 {} 1", rustix::process::getegid().as_raw());
    // SAFETY: between fork and exec there are only system calls, no allocation.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::unshare_unsafe(kind)?;
            if kind.contains(UnshareFlags::NEWUSER) {
                // Without a mapping to root the rights would end with the exec.
                write(c"/proc/self/setgroups", b"deny")?;
                write(c"/proc/self/uid_map", user.as_bytes())?;
                write(c"/proc/self/gid_map", group.as_bytes())?;
            }
            Ok(())
        });
    }
    Ok(command.status()?.success())
}

fn write(path: &CStr, text: &[u8]) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text)?;
    Ok(())
}

/// The proof that the kernel has no TUN: the device does not open and no driver is registered.
fn no_tun(error: &io::Error) -> Option<String> {
    let absent = [libc::ENOENT, libc::ENODEV, libc::ENXIO];
    let misc = std::fs::read_to_string("/proc/misc").ok()?;
    let registered = misc.lines().any(|line| line.trim().ends_with(" tun"));
    let proven = absent.contains(&error.raw_os_error()?) && !registered;
    proven.then(|| format!("{error}; /proc/misc: {misc:?}"))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A device with addresses, up.
fn tun(name: &str) -> Tun {
    let mut tun = Tun::open(name).unwrap();
    tun.set_mtu(1420).unwrap();
    tun.add_address(address("10.77.0.1"), 24).unwrap();
    tun.set_up().unwrap();
    tun
}

/// Sends every inner packet back to where it came from.
fn reflecting(tun: Tun) -> DriverHandle<Bridge> {
    let udp = UdpSocket::bind(([0, 0, 0, 0], 0).into()).unwrap();
    Driver::spawn(Bridge::default(), udp, Some(Box::new(tun))).unwrap()
}

fn client() -> StdSocket {
    let socket = StdSocket::bind("10.77.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A datagram that goes through the tunnel and comes back.
fn round_trip(client: &StdSocket, to: &str, len: usize) {
    let sent: Vec<u8> = (0..len).map(|at| at as u8).collect();
    client.send_to(&sent, to).unwrap();
    let mut buffer = [0; 2000];
    let (received, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from.to_string(), to);
    assert!(buffer[..received] == sent);
}

#[test]
fn kernel_traffic_goes_through_the_device_and_back() {
    in_namespace("kernel_traffic_goes_through_the_device_and_back", || {
        let mut tun = tun("vm%d");
        assert_eq!(tun.link().name(), "vm0");
        assert!(tun.link().index() > 0);
        tun.add_route("10.88.0.0/16".parse().unwrap()).unwrap();
        tun.add_address(address("10.77.0.1"), 24).unwrap(); // again: no error
        let driver = reflecting(tun);
        let client = client();
        for len in [0, 1, 500, 1392] {
            round_trip(&client, "10.77.0.2:7000", len);
            round_trip(&client, "10.88.3.4:7000", len);
        }
        let commands = driver.commands();
        driver.stop().unwrap();
        assert_eq!(commands.counters().inner_tx_packets, 8);
    });
}

#[test]
fn an_interface_takes_ipv6_addresses_routes_and_an_mtu_and_loses_them_again() {
    let name = "an_interface_takes_ipv6_addresses_routes_and_an_mtu_and_loses_them_again";
    in_namespace(name, || {
        let mut tun = tun("vm6");
        let mtu = std::fs::read_to_string("/proc/sys/net/ipv6/conf/vm6/mtu");
        let Ok(mtu) = mtu else {
            return left_out("tun over IPv6", "no IPv6", Some(format!("{mtu:?}")));
        };
        assert_eq!(mtu.trim(), "1420");
        tun.add_address(address("fd77::1"), 64).unwrap();
        tun.add_route("fd88::/16".parse().unwrap()).unwrap();
        // Usable at once: there is nobody else to ask whether the address is taken.
        let socket = StdSocket::bind("[fd77::1]:0").unwrap();
        socket.send_to(b"out", "[fd88::1]:9").unwrap();
        machines::wait_readable(tun.readable(), PATIENCE);

        let mut link = Link::by_name("vm6").unwrap();
        link.remove_route("fd88::/16".parse().unwrap()).unwrap();
        socket.send_to(b"out", "[fd88::1]:9").unwrap_err();
        link.remove_address(address("fd77::1"), 64).unwrap();
        let error = link.remove_address(address("fd77::1"), 64).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("remove address fd77::1/64 on vm6")
        );
    });
}

#[test]
fn garbage_is_refused_and_counted_and_traffic_goes_on() {
    in_namespace("garbage_is_refused_and_counted_and_traffic_goes_on", || {
        let mut device = Tun::open("vmg").unwrap();
        let down = device.send_packet(&[0x45; 40]).unwrap_err();
        assert_ne!(down.kind(), io::ErrorKind::WouldBlock);
        drop(device);

        let driver = reflecting(tun("vmg"));
        let client = client();
        round_trip(&client, "10.77.0.2:7000", 100);
        let garbage = [
            vec![],
            vec![0xff; 40],
            vec![0; 65_535],
            vec![0x45],
            vec![0x60; 3],
        ];
        for packet in garbage {
            driver.command(packet).unwrap();
            round_trip(&client, "10.77.0.2:7000", 100);
        }
        let commands = driver.commands();
        driver.stop().unwrap();
        let counters = commands.counters();
        assert!(counters.inner_tx_dropped_invalid >= 3, "{counters:?}");
        assert_eq!(
            counters.inner_tx_packets + counters.inner_tx_dropped_invalid,
            11
        );
    });
}

#[test]
fn a_device_in_use_or_of_another_kind_is_refused() {
    in_namespace("a_device_in_use_or_of_another_kind_is_refused", || {
        let _held = tun("vmb");
        assert!(matches!(Tun::open("vmb"), Err(Error::TunBusy { .. })));
        assert!(matches!(Tun::open("lo"), Err(Error::TunName { .. })));
    });
}

#[test]
fn a_device_that_exists_is_taken_as_it_is() {
    in_namespace("a_device_that_exists_is_taken_as_it_is", || {
        let made = tun("vmp");
        let index = made.link().index();
        // SAFETY: the argument is a number, not a pointer.
        let persistent =
            unsafe { libc::ioctl(made.readable().as_raw_fd(), libc::TUNSETPERSIST, 1) };
        assert_eq!(persistent, 0);
        drop(made);
        let taken = Tun::open("vmp").unwrap();
        assert_eq!(taken.link().index(), index);
        // Its address and its state are still there. The kernel lets packets out again a moment later.
        let driver = reflecting(taken);
        let client = client();
        client.set_read_timeout(Some(PATIENCE / 100)).unwrap();
        let answered = (0..100).any(|_| {
            client.send_to(b"there?", "10.77.0.2:7000").unwrap();
            client.recv_from(&mut [0; 64]).is_ok()
        });
        assert!(answered);
        drop(driver);
    });
}

#[test]
fn the_machine_lives_on_when_the_device_is_removed() {
    in_namespace("the_machine_lives_on_when_the_device_is_removed", || {
        Link::by_name("lo").unwrap().set_up().unwrap();
        let udp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let peer = udp.local_addr();
        let driver = Driver::spawn(Bridge::default(), udp, Some(Box::new(tun("vmr")))).unwrap();
        Link::by_name("vmr").unwrap().remove().unwrap();
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let echo = || {
            client.send_to(b"there?", peer).unwrap();
            client.recv_from(&mut [0; 64]).unwrap()
        };
        while driver.inner_fault().is_none() {
            echo();
        }
        assert_eq!(echo().0, 6);
    });
}

#[test]
fn without_rights_the_error_names_what_is_missing() {
    // A user namespace alone gives no rights over the network namespace that it was made in.
    let kinds = [UnshareFlags::NEWUSER];
    inside(
        "without_rights_the_error_names_what_is_missing",
        &kinds,
        || {
            let error = Tun::open("vmn").unwrap_err();
            assert!(matches!(error, Error::TunDenied { .. }), "{error}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            let error = Link::by_name("lo").unwrap().set_mtu(1280).unwrap_err();
            assert!(matches!(error, Error::LinkDenied { .. }), "{error}");
        },
    );
}

/// Set in the child that is in its namespaces.
const INSIDE: &str = "VPNMESH_TEST_INSIDE";
const PATIENCE: Duration = Duration::from_secs(20);

/// TCP in user space against the kernel's.
#[cfg(feature = "stack")]
mod stack {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::slice;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, poll};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime::Runtime;
    use vpnmesh_transport::io::{PacketBatch, PacketIo, Stack, StackConfig, StackIo, Tun};

    use super::{in_namespace, tun};

    const BYTES: usize = 32 << 20;

    /// Carries packets between a device and a stack for ever.
    fn carry(mut tun: Tun, mut stack: StackIo) {
        let mut batch = PacketBatch::new(64, 128 << 10);
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(tun.readable(), PollFlags::IN),
                PollFd::from_borrowed_fd(stack.readable(), PollFlags::IN),
            ];
            poll(&mut fds, None).unwrap();
            pass(&mut tun, &mut stack, &mut batch);
            pass(&mut stack, &mut tun, &mut batch);
        }
    }

    fn pass(from: &mut dyn PacketIo, to: &mut dyn PacketIo, batch: &mut PacketBatch) {
        batch.clear();
        from.recv(batch).unwrap();
        for packet in batch.iter() {
            to.send(packet, slice::from_ref(&(0..packet.len())));
        }
    }

    fn pattern() -> Vec<u8> {
        let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
        (0..BYTES).map(byte).collect()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The kernel sends to a stack that sends everything back.
    fn kernel_dials(runtime: &Runtime, stack: &Stack) {
        let listener = stack.listen(80).unwrap();
        runtime.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut kernel = TcpStream::connect("10.77.0.9:80").unwrap();
        let mut writer = kernel.try_clone().unwrap();
        let sender = thread::spawn(move || {
            writer.write_all(&pattern()).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        kernel.read_to_end(&mut received).unwrap();
        sender.join().unwrap();
        assert!(received == pattern());
        let refused = TcpStream::connect("10.77.0.9:81").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    /// The stack sends to a kernel's socket that sends everything back.
    fn stack_dials(runtime: &Runtime, stack: &Stack) {
        let listener = TcpListener::bind("10.77.0.1:82").unwrap();
        thread::spawn(move || {
            let (mut kernel, _) = listener.accept().unwrap();
            std::io::copy(&mut kernel.try_clone().unwrap(), &mut kernel).unwrap();
            kernel.shutdown(Shutdown::Write).unwrap();
        });
        runtime.block_on(async {
            let stream = stack.dial(address("10.77.0.1:82")).await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(stream);
            let sent = pattern();
            let send = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (read, ()) = tokio::join!(reader.read_to_end(&mut received), send);
            read.unwrap();
            assert!(received == sent);
            let refused = stack.dial(address("10.77.0.1:83")).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn the_kernels_tcp_and_a_stack_understand_each_other() {
        let test = "stack::the_kernels_tcp_and_a_stack_understand_each_other";
        in_namespace(test, || {
            let config = StackConfig {
                addresses: vec!["10.77.0.9/32".parse().unwrap()],
                ..StackConfig::default()
            };
            let (stack, io) = Stack::new(config).unwrap();
            let tun = tun("vm0");
            thread::spawn(move || carry(tun, io));
            let runtime = Runtime::new().unwrap();
            kernel_dials(&runtime, &stack);
            stack_dials(&runtime, &stack);
        });
    }
}
