//! Lines of coloured text that fit a width.

/// How a piece of text looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ink {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
    Accent,
}

/// One line of the screen.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Line {
    spans: Vec<(Ink, String)>,
}

impl Line {
    /// An empty line.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds text. Control characters become spaces, so that no name can draw on the screen.
    pub(super) fn add(mut self, ink: Ink, text: impl AsRef<str>) -> Self {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let text = text.as_ref().chars().map(clean).collect();
        self.spans.push((ink, text));
        self
    }

    /// Adds another line after this one, padded to `column`.
    pub(super) fn beside(mut self, column: usize, other: Self) -> Self {
        self = self.cut(column.saturating_sub(1)).pad(column);
        self.spans.extend(other.spans);
        self
    }

    /// Adds spaces until it is `width` long.
    pub(super) fn pad(mut self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.spans.push((Ink::Plain, " ".repeat(missing)));
        self
    }

    /// Cuts it to `width`, with an ellipsis where something was cut.
    pub(super) fn cut(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        let mut spans = Vec::new();
        for (ink, text) in self.spans {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            spans.push((ink, part));
        }
        let ellipsis = if width > 0 { "…" } else { "" };
        spans.push((Ink::Faint, ellipsis.to_owned()));
        Self { spans }
    }

    /// Its length; each character takes one column.
    pub(super) fn width(&self) -> usize {
        self.spans
            .iter()
            .map(|(_, text)| text.chars().count())
            .sum()
    }

    /// As text without colours, without spaces at the end.
    pub(super) fn plain(&self) -> String {
        let text: String = self.spans.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// As text with colours.
    pub(super) fn colour(&self) -> String {
        let mut out = String::new();
        for (ink, text) in &self.spans {
            match ink.code() {
                Some(code) => out.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => out.push_str(text),
            }
        }
        out
    }
}

impl Ink {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Accent => Some("1;36"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_cannot_draw_on_the_screen() {
        let line = Line::new().add(Ink::Plain, "a\x1b[2Jb\nc");
        assert_eq!(line.plain(), "a [2Jb c");
    }

    #[test]
    fn a_column_starts_where_it_should() {
        let line = Line::new().add(Ink::Plain, "left side");
        let line = line.beside(6, Line::new().add(Ink::Plain, "right"));
        assert_eq!(line.plain(), "left… right");
    }

    proptest! {
        #[test]
        fn a_cut_line_fits(parts in proptest::collection::vec("[a-zäß─]{0,12}", 0..5), width in 0_usize..40) {
            let line = parts.iter().fold(Line::new(), |line, part| line.add(Ink::Good, part));
            let whole = line.width();
            prop_assert_eq!(line.cut(width).width(), whole.min(width));
        }
    }
}
