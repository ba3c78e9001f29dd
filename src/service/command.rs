//! What the command line of every program has: `--version`, shell completions and man pages made from one source.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory, Subcommand};
use clap_complete::Shell;

use super::files;

/// Commands that every program has besides its own.
#[derive(Debug, Subcommand)]
pub enum Common {
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages, one for each command, to a directory
    Man {
        /// The directory; it is made
        directory: PathBuf,
    },
}

// === impl Common ===

impl Common {
    /// Carries the command out for the program whose arguments are `P`.
    ///
    /// # Errors
    /// When the pages cannot be written.
    pub fn run<P: CommandFactory>(&self) -> anyhow::Result<()> {
        let mut program = P::command();
        match self {
            Self::Completions { shell } => {
                let name = program.get_name().to_owned();
                clap_complete::generate(*shell, &mut program, name, &mut io::stdout());
                Ok(())
            }
            Self::Man { directory } => write_pages(program, directory),
        }
    }
}

fn write_pages(program: Command, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| files::cannot("make directory", directory, error))?;
    clap_mangen::generate_to(program, directory).map_err(|error| files::cannot("write to", directory, error))?;
    Ok(())
}
