//! `afterword erase`: a person's right to be forgotten.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::{Exit, Global, output};
use crate::erasure::{self, Erased};
use crate::jobs::counted;
use crate::types::EmailAddress;

/// Erase a person: address, names, words and mails go, the figures stay
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  afterword erase claire@customer.example\n  afterword erase claire@customer.example --shop maison --yes\n\n\
    What was ordered and which answers were chosen stays, without saying by whom, so that no figure changes. A hash of the address stays\n\
    on the do-not-contact list; files from before the erasure that are imported later do not bring the person back.\n\
    Files that hold the address and are not the program's own are named, to be dealt with by hand.\n\
    Exit code: 0 done, also when nobody has this address; 1 failed; 2 no such shop, or not confirmed."
)]
pub struct Args {
    /// The person's address
    #[arg(value_parser = super::address)]
    email: EmailAddress,
    /// Only in this shop; absent: in every shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// Do not ask whether it is meant
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer, or a file cannot be removed.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    if !args.yes && !confirmed()? {
        return Ok(Exit::Usage);
    }
    let opened = super::open(global).await?;
    let context = &opened.context;
    let erased = match super::shops(context, args.shop.as_deref()) {
        Some(shops) => Some(erasure::erase(context, &shops, &args.email).await),
        None => None,
    };
    opened.close().await;
    let Some(erased) = erased.transpose()? else { return Ok(Exit::Usage) };
    if global.json {
        output::json(&erased)?;
    } else {
        output::data(&in_words(&erased))?;
    }
    Ok(Exit::Done)
}

/// It cannot be undone.
fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        output::say("error: this cannot be undone; say that it is meant with --yes");
        return Ok(false);
    }
    let mut stderr = io::stderr();
    write!(stderr, "This cannot be undone. Erase this person? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let meant = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    if !meant {
        output::say("Nothing was erased.");
    }
    Ok(meant)
}

fn in_words(erased: &Erased) -> String {
    let mut text = if erased.n_customers == 0 {
        "Nobody has this address.\n".to_owned()
    } else {
        format!(
            "Erased in {}: the names and the address, {} in words; {} without a name now.\n",
            counted(erased.n_customers, "shop"),
            counted(erased.n_texts, "answer"),
            counted(erased.n_orders, "order"),
        )
    };
    let mut line = |n: u64, of: &str, what: &str| {
        if n > 0 {
            text.push_str(&format!("{} {what}.\n", counted(n, of)));
        }
    };
    line(erased.n_mails_stopped, "mail", "that waited will not be sent");
    line(erased.n_mails_in_data, "mail", "was being sent at this moment and cannot be called back");
    line(erased.n_mail_files, "mail", "that had been written as a file removed");
    line(erased.n_rejects, "rejected row", "of imports emptied");
    line(
        erased.n_published,
        "testimonial",
        "had been exported: the next export leaves it out; take it down where it was published",
    );
    if !erased.files_left.is_empty() {
        text.push_str("These files still hold the address; remove them, or take it out of them:\n");
        for file in &erased.files_left {
            text.push_str(&format!("  {}\n", file.display()));
        }
    }
    text
}
