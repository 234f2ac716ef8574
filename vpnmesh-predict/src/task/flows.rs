//! Connections as rows of features, from the tables of each task.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Axis};

use crate::Error;
use crate::store::{self, Table};

/// Connections with their labels.
#[derive(Clone, Debug)]
pub struct Flows {
    /// Shape `[connection, feature]`; NaN is missing.
    pub x: Array2<f64>,
    /// So many columns, the first, are those of the table; the rest was made of several rows.
    pub plain: usize,
    /// Names of the features.
    pub names: Vec<String>,
    /// Whether it is an attack.
    pub attack: Vec<bool>,
    /// The kind of attack, or of benign traffic.
    pub kind: Vec<String>,
    /// Rows of one group belong to one side of every split inside: a span of time, a capture.
    pub group: Vec<usize>,
}

impl Flows {
    /// The rows at `at`, in that order.
    #[must_use]
    pub fn select(&self, at: &[usize]) -> Self {
        Self {
            x: self.x.select(Axis(0), at),
            plain: self.plain,
            names: self.names.clone(),
            attack: at.iter().map(|&at| self.attack[at]).collect(),
            kind: at.iter().map(|&at| self.kind[at].clone()).collect(),
            group: at.iter().map(|&at| self.group[at]).collect(),
        }
    }

    /// Where `wanted` says yes for a row.
    #[must_use]
    pub fn rows(&self, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.attack.len()).filter(|at| wanted(*at)).collect()
    }
}

/// Columns that grow while a loader reads.
#[derive(Default)]
pub(crate) struct Columns {
    names: Vec<String>,
    values: Vec<Vec<f64>>,
    plain: Option<usize>, // columns before those made of several rows
}

impl Columns {
    pub(crate) fn push(&mut self, name: impl Into<String>, values: Vec<f64>) {
        self.names.push(name.into());
        self.values.push(values);
    }

    pub(crate) fn one_hot(&mut self, name: &str, table: &Table, column: usize, values: &[&str]) {
        for value in values {
            let is = (0..table.rows()).map(|row| f64::from(table.text(row, column) == *value));
            self.push(format!("{name}={value}"), is.collect());
        }
    }

    pub(crate) fn matrix(self) -> (Array2<f64>, Vec<String>, usize) {
        let rows = self.values.first().map_or(0, Vec::len);
        let x = Array2::from_shape_fn((rows, self.values.len()), |(row, at)| self.values[at][row]);
        let plain = self.plain.unwrap_or(self.names.len());
        (x, self.names, plain)
    }
}

/// NSL-KDD connection records.
pub fn nsl_kdd(folder: &Path, test: bool) -> Result<Flows, Error> {
    let wanted = if test { "test" } else { "train" };
    let tables = store::files(folder, |name| name.contains(".csv"))?;
    let named = |path: &&PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(wanted))
    };
    let path = tables
        .iter()
        .find(named)
        .or(tables.first())
        .ok_or(Error::NoData {
            path: folder.to_owned(),
            missing: "a table of connections",
        })?;
    let table = Table::read(path)?;
    let mut columns = Columns::default();
    let attack_at = table.required("attack")?;
    for (at, name) in table.names().iter().enumerate() {
        match name.as_str() {
            "attack" | "difficulty" => {}
            "protocol_type" => columns.one_hot(name, &table, at, &["tcp", "udp", "icmp"]),
            "flag" => columns.one_hot(
                name,
                &table,
                at,
                &[
                    "SF", "S0", "REJ", "RSTR", "RSTO", "SH", "S1", "S2", "S3", "RSTOS0", "OTH",
                ],
            ),
            "service" => columns.one_hot(name, &table, at, &SERVICES),
            _ => columns.push(name, table.numbers(at)),
        }
    }
    let kind: Vec<String> = (0..table.rows())
        .map(|row| table.text(row, attack_at).to_owned())
        .collect();
    let (x, names, plain) = columns.matrix();
    Ok(Flows {
        x,
        plain,
        names,
        attack: kind.iter().map(|kind| kind != "normal").collect(),
        group: (0..kind.len()).collect(),
        kind,
    })
}

/// CIC-DDoS2019 flows.
pub fn cicddos2019(folder: &Path) -> Result<Flows, Error> {
    let table = Table::read(&store::table_path(folder, "flows"))?;
    let label = table.required("Label")?;
    let mut columns = Columns::default();
    for (at, name) in table.names().iter().enumerate() {
        if at != label && name != "Inbound" {
            columns.push(name, table.numbers(at));
        }
    }
    let kind: Vec<String> = (0..table.rows())
        .map(|row| table.text(row, label).to_owned())
        .collect();
    let (x, names, plain) = columns.matrix();
    Ok(Flows {
        x,
        plain,
        names,
        attack: kind.iter().map(|kind| kind != "BENIGN").collect(),
        group: (0..kind.len()).collect(),
        kind,
    })
}

/// CIC-IDS2017 flows, in order.
pub fn cicids2017(folder: &Path) -> Result<Flows, Error> {
    let table = Table::read(&store::table_path(folder, "flows"))?;
    let label = table.required("Label")?;
    let mut columns = Columns::default();
    for (at, name) in table.names().iter().enumerate() {
        if at != label {
            columns.push(name, table.numbers(at));
        }
    }
    let kind: Vec<String> = (0..table.rows())
        .map(|row| table.text(row, label).to_owned())
        .collect();
    let (x, names, plain) = columns.matrix();
    Ok(Flows {
        x,
        plain,
        names,
        attack: kind.iter().map(|kind| kind == "1").collect(),
        group: (0..kind.len()).map(|at| at * 10 / kind.len()).collect(),
        kind,
    })
}

/// Readings of switches in an emulated SDN.
///
/// Each reading is joined with what the same switch saw in the same reading round: the other
/// flows to the same destination and from the same source.
pub fn ddos_sdn(folder: &Path) -> Result<Flows, Error> {
    let table = Table::read(&store::table_path(folder, "flows"))?;
    let column = |name: &str| table.required(name);
    let mut columns = Columns::default();
    for name in [
        "pktcount",
        "bytecount",
        "dur",
        "tot_dur",
        "flows",
        "packetins",
        "pktperflow",
        "byteperflow",
        "pktrate",
        "Pairflow",
        "tx_bytes",
        "rx_bytes",
        "tx_kbps",
        "rx_kbps",
        "tot_kbps",
    ] {
        columns.push(name, table.numbers(column(name)?));
    }
    columns.one_hot(
        "protocol",
        &table,
        column("Protocol")?,
        &["TCP", "UDP", "ICMP"],
    );
    columns.plain = Some(columns.names.len());
    let number = |name: &str| -> Result<Vec<f64>, Error> { Ok(table.numbers(column(name)?)) };
    let ratio = |a: &[f64], b: &[f64]| -> Vec<f64> {
        a.iter()
            .zip(b)
            .map(|(a, b)| if *b > 0.0 { a / b } else { f64::NAN })
            .collect()
    };
    let (packets, bytes) = (number("pktcount")?, number("bytecount")?);
    let (per_packets, per_bytes) = (number("pktperflow")?, number("byteperflow")?);
    let total = number("tot_dur")?;
    columns.push("bytes per packet", ratio(&bytes, &packets));
    columns.push("bytes per packet now", ratio(&per_bytes, &per_packets));
    let life = ratio(&packets, &total)
        .into_iter()
        .map(|x| x * 1e9)
        .collect::<Vec<f64>>();
    columns.push("rate over life", life.clone());
    let rate = number("pktrate")?;
    columns.push("rate now over life", ratio(&rate, &life));
    let (tx, rx) = (number("tx_bytes")?, number("rx_bytes")?);
    columns.push("tx over rx", ratio(&tx, &rx));
    let label = column("label")?;
    let (dt, switch, src, dst) = (
        column("dt")?,
        column("switch")?,
        column("src")?,
        column("dst")?,
    );
    // Per reading round of a switch: distinct flows by source, by destination, and their packets.
    let key = |row: usize, at: usize| {
        format!(
            "{} {} {}",
            table.text(row, dt),
            table.text(row, switch),
            table.text(row, at)
        )
    };
    for (name, at, other) in [("to destination", dst, src), ("from source", src, dst)] {
        let mut peers: BTreeMap<String, BTreeMap<&str, (f64, f64)>> = BTreeMap::new();
        for row in 0..table.rows() {
            peers
                .entry(key(row, at))
                .or_default()
                .insert(table.text(row, other), (per_packets[row], per_bytes[row]));
        }
        let of = |row: usize| &peers[&key(row, at)];
        columns.push(
            format!("peers {name}"),
            (0..table.rows()).map(|row| of(row).len() as f64).collect(),
        );
        columns.push(
            format!("packets {name}"),
            (0..table.rows())
                .map(|row| of(row).values().map(|v| v.0).sum())
                .collect(),
        );
        columns.push(
            format!("bytes {name}"),
            (0..table.rows())
                .map(|row| of(row).values().map(|v| v.1).sum())
                .collect(),
        );
    }
    // The way back: what the reverse flow does in the same round.
    let pair = |row: usize, a: usize, b: usize| {
        format!(
            "{} {} {} {}",
            table.text(row, dt),
            table.text(row, switch),
            table.text(row, a),
            table.text(row, b)
        )
    };
    let forward: BTreeMap<String, usize> = (0..table.rows())
        .map(|row| (pair(row, src, dst), row))
        .collect();
    let back = |row: usize| forward.get(&pair(row, dst, src)).copied();
    columns.push(
        "back rate",
        (0..table.rows())
            .map(|row| back(row).map_or(f64::NAN, |at| per_packets[at]))
            .collect(),
    );
    columns.push(
        "back over forth",
        (0..table.rows())
            .map(|row| back(row).map_or(0.0, |at| per_packets[at] / per_packets[row].max(1.0)))
            .collect(),
    );
    columns.push(
        "back bytes per packet",
        (0..table.rows())
            .map(|row| back(row).map_or(f64::NAN, |at| bytes[at] / packets[at].max(1.0)))
            .collect(),
    );
    // Ports of the switch: greatest and least of the round.
    let round = |row: usize| format!("{} {}", table.text(row, dt), table.text(row, switch));
    for name in ["tx_kbps", "rx_kbps"] {
        let values = number(name)?;
        let mut most: BTreeMap<String, f64> = BTreeMap::new();
        for (row, value) in values.iter().enumerate() {
            let entry = most.entry(round(row)).or_default();
            *entry = entry.max(*value);
        }
        columns.push(
            format!("most {name}"),
            (0..table.rows()).map(|row| most[&round(row)]).collect(),
        );
    }
    let attack = (0..table.rows())
        .map(|row| table.text(row, label) == "1")
        .collect();
    let protocol = column("Protocol")?;
    let kind = (0..table.rows())
        .map(|row| table.text(row, protocol).to_owned())
        .collect();
    let group = (0..table.rows())
        .map(|row| (table.number(row, dt) / 1500.0) as usize)
        .collect();
    let (x, names, plain) = columns.matrix();
    Ok(Flows {
        x,
        plain,
        names,
        attack,
        kind,
        group,
    })
}

/// Connection logs of Zeek, without those of unknown intent.
pub fn zeek_conn(folder: &Path) -> Result<Flows, Error> {
    let table = Table::read(&store::table_path(folder, "conn"))?;
    let column = |name: &str| table.required(name);
    let mut columns = Columns::default();
    let number = |name: &str| -> Result<Vec<f64>, Error> { Ok(table.numbers(column(name)?)) };
    for name in [
        "duration",
        "orig_bytes",
        "resp_bytes",
        "orig_pkts",
        "orig_ip_bytes",
        "resp_pkts",
        "resp_ip_bytes",
        "missed_bytes",
    ] {
        columns.push(name, number(name)?);
    }
    columns.one_hot("proto", &table, column("proto")?, &["tcp", "udp", "icmp"]);
    columns.one_hot(
        "service",
        &table,
        column("service")?,
        &["-", "ssl", "dns", "http", "ssh", "ntp"],
    );
    columns.one_hot(
        "state",
        &table,
        column("conn_state")?,
        &[
            "OTH", "S0", "S1", "SF", "REJ", "RSTO", "RSTR", "SH", "SHR", "RSTOS0", "RSTRH", "S2",
            "S3",
        ],
    );
    let (capture, source, port) = (column("capture")?, column("src")?, column("dport")?);
    let at = number("ts")?;
    let mut order: Vec<usize> = (0..table.rows()).collect();
    order.sort_by(|a, b| at[*a].total_cmp(&at[*b]));
    let mut past: BTreeMap<(&str, &str), Vec<(f64, &str)>> = BTreeMap::new();
    let mut recent = [
        vec![0.0; table.rows()],
        vec![0.0; table.rows()],
        vec![f64::NAN; table.rows()],
        vec![0.0; table.rows()],
    ];
    for row in order {
        let past = past
            .entry((table.text(row, capture), table.text(row, source)))
            .or_default();
        let within = |span: f64| {
            past.iter()
                .rev()
                .take_while(|(then, _)| at[row] - then <= span)
                .count() as f64
        };
        recent[0][row] = within(60.0);
        recent[1][row] = within(600.0);
        recent[2][row] = past.last().map_or(f64::NAN, |(then, _)| at[row] - then);
        let ports: std::collections::BTreeSet<&str> = past
            .iter()
            .rev()
            .take_while(|(then, _)| at[row] - then <= 600.0)
            .map(|(_, port)| *port)
            .collect();
        recent[3][row] = ports.len() as f64;
        past.push((at[row], table.text(row, port)));
    }
    for (name, values) in [
        "connections in 60 s",
        "connections in 600 s",
        "since the last",
        "ports in 600 s",
    ]
    .into_iter()
    .zip(recent)
    {
        columns.push(name, values);
    }
    let (label, detail) = (column("label")?, column("detailedlabel")?);
    let (x, names, plain) = columns.matrix();
    let all = Flows {
        x,
        plain,
        names,
        attack: (0..table.rows())
            .map(|row| table.text(row, label) == "Malicious")
            .collect(),
        kind: (0..table.rows())
            .map(|row| table.text(row, detail).to_owned())
            .collect(),
        group: at.iter().map(|at| (at / 7200.0) as usize).collect(),
    };
    Ok(all.select(&all.rows(|row| table.text(row, label) != "Background")))
}

const SERVICES: [&str; 30] = [
    "http",
    "private",
    "domain_u",
    "smtp",
    "ftp_data",
    "eco_i",
    "other",
    "ecr_i",
    "telnet",
    "finger",
    "ftp",
    "auth",
    "Z39_50",
    "uucp",
    "courier",
    "bgp",
    "uucp_path",
    "iso_tsap",
    "time",
    "whois",
    "nnsp",
    "vmnet",
    "imap4",
    "urp_i",
    "domain",
    "ctf",
    "csnet_ns",
    "supdup",
    "pop_3",
    "ntp_u",
];
