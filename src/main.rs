//! The command line: says what to do, prints what came of it, and exits 0 (fine), 1 (the answer is no) or 2 (could not be done).

mod cli;

use std::process::ExitCode;

use clap::Parser;

/// The database panics over pages that make no sense, and our own message says of which file, and what to do: only that one is printed.
fn print_other_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !projections::embedded::panic_becomes_an_error() {
            print(panic);
        }
    }));
}

fn main() -> ExitCode {
    print_other_panics();
    let args = cli::Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weir: the process could not start its threads: {error}");
            return ExitCode::from(2);
        }
    };
    let done = runtime.block_on(cli::run(args));
    // It ends with the process: whatever could not be closed in time, as a request held it, would panic without it.
    std::mem::forget(runtime);
    match done {
        Ok(cli::Answer::Yes) => ExitCode::SUCCESS,
        Ok(cli::Answer::No) => ExitCode::from(1),
        Err(error) => {
            eprintln!("weir: {error}");
            ExitCode::from(2)
        }
    }
}
