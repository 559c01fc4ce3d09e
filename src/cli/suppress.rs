//! `afterword suppress`: whom not to write to any more.

use std::path::PathBuf;
use std::pin::pin;

use clap::Subcommand;
use encoding_rs::Encoding;
use futures_util::TryStreamExt as _;

use super::{Exit, Global, import, output};
use crate::config::TextFormat;
use crate::context::Context;
use crate::db;
use crate::db::again::again;
use crate::import::run::once_more_if_taken_back;
use crate::invitations::suppression::import::{ImportReport, Options};
use crate::invitations::suppression::{self, Entry, Scope, SuppressionReason};
use crate::types::{EmailAddress, ShopId};

/// So many lines are shown on the screen unless more are asked for.
const SHOWN: i64 = 50;

/// Whom not to write to any more
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afterword suppress add claire@customer.example\n  \
    afterword suppress add claire@customer.example --shop maison\n  afterword suppress list --json\n  \
    afterword suppress import unsubscribed.csv --reason unsubscribed\n\n\
    The list holds hashes of addresses, so that it outlives an erasure. It is looked at when an order is decided about, and again\n\
    before a mail leaves. Unsubscribing and addresses that do not exist end up here by themselves, for the shop they are about.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Do not write to this address any more
    Add {
        /// The address
        #[arg(value_parser = super::address)]
        email: EmailAddress,
        /// Only by this shop; absent: by every shop, those that come later too
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
    },
    /// This address may be written to again
    Remove {
        /// The address
        #[arg(value_parser = super::address)]
        email: EmailAddress,
        /// Only by this shop; absent: by every shop
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
    },
    /// Who is on the list, the latest first
    List {
        /// Only whom this shop may not write to: its own list and that of every shop
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
        /// Show at most so many; absent: 50 on the screen, all of them with --json
        #[arg(short, value_parser = clap::value_parser!(i64).range(1..))]
        n: Option<i64>,
    },
    /// Take over the list of another tool
    Import(Box<Import>),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  afterword suppress import former-tool.csv --reason unsubscribed
  afterword suppress import addresses.txt --shop maison --dry-run
  cut -f3 export.tsv | afterword suppress import -

One address a line, or CSV whose header names the column (email, e-mail, address, adresse, …). An address may also be the SHA-256
of the address in lower case, as 64 hexadecimal digits. Who is on the list already stays there with the first reason, so that the
same file can be read again. Rows that cannot be taken are listed; the others go in.
Exit code: 0 done, 1 the file could not be read, 2 no such shop, 3 some rows were rejected.")]
struct Import {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only for this shop; absent: for every shop, those that come later too
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
    /// Why they are not to be written to
    #[arg(long, value_enum, default_value = "manual")]
    reason: SuppressionReason,
    /// The column of the addresses; without it, recognised by its name
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// What stands between the fields: one character, or tab; without it, recognised
    #[arg(long, value_name = "CHARACTER", value_parser = TextFormat::parse_delimiter)]
    delimiter: Option<u8>,
    /// Such as utf-8, windows-1252, utf-16le, for files that do not show it; without it, recognised
    #[arg(long, value_name = "NAME", value_parser = TextFormat::parse_encoding)]
    encoding: Option<&'static Encoding>,
    /// Do everything, and then take nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the rejected rows to this file, to be corrected and imported
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer.
pub async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let opened = super::open(global).await?;
    let exit = act(args.action, global, &opened.context).await;
    opened.close().await;
    exit
}

async fn act(action: Action, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let key = match &action {
        Action::Add { shop, .. } | Action::Remove { shop, .. } | Action::List { shop, .. } => shop,
        Action::Import(import) => &import.shop,
    };
    let shop = match key.as_deref().map(|key| context.shops.by_key(key)).transpose() {
        Ok(shop) => shop.map(|(id, _)| id),
        Err(unknown) => {
            output::say(&format!("error: {unknown}"));
            return Ok(Exit::Usage);
        }
    };
    let scope = shop.map_or(Scope::EveryShop, Scope::Shop);
    match action {
        Action::Add { email, .. } => add(scope, &email, context).await,
        Action::Remove { email, .. } => remove(shop, &email, context).await,
        Action::List { n, .. } => list(shop, n, global, context).await,
        Action::Import(args) => import(*args, scope, global, context).await,
    }
}

async fn add(scope: Scope, email: &EmailAddress, context: &Context) -> anyhow::Result<Exit> {
    let is_new = again(|| async {
        let mut conn = context.pool.acquire().await?;
        Ok(suppression::add_address(&mut conn, scope, email, context.clock.now()).await?)
    })
    .await?;
    output::say(match (is_new, scope) {
        (true, Scope::EveryShop) => "No shop writes to it any more.",
        (true, Scope::Shop(_)) => "This shop does not write to it any more.",
        (false, _) => "It was on the list already.",
    });
    Ok(Exit::Done)
}

async fn remove(shop: Option<ShopId>, email: &EmailAddress, context: &Context) -> anyhow::Result<Exit> {
    let (n_removed, left) = again(|| async {
        let mut transaction = context.pool.begin().await?;
        let n_removed = suppression::remove_address(&mut transaction, shop, email).await?;
        let left = suppression::of_address(&mut *transaction, email).await?;
        transaction.commit().await?;
        Ok((n_removed, left))
    })
    .await?;
    if shop.is_some() && left.iter().any(|line| line.shop.is_none()) {
        output::say(
            "It is still on the list of every shop, so this one does not write to it either; without --shop it is taken off all lists.",
        );
        return Ok(Exit::Done);
    }
    output::say(if n_removed > 0 { "It may be written to again." } else { "It was not on the list." });
    Ok(Exit::Done)
}

async fn list(
    shop: Option<ShopId>,
    n: Option<i64>,
    global: &Global,
    context: &Context,
) -> anyhow::Result<Exit> {
    // One more than is shown, to know whether there are more. Only a table has to have all of its rows before the first is shown.
    let shown = n.or((!global.json).then_some(SHOWN));
    let mut transaction = context.pool.begin().await?;
    db::lift_statement_timeout(&mut transaction).await?;
    let limit = shown.map(|shown| shown.saturating_add(1));
    let entries = pin!(suppression::list(&mut *transaction, shop, limit));
    if global.json {
        output::json_array(entries, shown).await?;
        return Ok(Exit::Done);
    }
    let mut rows: Vec<Entry> = entries.try_collect().await?;
    let shown = usize::try_from(shown.unwrap_or(SHOWN)).unwrap_or(usize::MAX);
    if rows.is_empty() {
        output::say("Nobody is on the list.");
        return Ok(Exit::Done);
    }
    if rows.len() > shown {
        rows.truncate(shown);
        output::say(&format!("There are more than these {shown}; -n shows more, --json all of them."));
    }
    let rows = rows.into_iter().map(|entry| {
        let since = entry.created_at.format("%F %R").to_string();
        let who = entry.email.unwrap_or_else(|| format!("{}… (a hash)", &entry.address_hash[..12]));
        let shop = entry.shop.unwrap_or_else(|| "every shop".to_owned());
        [shop, who, since, entry.reason.words().to_owned()]
    });
    output::data(&output::table(["shop", "address", "since (UTC)", "why"], rows))?;
    Ok(Exit::Done)
}

async fn import(args: Import, scope: Scope, global: &Global, context: &Context) -> anyhow::Result<Exit> {
    let options = Options {
        scope,
        reason: args.reason,
        column: args.column,
        text: TextFormat { delimiter: args.delimiter, encoding: args.encoding, ..TextFormat::default() },
        dry_run: args.dry_run,
        rejects: args.rejects,
    };
    let bar = import::progress_bar(&args.file);
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let now = context.clock.now();
    let import = || suppression::import::import(&context.pool, &args.file, &options, now, &progress);
    let imported = once_more_if_taken_back(&args.file, import).await;
    bar.finish_and_clear();
    let report = match imported {
        Ok(report) => report,
        Err(error) => {
            output::say(&format!("error: {}", import::sentence(&args.file, &error)));
            return Ok(Exit::Failed);
        }
    };
    if global.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(if report.n_rejected > 0 { Exit::Partial } else { Exit::Done })
}

fn print(report: &ImportReport) -> anyhow::Result<()> {
    let counts = [report.n_read, report.n_inserted, report.n_unchanged, report.n_rejected];
    let [read, inserted, unchanged, rejected] = counts.map(|n| n.to_string());
    let column = report.column.clone().unwrap_or_else(|| "one a line".to_owned());
    let row =
        [report.file_name.clone(), column, report.encoding.to_owned(), read, inserted, unchanged, rejected];
    let header = ["file", "addresses in", "encoding", "read", "new", "there already", "rejected"];
    output::data(&output::table(header, [row]))?;
    if report.encoding_guessed {
        output::say(&format!(
            "{}: the encoding {} is a guess; state it with --encoding if addresses look wrong",
            report.file_name, report.encoding
        ));
    }
    import::say_rejects(&report.file_name, &report.rejects, report.n_rejected);
    if report.dry_run {
        output::say(&format!("{}: dry run: nothing was taken", report.file_name));
    }
    Ok(())
}
