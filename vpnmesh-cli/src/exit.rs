//! How the program ends.

use std::process::ExitCode;

use vpnmesh::Error;
use vpnmesh::control::Error as ControlError;
use vpnmesh::transport::io::Error as IoError;

/// For `--help`.
pub(crate) const CODES: &str = "\
Exit codes:
  0  done, or ended by SIGTERM or SIGINT
  1  failed while running
  2  wrong arguments
  3  a settings, key or state file is missing, wrong or cannot be written
  4  a right, a port or a device is missing or in use
  5  the controller does not answer, or refused";

/// The exit code; an error becomes one line on standard error.
pub(crate) fn code(done: Result<(), Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vpnmesh: {}", line(&error));
            ExitCode::from(number(&error))
        }
    }
}

/// The exit code of `predict`: its errors speak of files, all of them.
pub(crate) fn prediction(done: Result<(), vpnmesh_predict::Error>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vpnmesh: {}", line(&error));
            ExitCode::from(FILES)
        }
    }
}

/// The error and its causes on one line.
fn line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

fn number(error: &Error) -> u8 {
    match error {
        Error::Unreadable { .. }
        | Error::Settings { .. }
        | Error::Invalid { .. }
        | Error::NoMembership { .. }
        | Error::Keys(_)
        | Error::Machine(_)
        | Error::Policy(_) => FILES,
        Error::Io(IoError::DriverDied | IoError::PacketIoEnded(_)) => FAILED,
        Error::Io(_) => RIGHTS,
        Error::Control(ControlError::Bind { .. }) => RIGHTS,
        Error::Control(
            ControlError::Unreachable { .. }
            | ControlError::Denied { .. }
            | ControlError::Refused(_)
            | ControlError::Malformed { .. },
        ) => CONTROLLER,
        Error::Control(ControlError::Stopped) => FAILED,
        Error::Control(_) => FILES,
        _ => FAILED,
    }
}

const FAILED: u8 = 1; // 2 is clap's
const FILES: u8 = 3;
const RIGHTS: u8 = 4;
const CONTROLLER: u8 = 5;
