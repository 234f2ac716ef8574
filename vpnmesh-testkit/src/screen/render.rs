//! Makes text of a [`ScreenState`].

use std::time::Duration;

use super::span::{Ink, Line};
use super::{ActLine, ActState, ClientLine, Life, NodeLine, ScreenState};
use crate::report::Promise;

/// The screen as plain text, no line longer than `width` columns.
#[must_use]
pub fn render(state: &ScreenState, width: usize) -> String {
    join(&lines(state, width), Line::plain)
}

/// The screen as text with ANSI colours, no line longer than `width` columns.
#[must_use]
pub fn render_colour(state: &ScreenState, width: usize) -> String {
    join(&lines(state, width), Line::colour)
}

fn join(lines: &[Line], text: fn(&Line) -> String) -> String {
    lines.iter().map(|line| text(line) + "\n").collect()
}

fn lines(state: &ScreenState, width: usize) -> Vec<Line> {
    let mut lines = vec![header(state, width), rule(width)];
    lines.extend(stage(state, width));
    if !state.nodes.is_empty() {
        lines.push(Line::new());
        lines.extend(state.nodes.iter().map(node));
    }
    if !state.clients.is_empty() {
        lines.push(Line::new());
        let columns = Columns::of(&state.clients, width);
        lines.extend(state.clients.iter().map(|it| client(it, columns)));
    }
    if !state.promises.is_empty() {
        lines.push(Line::new());
        lines.extend(promises(&state.promises));
    }
    lines.into_iter().map(|line| line.cut(width)).collect()
}

fn header(state: &ScreenState, width: usize) -> Line {
    let seconds = state.elapsed.as_secs();
    let clock = format!("{}:{:02}", seconds / 60, seconds % 60);
    let right = if state.rounds > 1 {
        format!("round {} of {}   {clock}", state.round, state.rounds)
    } else {
        clock
    };
    let title = Line::new().add(Ink::Strong, format!(" {}", state.title));
    let column = width.saturating_sub(right.chars().count());
    title.beside(column, Line::new().add(Ink::Faint, right))
}

fn rule(width: usize) -> Line {
    Line::new().add(Ink::Faint, "─".repeat(width))
}

/// The acts, and beside them (or below, where it is narrow) what is happening.
fn stage(state: &ScreenState, width: usize) -> Vec<Line> {
    let acts: Vec<Line> = state.acts.iter().map(act).collect();
    let rows = acts.len().max(NARRATION);
    let told = state.narration.newest(rows);
    let told: Vec<Line> = told.map(|(at, line)| told_line(at, line)).collect();
    let column = acts.iter().map(Line::width).max().unwrap_or(0) + 3;
    if width < column + 30 {
        return acts.into_iter().chain(told).collect();
    }
    let mut acts = acts.into_iter();
    let mut told = told.into_iter();
    let rows = acts.len().max(told.len());
    (0..rows)
        .map(|_| {
            let left = acts.next().unwrap_or_default();
            left.beside(column, told.next().unwrap_or_default())
        })
        .collect()
}

fn act(act: &ActLine) -> Line {
    let (sign, ink) = match act.state {
        ActState::Waiting => ("·", Ink::Faint),
        ActState::Playing => ("▶", Ink::Accent),
        ActState::Held => ("✓", Ink::Good),
        ActState::Broken => ("✗", Ink::Bad),
    };
    let name = match act.state {
        ActState::Playing => Ink::Accent,
        ActState::Waiting => Ink::Faint,
        ActState::Held | ActState::Broken => Ink::Plain,
    };
    let line = Line::new().add(ink, format!(" {sign} "));
    line.add(name, format!("{} {}", act.number, act.name))
}

fn told_line(at: Duration, line: &str) -> Line {
    let clock = Line::new().add(Ink::Faint, format!("{:>6.1} s  ", at.as_secs_f64()));
    clock.add(Ink::Plain, line)
}

fn node(node: &NodeLine) -> Line {
    let (word, ink) = match node.life {
        Life::Starting => ("starting", Ink::Warn),
        Life::Ready => ("ready", Ink::Good),
        Life::Degraded => ("degraded", Ink::Warn),
        Life::Draining => ("draining", Ink::Warn),
        Life::Removed => ("removed", Ink::Faint),
        Life::Frozen => ("frozen", Ink::Bad),
        Life::Dead => ("dead", Ink::Bad),
    };
    let sign = match node.life {
        Life::Dead | Life::Removed => "○",
        Life::Starting | Life::Ready | Life::Degraded | Life::Draining | Life::Frozen => "●",
    };
    let risk = node.risk.map_or(String::new(), |risk| {
        format!("risk {:>3.0} %", risk.get() * 100.0)
    });
    let risk_ink = match node.risk.map(|risk| (risk.get() * 100.0) as u32) {
        None | Some(0..20) => Ink::Faint,
        Some(20..50) => Ink::Warn,
        Some(_) => Ink::Bad,
    };
    let mut line = Line::new()
        .add(ink, format!(" {sign} "))
        .add(Ink::Strong, format!("{:<11}", node.name))
        .add(Ink::Faint, format!("{:<10}", node.region))
        .add(ink, format!("{word:<10}"))
        .add(risk_ink, format!("{risk:<12}"));
    if !node.primary_of.is_empty() {
        line = line.add(
            Ink::Accent,
            format!("★ primary of {}  ", node.primary_of.join(", ")),
        );
    }
    if !node.shadow_of.is_empty() {
        line = line.add(
            Ink::Faint,
            format!("shadow of {}", node.shadow_of.join(", ")),
        );
    }
    line
}

/// What all client lines share, so that they line up.
#[derive(Clone, Copy)]
struct Columns {
    name: usize,
    via: usize,
    bar: usize,
    top: u64,
}

impl Columns {
    fn of(clients: &[ClientLine], width: usize) -> Self {
        let longest = |of: fn(&ClientLine) -> &str| {
            let lengths = clients.iter().map(|it| of(it).chars().count());
            lengths.max().unwrap_or(0)
        };
        let (name, via) = (longest(|it| &it.name), longest(|it| &it.via));
        let top = clients.iter().flat_map(|it| &it.recent).max();
        Self {
            name,
            via,
            bar: width.saturating_sub(name + via + REST).clamp(4, BAR),
            top: top.copied().unwrap_or(0),
        }
    }
}

fn client(client: &ClientLine, columns: Columns) -> Line {
    let Columns {
        name,
        via,
        bar: length,
        top,
    } = columns;
    let rate = client.download_bps as f64 / 1e6;
    let (gap, gap_ink) = match (client.quiet_ms, client.last_gap_ms) {
        (quiet @ LOUD.., _) => (format!("silent {quiet} ms"), Ink::Bad),
        (_, Some(gap)) => (format!("gap {gap} ms"), Ink::Warn),
        (_, None) => ("no gap".to_owned(), Ink::Good),
    };
    let rtt = client.rtt_ms.map_or("-".to_owned(), |rtt| rtt.to_string());
    let longest = format!("max {}", client.longest_gap_ms);
    let line = Line::new()
        .add(Ink::Strong, format!(" {:<name$}", client.name))
        .add(Ink::Accent, format!(" via {:<via$} ", client.via))
        .add(Ink::Good, bar(&client.recent, top, length))
        .add(Ink::Plain, format!("{rate:>6.1} Mbit/s  "))
        .add(gap_ink, format!("{gap:<12}"))
        .add(Ink::Faint, format!("{longest:<10}"))
        .add(
            Ink::Plain,
            format!("http {:>2}/s  rtt {rtt:>3} ms  ", client.http_per_second),
        );
    if client.tcp_broken == 0 && client.bytes_wrong == 0 {
        return line.add(Ink::Good, "tcp whole");
    }
    let broken = format!(
        "tcp broken {} wrong bytes {}",
        client.tcp_broken, client.bytes_wrong
    );
    line.add(Ink::Bad, broken)
}

/// The newest values, one character each.
fn bar(values: &[u64], top: u64, length: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = &values[values.len().saturating_sub(length)..];
    let block = |value: &u64| {
        let level = (*value as f64 / top.max(1) as f64 * 7.0).round();
        BLOCKS[(level as usize).min(7)]
    };
    let missing = length - newest.len();
    " ".repeat(missing) + &newest.iter().map(block).collect::<String>()
}

/// The broken ones first, then the newest, at most [`PROMISES`] of them.
fn promises(promises: &[Promise]) -> Vec<Line> {
    let held = promises.iter().filter(|promise| promise.held).count();
    let ink = if held == promises.len() {
        Ink::Good
    } else {
        Ink::Bad
    };
    let sum = format!(" promises: {held} of {} hold", promises.len());
    let broken = promises.iter().filter(|promise| !promise.held);
    let newest = promises.iter().rev().filter(|promise| promise.held);
    let shown = broken.chain(newest).take(PROMISES).map(promise);
    std::iter::once(Line::new().add(ink, sum))
        .chain(shown)
        .collect()
}

fn promise(promise: &Promise) -> Line {
    let (sign, ink) = if promise.held {
        ("✓", Ink::Good)
    } else {
        ("✗", Ink::Bad)
    };
    let unit = &promise.unit;
    Line::new()
        .add(ink, format!("   {sign} "))
        .add(
            Ink::Plain,
            format!("act {}: {}: ", promise.act, promise.name),
        )
        .add(ink, format!("{} {unit}", promise.value_text()))
        .add(
            Ink::Faint,
            format!("  (limit {} {unit})", promise.limit_text()),
        )
}

const NARRATION: usize = 7;
const PROMISES: usize = 6;
const BAR: usize = 40;
// Columns of a client line besides its name, its node and the bar.
const REST: usize = 76;
// A quiet time that a viewer should notice, in ms: several heartbeats.
const LOUD: u64 = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vpnmesh_core::Ratio;

    use super::*;

    fn state() -> ScreenState {
        let act = |number, name: &str, state| ActLine {
            number,
            name: name.into(),
            state,
        };
        let mut state = ScreenState {
            title: "the mesh heals itself".into(),
            elapsed: Duration::from_millis(61_500),
            round: 2,
            rounds: 30,
            acts: vec![
                act(1, "steady state", ActState::Held),
                act(2, "planned drain", ActState::Broken),
                act(3, "kill -9 of a primary", ActState::Playing),
                act(4, "all holders at once", ActState::Waiting),
            ],
            nodes: vec![
                NodeLine {
                    name: "n1".into(),
                    region: "eu".into(),
                    life: Life::Dead,
                    shadow_of: vec!["c2".into()],
                    ..NodeLine::default()
                },
                NodeLine {
                    name: "n2".into(),
                    region: "us".into(),
                    life: Life::Ready,
                    risk: Some(Ratio::saturating(0.42)),
                    primary_of: vec!["c1".into(), "c2".into()],
                    ..NodeLine::default()
                },
            ],
            clients: vec![ClientLine {
                name: "c1".into(),
                via: "n2".into(),
                download_bps: 16_200_000,
                recent: vec![0, 50, 100, 100],
                last_gap_ms: Some(142),
                longest_gap_ms: 221,
                quiet_ms: 9,
                http_per_second: 50,
                rtt_ms: Some(38),
                ..ClientLine::default()
            }],
            promises: vec![
                Promise::none("2", "datagrams lost", 1, "datagrams"),
                Promise::at_most("3", "silence, maximum", Some(221.0), 338.0, "ms"),
            ],
            ..ScreenState::default()
        };
        state.tell("kill -9 n1, the primary of c1");
        state.tell("c1 goes on through n2");
        state
    }

    #[test]
    fn a_wide_screen_shows_acts_and_narration_side_by_side() {
        let expected = "\x20\
the mesh heals itself                                                                round 2 of 30   1:01
──────────────────────────────────────────────────────────────────────────────────────────────────────────
 ✓ 1 steady state             61.5 s  kill -9 n1, the primary of c1
 ✗ 2 planned drain            61.5 s  c1 goes on through n2
 ▶ 3 kill -9 of a primary
 · 4 all holders at once

 ○ n1         eu        dead                  shadow of c2
 ● n2         us        ready     risk  42 %  ★ primary of c1, c2

 c1 via n2                       ▁▅██  16.2 Mbit/s  gap 142 ms  max 221   http 50/s  rtt  38 ms  tcp whole

 promises: 1 of 2 hold
   ✗ act 2: datagrams lost: 1 datagrams  (limit 0 datagrams)
   ✓ act 3: silence, maximum: 221 ms  (limit 338 ms)
";
        assert_eq!(render(&state(), 106), expected);
    }

    #[test]
    fn a_narrow_screen_puts_the_narration_below_the_acts() {
        let text = render(&state(), 40);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[5], " · 4 all holders at once");
        assert_eq!(lines[6], "  61.5 s  kill -9 n1, the primary of c1");
    }

    #[test]
    fn a_silent_client_is_loud() {
        let mut state = state();
        state.clients[0].quiet_ms = 120;
        assert!(render(&state, 150).contains("silent 120 ms"));
        assert!(render(&state, 150).contains("tcp whole"));
        state.clients[0].tcp_broken = 1;
        assert!(render(&state, 160).contains("tcp broken 1 wrong bytes 0"));
    }

    #[test]
    fn colours_add_nothing_but_colours() {
        let colour = render_colour(&state(), 100);
        let mut plain = String::new();
        let mut inside = false;
        for character in colour.chars() {
            match character {
                '\x1b' => inside = true,
                'm' if inside => inside = false,
                _ if inside => {}
                _ => plain.push(character),
            }
        }
        let plain: String = plain
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        assert_eq!(plain, render(&state(), 100));
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(width in 0_usize..200) {
            for line in render(&state(), width).lines() {
                prop_assert!(line.chars().count() <= width, "{line}");
            }
        }
    }
}
