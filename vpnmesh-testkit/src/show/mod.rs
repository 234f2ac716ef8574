//! The main job: a whole mesh on one machine that is hurt in seven acts and heals each time.
//!
//! Five nodes in three regions, a controller, two clients and two sites run as processes of their
//! own in a [`crate::lab`] of namespaces, with real TUN devices and an emulated network
//! between them, and real [`traffic`](crate::traffic) over them all the time. [`main`] is a whole
//! program:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     vpnmesh_testkit::show::main()
//! }
//! ```
//!
//! `layout` says who stands where, `setup` brings them on stage, `acts` hurt them, `evidence` is
//! what that showed, and `judge` makes promises of it. `board` hears what the processes say, `crew`
//! starts and kills them, `roles` is what they do. Acts wait for conditions, and for time only
//! where a window of traffic is measured.

mod acts;
mod board;
mod crew;
mod endure;
mod evidence;
mod halt;
mod judge;
mod layout;
mod measure;
mod options;
mod play;
mod roles;
mod setup;
mod stage;
mod view;

use std::process::ExitCode;

pub use halt::Halt;
pub use options::{Options, Wrong};

use crate::lab;
use crate::report::table;

/// The main job as a whole program: reads the arguments, plays, prints, and says how it went.
///
/// Exit code 0 only if every promise held, 1 if not, 2 for arguments that cannot be meant, and
/// [`lab::REFUSED_EXIT_CODE`] where the machine refuses namespaces. The program is started again
/// for each process of the show, with a hidden argument.
#[must_use]
pub fn main() -> ExitCode {
    main_with(std::env::args().skip(1))
}

/// [`main`] with these arguments.
#[must_use]
pub fn main_with(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().collect();
    if let Some(done) = roles::perform(&arguments) {
        return done;
    }
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}\n{}", Options::USAGE);
            return ExitCode::from(USAGE_EXIT_CODE);
        }
    };
    let inside = lab::enter_or_exit("the mesh heals itself");
    match play::play(inside, &options) {
        Ok(report) => {
            if options.json {
                println!("{}", report.json());
            } else {
                println!("\n{}", table(&report));
                println!("report and timeline: {}", options.output.display());
            }
            ExitCode::from(u8::from(!report.ok))
        }
        Err(halt) => {
            eprintln!("the show cannot go on: {halt}");
            ExitCode::FAILURE
        }
    }
}

const USAGE_EXIT_CODE: u8 = 2;
