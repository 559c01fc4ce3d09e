//! Arguments, logging, exit code; nothing else.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    afterword::cli::main(afterword::cli::Cli::parse()).into()
}
