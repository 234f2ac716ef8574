//! One round of the main job, as a user runs it: all seven acts, all promises.
//!
//! No test harness: the program under test starts itself again for each process of the mesh. A
//! machine that refuses namespaces leaves the suite out and says why; with `CI=true` that is a
//! failure unless the kernel lacks them.

use std::process::{Command, ExitCode};

use vpnmesh_testkit::lab::{self, REFUSED_EXIT_CODE};
use vpnmesh_testkit::show;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|argument| argument == "--role" || argument == PLAY)
    {
        return show::main_with(arguments.into_iter().filter(|argument| argument != PLAY));
    }
    let Ok(program) = std::env::current_exe() else {
        println!("self_healing: the path of this program is unknown");
        return ExitCode::FAILURE;
    };
    let output = std::env::temp_dir().join(format!("self-healing-{}", std::process::id()));
    let played = Command::new(program)
        .arg(PLAY)
        .arg("--output")
        .arg(&output)
        .status();
    let code = played.ok().and_then(|status| status.code());
    if code == Some(REFUSED_EXIT_CODE) {
        return left_out();
    }
    let passed = code == Some(0);
    println!(
        "self_healing::all_promises_hold ... {}",
        if passed { "ok" } else { "FAILED" }
    );
    println!("{} passed, {} failed", u8::from(passed), u8::from(!passed));
    if !passed {
        println!("the report is in {}", output.display());
        return ExitCode::FAILURE;
    }
    let _a_rest_in_the_temporary_directory = std::fs::remove_dir_all(output);
    ExitCode::SUCCESS
}

/// The show has said why.
fn left_out() -> ExitCode {
    println!("LEFT OUT: self_healing: this machine refuses namespaces");
    println!("{}", lab::probe_report());
    let lacks = lab::enter().is_err_and(|refusal| refusal.kernel_lacks_it());
    let demanded = std::env::var("CI").is_ok_and(|ci| ci == "true") && !lacks;
    println!("0 passed, {} failed", u8::from(demanded));
    ExitCode::from(u8::from(demanded))
}

/// The hidden argument of the process that plays.
const PLAY: &str = "--play";
