//! The command line: one file per command.
//!
//! | module | command |
//! |---|---|
//! | [`e2e`] | run the suites and report |
//! | [`compare`] | the differences between a chart on disk and our manifests |
//! | [`chart`] | a chart on disk, as typed |
//! | [`manifests`] | render the chart |
//! | [`cluster`] | an embedded cluster to work on |
//! | [`matrix`] | the jobs of a CI pipeline |
//! | [`doctor`] | the clusters that this machine can run trials on |
//! | [`sweep`] | remove what killed runs left behind |
//! | [`storm`] | kill runs at random moments, and check for traces |
//! | [`mod@bench`] | the speed of the embedded cluster |
//! | [`report`] | merge, compare, show and recover reports |
//! | [`tidy`] | rules about the source tree |
//! | [`checkout`] | the source tree that developers' commands work on |
//! | [`cli`], [`cluster_args`] | the grammar of the command line |
//! | [`signals`] | signals that end a run early |
//! | [`limits`] | descriptors, processes and memory of this process |
//! | [`exit`] | the meanings of exit codes |

mod bench;
mod chart;
mod checkout;
mod cli;
mod cluster;
mod cluster_args;
mod compare;
mod doctor;
mod e2e;
mod exit;
mod limits;
mod manifests;
mod matrix;
mod report;
mod signals;
mod storm;
mod sweep;
mod tidy;
#[cfg(test)]
mod workflows;

use std::process::ExitCode;

use clap::Parser;

/// mimalloc, because JSON and Kubernetes' types need thousands of small allocations per object.
/// With the C library's allocator they took a fifth of the API server's and the harness's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's `mi_option_purge_delay`, which its bindings do not name. It is the delay in
/// milliseconds until unused memory returns to the system (default 1000).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Returns unused memory at once. The supervisor of a hundred pods keeps a sixth less, and a run
/// takes no longer.
#[expect(unsafe_code, reason = "options are set through the allocator's C interface")]
fn keep_little_memory() {
    // SAFETY: the option is a number, and there is no other thread yet that could use it.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

fn main() -> ExitCode {
    // These come first, before any thread exists: an embedded cluster consists of copies of this
    // executable.
    keep_little_memory();
    embedded_cluster::supervisor::reexec();
    let arguments = cli::Arguments::parse();
    match arguments.command.run() {
        Ok(code) => code,
        Err(error) => {
            let text = harness::trial::format_error(&error);
            eprintln!("error: {}", harness::report::printable::printable(&text));
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
