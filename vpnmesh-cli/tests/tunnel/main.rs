//! `vpnmesh tunnel` between two network namespaces: real kernels, ping and iperf3 at both ends.
//!
//! No test harness: see [`lab::run_suite`]. An argument runs only the tests whose name contains it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod clock;
#[path = "../clock_shim/mod.rs"]
mod clock_shim;
mod garbage;
mod heal;
mod psk;
mod rig;

use std::process::{Command, ExitCode};

use vpnmesh_testkit::lab::{self, Inside};

use rig::{Pair, until};

fn main() -> ExitCode {
    for tool in [
        ["ip", "-V"],
        ["ping", "-V"],
        ["iperf3", "-v"],
        ["cc", "-v"],
        ["wg", "--version"],
        ["wireguard-go", "--version"],
    ] {
        let found = Command::new(tool[0]).arg(tool[1]).output();
        if found.is_ok_and(|output| output.status.success()) {
            continue;
        }
        return lab::tool_is_missing("tunnel", tool[0]);
    }
    lab::run_suite("tunnel", &TESTS)
}

const TESTS: [lab::Test; 12] = [
    (
        "after_ready_ping_and_iperf3_go_through",
        after_ready_ping_and_iperf3_go_through,
    ),
    (
        "a_foreign_source_is_dropped_and_counted",
        a_foreign_source_is_dropped_and_counted,
    ),
    (
        "ends_that_differ_about_ml_kem_say_so",
        ends_that_differ_about_ml_kem_say_so,
    ),
    (
        "congestion_marks_reach_the_connections_inside",
        congestion_marks_reach_the_connections_inside,
    ),
    (
        "an_interface_that_exists_is_taken_as_it_is",
        an_interface_that_exists_is_taken_as_it_is,
    ),
    (
        "a_restarted_end_goes_on_with_the_connections_it_had",
        heal::a_restarted_end_goes_on,
    ),
    (
        "a_killed_end_goes_on_with_the_connections_it_had",
        heal::a_killed_end_goes_on,
    ),
    (
        "an_end_that_lost_its_wire_goes_on_when_it_is_back",
        heal::a_cut_wire_is_survived,
    ),
    (
        "a_clock_that_went_back_between_two_starts_is_survived",
        clock::a_clock_that_went_back,
    ),
    (
        "garbage_on_the_device_is_counted_and_traffic_goes_on",
        garbage::on_the_device,
    ),
    (
        "garbage_on_the_wire_is_counted_and_traffic_goes_on",
        garbage::on_the_wire,
    ),
    (
        "a_wireguard_needs_and_gets_our_secret",
        psk::a_wireguard_gets_our_secret,
    ),
];

fn after_ready_ping_and_iperf3_go_through(inside: Inside) {
    let pair = Pair::new(inside);
    let (a, b) = (pair.a.start(&pair.b, &[]), pair.b.start(&pair.a, &[]));
    assert_eq!((a.line(), b.line()), ("ready".into(), "ready".into()));
    let made = pair.a.run("ip link show dev vm0").unwrap();
    assert!(made.contains("mtu 1420") && made.contains("UP"), "{made}");
    assert!(!pair.a.run("ip addr show dev vm0").unwrap().contains("10."));
    assert!(!pair.a.run("ip route").unwrap().contains("vm0"));
    pair.configure();
    pair.ping();
    pair.a.run("ping -q -c 20 -i 0.01 10.77.0.2").unwrap();

    let _server = pair.b.spawn("iperf3 -s");
    for how in ["", "-R", "-u -b 20M", "-u -b 20M -R"] {
        let line = format!("iperf3 -c 10.77.0.2 -t 1 -J {how}");
        let mut told = None;
        until("iperf3 to reach its server", || {
            told = pair.a.run(&line);
            told.is_some()
        });
        let told: serde_json::Value = serde_json::from_str(&told.unwrap()).unwrap();
        let end = &told["end"];
        if how.contains("-u") {
            let count = |name: &str| end["sum"][name].as_u64().unwrap();
            assert!(count("packets") > count("lost_packets"), "{how}: {end}");
        } else {
            let bytes = end["sum_received"]["bytes"].as_u64();
            assert!(bytes.unwrap() > 0, "{how}: {end}");
        }
    }
    a.ends_well();
    b.ends_well();
    assert!(pair.a.run("ip link show dev vm0").is_none());
}

fn a_foreign_source_is_dropped_and_counted(inside: Inside) {
    let pair = Pair::new(inside);
    let a = pair
        .a
        .start(&pair.b, &["--allow", "10.77.0.2/32", "--json"]);
    let b = pair.b.start(&pair.a, &[]);
    let security = &a.event("ready")["security"];
    assert_eq!(security["key_exchange"], "x25519+ml-kem-768");
    assert_eq!(security["post_quantum_confidentiality"], true);
    pair.configure();
    pair.ping();
    pair.b.run("ip addr add 10.99.0.1/32 dev vm0").unwrap();
    // The way back exists: only the rule forbids it.
    pair.a.run("ip route add 10.99.0.1/32 dev vm0").unwrap();
    let dropped = || a.dropped("not_allowed_source");
    let before = dropped();
    until("the foreign source to be counted", || {
        let answered = pair.b.run("ping -c 3 -i 0.01 -W 1 -I 10.99.0.1 10.77.0.1");
        assert!(answered.is_none(), "a foreign source was answered");
        dropped() >= before + 3
    });
    pair.ping();
    a.ends_well();
    b.ends_well();
}

fn ends_that_differ_about_ml_kem_say_so(inside: Inside) {
    let pair = Pair::new(inside);
    let b = pair.b.start(&pair.a, &["--pq", "off", "--json"]);
    let a = pair.a.start(&pair.b, &["--json"]);
    for end in [&a, &b] {
        assert_eq!(end.event("refused")["reason"], "exchange");
    }
    a.ends_well();
    let a = pair.a.start(&pair.b, &["--pq", "prefer", "--json"]);
    for end in [&a, &b] {
        assert_eq!(end.event("ready")["security"]["key_exchange"], "x25519");
    }
    a.ends_well();
    b.ends_well();
}

fn congestion_marks_reach_the_connections_inside(inside: Inside) {
    let pair = Pair::over_the_lab(inside);
    let (a, b) = (pair.a.start(&pair.b, &[]), pair.b.start(&pair.a, &[]));
    assert_eq!((a.line(), b.line()), ("ready".into(), "ready".into()));
    pair.configure();
    pair.ping();
    for end in [&pair.a, &pair.b] {
        end.host.set_sysctl("net.ipv4.tcp_ecn", "1").unwrap();
    }
    let _server = pair.b.spawn("iperf3 -s");
    let send = || {
        until("iperf3 to reach its server", || {
            pair.a.run("iperf3 -c 10.77.0.2 -n 200K").is_some()
        });
    };
    send();
    assert_eq!(told_of_marks(&pair), 0, "nothing marks yet");
    let fabric = pair.lab.fabric();
    fabric
        .adjust("a", "b", |link| link.congested = true)
        .unwrap();
    send();
    assert!(told_of_marks(&pair) > 0, "TCP inside was told");
    a.ends_well();
    b.ends_well();
}

/// How many packets of the first host's TCP were marked on the way, by what its peers answered.
fn told_of_marks(pair: &Pair) -> u64 {
    let counters = pair.a.run("cat /proc/net/netstat").unwrap();
    let mut of_tcp = counters.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (of_tcp.next().unwrap(), of_tcp.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "TCPDeliveredCE").unwrap();
    value.parse().unwrap()
}

fn an_interface_that_exists_is_taken_as_it_is(inside: Inside) {
    let pair = Pair::new(inside);
    pair.make_devices();
    pair.a.run("ip link set dev vm0 mtu 1300").unwrap();
    let before = pair.a.run("ip -o link show dev vm0").unwrap();
    let (a, b) = (pair.a.start(&pair.b, &[]), pair.b.start(&pair.a, &[]));
    assert_eq!((a.line(), b.line()), ("ready".into(), "ready".into()));
    pair.ping();
    let taken = pair.a.run("ip -o link show dev vm0").unwrap();
    assert!(taken.contains("mtu 1300"), "{taken}");
    a.ends_well();
    b.ends_well();
    let index = |line: &str| line.split(':').next().map(str::to_owned);
    let left = pair.a.run("ip -o link show dev vm0").unwrap();
    assert_eq!(index(&before), index(&left), "it is its owner's to remove");
}
