//! Draws the screen where the output goes.

use std::io::{self, IsTerminal, Write};

use super::{ActState, ScreenState, render_colour};
use crate::report::Promise;

/// How the screen is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Redrawn in place.
    Live,
    /// Only what is new, line by line: for files, pipes and dumb terminals.
    Lines,
    /// Not at all.
    Silent,
}

/// Draws the screen; errors of the output are ignored, as the run matters more than its picture.
pub struct Screen {
    mode: Mode,
    out: Box<dyn Write + Send>,
    size: fn() -> (usize, usize),
    drawn: usize, // lines on the terminal that the next drawing overwrites
    told: u64,
    playing: Option<(u32, u32)>, // round and act
    judged: Vec<Promise>,        // what was printed last
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Mode {
    /// Silent with `json`; live where standard output is a terminal that can be redrawn.
    #[must_use]
    pub fn detect(json: bool) -> Self {
        let term = std::env::var_os("TERM");
        Self::choose(
            json,
            io::stdout().is_terminal(),
            term.as_ref().and_then(|it| it.to_str()),
        )
    }

    fn choose(json: bool, terminal: bool, term: Option<&str>) -> Self {
        match (json, terminal, term) {
            (true, _, _) => Self::Silent,
            (false, false, _) | (false, true, None | Some("dumb" | "")) => Self::Lines,
            (false, true, Some(_)) => Self::Live,
        }
    }
}

impl Screen {
    /// Draws to standard output.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self::to(mode, io::stdout(), terminal_size)
    }

    fn to(mode: Mode, out: impl Write + Send + 'static, size: fn() -> (usize, usize)) -> Self {
        Self {
            mode,
            out: Box::new(out),
            size,
            drawn: 0,
            told: 0,
            playing: None,
            judged: Vec::new(),
        }
    }

    /// Shows `state`. Call it a few times a second.
    pub fn draw(&mut self, state: &ScreenState) {
        let text = match self.mode {
            Mode::Live => self.redrawn(state),
            Mode::Lines => self.news(state),
            Mode::Silent => return,
        };
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    /// The screen over what was drawn before, in one piece so that it does not flicker.
    fn redrawn(&mut self, state: &ScreenState) -> String {
        let (width, height) = (self.size)();
        let text = render_colour(state, width.saturating_sub(1));
        let lines: Vec<&str> = text.lines().take(height.saturating_sub(1)).collect();
        let mut out = String::from("\x1b[?2026h");
        if self.drawn > 0 {
            out.push_str(&format!("\x1b[{}A", self.drawn));
        }
        out.push('\r');
        for line in &lines {
            out.push_str(line);
            out.push_str("\x1b[K\n");
        }
        out.push_str("\x1b[J\x1b[?2026l");
        self.drawn = lines.len();
        out
    }

    /// What is new since the last drawing.
    fn news(&mut self, state: &ScreenState) -> String {
        let mut out = String::new();
        let playing = state.acts.iter().find(|act| act.state == ActState::Playing);
        let playing_key = playing.map(|act| (state.round, act.number));
        if let Some(act) = playing
            && self.playing != playing_key
        {
            let seconds = state.elapsed.as_secs_f64();
            out.push_str(&format!(
                "[{seconds:>6.1} s] act {}: {}\n",
                act.number, act.name
            ));
        }
        self.playing = playing_key.or(self.playing);
        let fresh = state.narration.told() - self.told.min(state.narration.told());
        for (at, line) in state
            .narration
            .newest(usize::try_from(fresh).unwrap_or(usize::MAX))
        {
            out.push_str(&format!("[{:>6.1} s]   {line}\n", at.as_secs_f64()));
        }
        self.told = state.narration.told();
        for promise in &state.promises {
            if !self.judged.contains(promise) {
                out.push_str(&verdict(promise));
            }
        }
        self.judged.clone_from(&state.promises);
        out
    }
}

fn verdict(promise: &Promise) -> String {
    format!(
        "             {} act {}: {}: {} {unit} (limit {} {unit})\n",
        if promise.held { "held  " } else { "BROKEN" },
        promise.act,
        promise.name,
        promise.value_text(),
        promise.limit_text(),
        unit = promise.unit,
    )
}

/// Columns and rows of the terminal at standard output.
fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => (100, 40),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::ActLine;
    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    fn state() -> ScreenState {
        let mut state = ScreenState {
            title: "title".into(),
            elapsed: Duration::from_millis(1500),
            acts: vec![ActLine {
                number: 4,
                name: "kill -9".into(),
                state: ActState::Playing,
            }],
            ..ScreenState::default()
        };
        state.tell("n1 is gone");
        state
    }

    #[test]
    fn the_mode_follows_the_output() {
        assert_eq!(Mode::choose(true, true, Some("xterm")), Mode::Silent);
        assert_eq!(Mode::choose(false, true, Some("xterm")), Mode::Live);
        assert_eq!(Mode::choose(false, true, Some("dumb")), Mode::Lines);
        assert_eq!(Mode::choose(false, true, None), Mode::Lines);
        assert_eq!(Mode::choose(false, false, Some("xterm")), Mode::Lines);
    }

    #[test]
    fn plain_lines_tell_only_what_is_new() {
        let paper = Paper::default();
        let mut screen = Screen::to(Mode::Lines, paper.clone(), || (80, 24));
        let mut state = state();
        screen.draw(&state);
        assert_eq!(
            paper.take(),
            "[   1.5 s] act 4: kill -9\n[   1.5 s]   n1 is gone\n"
        );
        screen.draw(&state);
        assert_eq!(paper.take(), "");
        state
            .promises
            .push(Promise::none("4", "tcp broken", 0, "connections"));
        screen.draw(&state);
        assert_eq!(
            paper.take(),
            "             held   act 4: tcp broken: 0 connections (limit 0 connections)\n"
        );
    }

    #[test]
    fn a_live_screen_goes_back_over_what_it_drew() {
        let paper = Paper::default();
        let mut screen = Screen::to(Mode::Live, paper.clone(), || (80, 24));
        screen.draw(&state());
        let first = paper.take();
        let lines = first.matches('\n').count();
        screen.draw(&state());
        let up = format!("\x1b[{lines}A");
        assert!(paper.take().contains(&up));
    }

    #[test]
    fn a_live_screen_never_outgrows_the_terminal() {
        let paper = Paper::default();
        let mut screen = Screen::to(Mode::Live, paper.clone(), || (80, 3));
        screen.draw(&state());
        assert_eq!(paper.take().matches('\n').count(), 2);
    }

    #[test]
    fn silence_is_silent() {
        let paper = Paper::default();
        Screen::to(Mode::Silent, paper.clone(), || (80, 24)).draw(&state());
        assert_eq!(paper.take(), "");
    }
}
