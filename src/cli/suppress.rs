//! `afterword suppress`: whom not to write to any more.

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Global, output};
use crate::context::Context;
use crate::invitations::suppression;
use crate::types::{EmailAddress, ShopId};

/// Whom not to write to any more
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  afterword suppress add claire@customer.example\n  \
    afterword suppress add claire@customer.example --shop maison\n  afterword suppress list --json\n\n\
    The list holds hashes of addresses. It is looked at when an order is decided about, and again before a mail leaves.\n\
    Unsubscribing and addresses that do not exist end up here by themselves.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Do not write to this address any more
    Add(Whom),
    /// This address may be written to again
    Remove(Whom),
    /// Who is on the list, the latest first
    List {
        /// Only of this shop
        #[arg(long, value_name = "KEY")]
        shop: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Whom {
    /// The address
    #[arg(value_parser = address)]
    email: EmailAddress,
    /// Only by this shop; absent: by every shop
    #[arg(long, value_name = "KEY")]
    shop: Option<String>,
}

fn address(text: &str) -> Result<EmailAddress, String> {
    EmailAddress::parse(text).map_err(|wrong| format!("it {wrong}"))
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
    let (Action::Add(Whom { shop, .. }) | Action::Remove(Whom { shop, .. }) | Action::List { shop }) =
        &action;
    let Some(shops) = super::shops(context, shop.as_deref()) else { return Ok(Exit::Usage) };
    let shops: Vec<(ShopId, &str)> = shops.into_iter().map(|(id, shop)| (id, shop.key.as_str())).collect();
    match &action {
        Action::Add(whom) => {
            let mut transaction = context.pool.begin().await?;
            let mut n_new = 0;
            for (shop, _) in &shops {
                let is_new =
                    suppression::add_address(&mut transaction, *shop, &whom.email, context.clock.now())
                        .await?;
                n_new += usize::from(is_new);
            }
            transaction.commit().await?;
            output::say(if n_new > 0 {
                "It is not written to any more."
            } else {
                "It was on the list already."
            });
        }
        Action::Remove(whom) => {
            let mut transaction = context.pool.begin().await?;
            let mut n_removed = 0;
            for (shop, _) in &shops {
                let was_there = suppression::remove_address(&mut transaction, *shop, &whom.email).await?;
                n_removed += usize::from(was_there);
            }
            transaction.commit().await?;
            output::say(if n_removed > 0 {
                "It may be written to again."
            } else {
                "It was not on the list."
            });
        }
        Action::List { .. } => list(&shops, global, context).await?,
    }
    Ok(Exit::Done)
}

async fn list(shops: &[(ShopId, &str)], global: &Global, context: &Context) -> anyhow::Result<()> {
    let mut conn = context.pool.acquire().await?;
    let mut entries = Vec::new();
    for (id, shop) in shops {
        entries.extend(suppression::list(&mut conn, *id).await?.into_iter().map(|entry| (*shop, entry)));
    }
    if global.json {
        let entries = entries.iter().map(|(shop, entry)| {
            json!({
                "shop": shop,
                "email": entry.email,
                "address_hash": entry.address_hash,
                "reason": entry.reason,
                "created_at": entry.created_at,
            })
        });
        return output::json(&entries.collect::<Vec<_>>());
    }
    if entries.is_empty() {
        output::say("Nobody is on the list.");
        return Ok(());
    }
    let rows = entries.into_iter().map(|(shop, entry)| {
        let since = entry.created_at.format("%F %R").to_string();
        let who = entry.email.unwrap_or_else(|| format!("{}… (a hash)", &entry.address_hash[..12]));
        [shop.to_owned(), who, since, entry.reason.words().to_owned()]
    });
    output::data(&output::table(["shop", "address", "since (UTC)", "why"], rows))
}
