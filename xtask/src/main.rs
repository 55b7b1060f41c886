//! The command line: one file per command.
//!
//! | module | command |
//! |---|---|
//! | [`e2e`] | run the suites and report |
//! | [`compare`] | how a chart on disk differs from our manifests |
//! | [`chart`] | a chart on disk, as typed |
//! | [`manifests`] | render the chart |
//! | [`cluster`] | an embedded cluster to work on |
//! | [`matrix`] | the jobs of a CI pipeline |
//! | [`doctor`] | which clusters this machine can run trials on |
//! | [`sweep`] | remove what killed runs left behind |
//! | [`bench`] | how fast the embedded cluster is |
//! | [`report`] | merge, compare, show and recover reports |
//! | [`cli`], [`cluster_args`] | what can be typed |
//! | [`exit`] | what the exit codes mean |

mod bench;
mod chart;
mod cli;
mod cluster;
mod cluster_args;
mod compare;
mod doctor;
mod e2e;
mod exit;
mod manifests;
mod matrix;
mod report;
mod sweep;
#[cfg(test)]
mod workflows;

use std::process::ExitCode;

use clap::Parser;

/// JSON and Kubernetes' types are thousands of small allocations to an object; with the C library's allocator they took a
/// fifth of the API server's and the harness's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's `mi_option_purge_delay`, for which its bindings have no name: after how many milliseconds memory that is not
/// used goes back to the system, by default 1000.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has memory go back at once. The supervisor of a hundred pods keeps a sixth less, and a run takes as long.
#[expect(unsafe_code, reason = "options are set through the allocator's C interface")]
fn keep_little_memory() {
    // SAFETY: the option is a number, and nobody else sets or reads it: there is no other thread yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

fn main() -> ExitCode {
    // First of all, before any thread exists: an embedded cluster is made of further copies of this executable.
    keep_little_memory();
    embedded_cluster::supervisor::reexec();
    let arguments = cli::Arguments::parse();
    match arguments.command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", harness::trial::run::format_error(&error));
            exit::code_of(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[expect(unsafe_code, reason = "options are read through the allocator's C interface")]
    fn the_number_of_the_option_is_that_of_the_purge_delay() {
        // SAFETY: reads a number.
        let default = unsafe { libmimalloc_sys::mi_option_get(super::PURGE_DELAY) };
        assert_eq!(default, 1000, "no other option is 1000 unless it is set");
    }
}
