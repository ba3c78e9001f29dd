//! `users`: make and list them.

use clap::Subcommand;
use serde_json::json;

use super::Options;
use crate::lab::{
    control::Running,
    users::{Name, Users},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a user, and print its password; one that exists keeps its own
    Add {
        /// NAME@SERVER or @NAME:SERVER
        #[arg(value_name = "USER")]
        user: String,
        /// Let it use Synapse's admin API
        #[arg(long)]
        admin: bool,
    },
    /// List the users with their passwords
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(options: &Options, command: Command) -> anyhow::Result<()> {
    let places = options.places()?;
    let mut users = Users::read(&places)?;
    match command {
        Command::Add { user, admin } => {
            let name = Name::parse(&user)?;
            let running = Running::require(&places)?;
            users.ensure(&places, &running.network, &[(name.clone(), admin)]).await?;
            let id = name.id();
            for (_, user) in users.iter().filter(|(known, _)| *known == id) {
                println!("{id} {}", user.password().expose());
            }
            eprintln!("The password is kept in {}", places.users().display());
        }
        Command::List { json: true } => {
            let list: Vec<_> = users
                .iter()
                .map(|(id, user)| json!({ "user": id, "password": user.password().expose(), "admin": user.admin }))
                .collect();
            println!("{}", serde_json::to_string_pretty(&list)?);
        }
        Command::List { json: false } => {
            for (id, user) in users.iter() {
                let role = if user.admin { " (administrator)" } else { "" };
                println!("{id} {}{role}", user.password().expose());
            }
        }
    }
    Ok(())
}
