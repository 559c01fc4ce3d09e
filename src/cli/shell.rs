//! `afterword completions` and `afterword man`, both made from the help.

use clap::CommandFactory as _;

use super::{Cli, Exit, output};

/// Write completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  afterword completions bash > /etc/bash_completion.d/afterword")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Writes completions to standard output.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "afterword", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// Writes the manual page to standard output: the program, then each command.
///
/// # Errors
/// When standard output cannot be written.
pub fn man() -> anyhow::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let title = subcommand.get_name().to_uppercase();
        let man = clap_mangen::Man::new(subcommand.clone());
        page.extend_from_slice(format!(".SH {title}\n").as_bytes());
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    output::data(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}
