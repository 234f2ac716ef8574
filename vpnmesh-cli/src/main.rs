//! The `vpnmesh` program: runs the roles of a mesh, makes its keys, looks at it and changes it.
//!
//! Every error is one line on standard error that names the thing and the way out. Exit codes:
//! see [`exit`].

mod admin;
mod arguments;
mod exit;
mod keys;
mod predict;
mod roles;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_standard_error();
    let done = match arguments.command {
        Command::Keygen(options) => keys::keygen(&options),
        Command::Provision(options) => keys::provision(&options),
        Command::Controller(options) => roles::controller(&options),
        Command::Node(options) => roles::node(&options),
        Command::Client(options) => roles::client(&options),
        Command::Site(options) => roles::site(&options),
        Command::Tunnel(options) => roles::tunnel(options),
        Command::Psk(options) => roles::psk(options),
        Command::Status(options) => admin::status(&options),
        Command::Explain(options) => admin::explain(&options),
        Command::Drain(options) => admin::drain(&options),
        Command::Undrain(options) => admin::undrain(&options),
        Command::Remove(options) => admin::remove(&options),
        Command::Forget(options) => admin::forget(&options),
        Command::Freeze(options) => admin::freeze(&options),
        Command::Thaw(options) => admin::thaw(&options),
        Command::Predict(command) => return exit::prediction(predict::run(&command)),
    };
    exit::code(done)
}

/// Warnings of the libraries, by default; `RUST_LOG` says otherwise.
fn log_to_standard_error() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    lines.init();
}
