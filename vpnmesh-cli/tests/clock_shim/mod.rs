//! A wrong clock. No namespace has a calendar of its own, so a library in front of the C library
//! takes some time away from single processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The library.
pub(crate) struct ClockShim(PathBuf);

impl ClockShim {
    /// Builds the library in `directory`, and makes sure that it works.
    pub(crate) fn build(directory: &Path) -> Self {
        let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]);
        let built = compiler.arg(&library).arg(&source).status().unwrap();
        assert!(built.success());
        let shim = Self(library);
        let mut date = Command::new("date");
        shim.set_back(date.arg("+%s"), DAY);
        let told = String::from_utf8(date.output().unwrap().stdout).unwrap();
        let told: u64 = told.trim().parse().unwrap();
        assert!(told + DAY / 2 < now(), "the clock did not go back");
        shim
    }

    /// The process that `command` starts lives so many seconds ago.
    pub(crate) fn set_back(&self, command: &mut Command, seconds: u64) {
        command
            .env("LD_PRELOAD", &self.0)
            .env("CLOCK_BACK_S", seconds.to_string());
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

pub(crate) const DAY: u64 = 86_400;
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    const char *back = getenv("CLOCK_BACK_S");
    if (!failed && clock == CLOCK_REALTIME && back)
        now->tv_sec -= atol(back);
    return failed;
}
"#;
