//! What the show is asked to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What the show is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How often acts 2 to 6 are played. Default 1; 30 gives the samples that the silence promises
    /// speak of.
    pub rounds: u32,
    /// Prints the report alone.
    pub json: bool,
    /// The acts to play; empty for all. Acts 1 and 7 are cheap to leave out, but then nothing
    /// measures the quiet mesh or the loss of all holders.
    pub acts: Vec<u32>,
    /// The seed of every random choice of the network.
    pub seed: u64,
    /// Plays the steady state alone for so long, with loss and full processors.
    pub endure: Option<Duration>,
    /// Where the report and the picture go. Default `target/self-healing`.
    pub output: PathBuf,
    /// Keeps the settings, the state and what the processes said.
    pub keep: bool,
}

/// An argument that cannot be meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Nobody knows it.
    Unknown(String),
    /// Its value is missing, or makes no sense.
    Value {
        /// The argument.
        argument: &'static str,
        /// What it takes.
        takes: &'static str,
    },
}

impl std::error::Error for Wrong {}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "{argument:?} is no argument here"),
            Self::Value { argument, takes } => write!(f, "{argument} takes {takes}"),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rounds: 1,
            json: false,
            acts: Vec::new(),
            seed: 1,
            endure: None,
            output: PathBuf::from("target/self-healing"),
            keep: false,
        }
    }
}

impl Options {
    /// Reads the arguments of a command line, without the program's name.
    ///
    /// # Errors
    /// [`Wrong`] names the first argument that cannot be meant.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Wrong> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = true,
                "--keep" => options.keep = true,
                "--rounds" => options.rounds = ROUNDS.number(arguments.next())?,
                "--seed" => options.seed = SEED.number(arguments.next())?,
                "--act" => options.acts.push(ACT.number(arguments.next())?),
                "--endure" => {
                    let minutes: u32 = ENDURE.number(arguments.next())?;
                    options.endure = Some(Duration::from_secs(60) * minutes);
                }
                "--output" => {
                    let path = arguments.next().ok_or(Wrong::Value {
                        argument: "--output",
                        takes: "a directory",
                    })?;
                    options.output = path.into();
                }
                _ => return Err(Wrong::Unknown(argument)),
            }
        }
        Ok(options)
    }

    /// Whether act `number` is to be played.
    #[must_use]
    pub fn plays(&self, number: u32) -> bool {
        self.acts.is_empty() || self.acts.contains(&number)
    }

    /// The arguments, one a line, for people.
    pub const USAGE: &str = "\
arguments:
  --rounds N         play acts 2 to 6 N times (30 for the promises about percentiles)
  --act N            play act N only; may be given again
  --json             print the report alone
  --seed N           the seed of losses and jitter
  --endure MINUTES   steady state alone, with loss and full processors
  --output DIR       where report.json and timeline.svg go
  --keep             keep settings, state and logs of all processes";
}

/// An argument that takes a whole number.
struct Number {
    argument: &'static str,
    takes: &'static str,
    least: u64,
    most: u64,
}

impl Number {
    fn number<T: TryFrom<u64>>(&self, value: Option<String>) -> Result<T, Wrong> {
        let number = value.and_then(|value| value.parse().ok());
        let fits = number.filter(|number| (self.least..=self.most).contains(number));
        let number = fits.and_then(|number| T::try_from(number).ok());
        number.ok_or(Wrong::Value {
            argument: self.argument,
            takes: self.takes,
        })
    }
}

const ROUNDS: Number = Number {
    argument: "--rounds",
    takes: "a number from 1 to 1000",
    least: 1,
    most: 1000,
};
const SEED: Number = Number {
    argument: "--seed",
    takes: "a number",
    least: 0,
    most: u64::MAX,
};
const ACT: Number = Number {
    argument: "--act",
    takes: "a number from 1 to 7",
    least: 1,
    most: 7,
};
const ENDURE: Number = Number {
    argument: "--endure",
    takes: "minutes, from 1 to 1440",
    least: 1,
    most: 1440,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Wrong> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_arguments_all_acts_are_played_once() {
        let options = parse("").unwrap();
        assert_eq!(options, Options::default());
        assert!((1..=7).all(|act| options.plays(act)));
    }

    #[test]
    fn arguments_are_understood_in_any_order() {
        let options = parse("--act 4 --rounds 30 --json --act 5 --seed 9 --endure 60").unwrap();
        assert_eq!((options.rounds, options.json, options.seed), (30, true, 9));
        assert!(options.plays(4) && options.plays(5) && !options.plays(1));
        assert_eq!(options.endure, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let said = |line| parse(line).unwrap_err().to_string();
        assert_eq!(said("--loud"), "\"--loud\" is no argument here");
        assert_eq!(said("--rounds"), "--rounds takes a number from 1 to 1000");
        assert_eq!(said("--rounds 0"), "--rounds takes a number from 1 to 1000");
        assert_eq!(said("--act eight"), "--act takes a number from 1 to 7");
    }
}
