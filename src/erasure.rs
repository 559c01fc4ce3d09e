//! A person is erased (GDPR, article 17): what names them goes, in every stage, and the figures stay.
//!
//! Goes: the address and the names, the words and the name given with an answer, what the shop replied to them, what relays and mail systems said, mails that wait, rejected
//! rows that hold the address, and mails that were written as files. Stays: the order with its number, dates, amounts and attributes, the
//! decision, the scores and choices, and a hash of the address, by which the do-not-contact list and the imports know whom not to bring
//! back. One transaction for each shop: all of it or, if we die, none, and erasing again finishes it. A mail whose final dot may have been
//! written already cannot be called back; any other that a sender holds is taken from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use crate::config::Shop;
use crate::context::Context;
use crate::db::{self, Turn, again};
use crate::types::{CustomerId, EmailAddress, InvitationId, OrderId, ResponseId, ShopId};

/// What was erased, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// In how many shops the person was a customer.
    pub n_customers: u64,
    pub n_orders: u64,
    /// Answers in words.
    pub n_texts: u64,
    /// Mails that waited and are not sent.
    pub n_mails_stopped: u64,
    /// Of these, mails whose final dot may have been written.
    pub n_mails_in_data: u64,
    /// Mails that had been written as files.
    pub n_mail_files: u64,
    /// Rejected rows of imports.
    pub n_rejects: u64,
    /// Testimonials that were in an export: the next one leaves them out, and whoever published them has to take them down.
    pub n_published: u64,
    /// Files below the data directory and the jobs' folders that still hold the address: those that were imported, and what others put there.
    pub files_left: Vec<PathBuf>,
}

/// Erases whoever has this address in these shops.
///
/// # Errors
/// When the database does not answer, an import is under way, or a mail that was written as a file cannot be removed.
pub async fn erase(
    context: &Context,
    shops: &[(ShopId, &Shop)],
    address: &EmailAddress,
) -> anyhow::Result<Erased> {
    let mut erased = Erased::default();
    let now = context.clock.now();
    for (shop, _) in shops {
        let (in_one, mail_files) = again::again(|| async {
            let mut erased = erased.clone();
            let mut tx = context.pool.begin().await?;
            // An import that has looked for its customers already would bring this one back.
            db::take_turn(&mut tx, Turn::Imports, *shop)
                .await
                .context("an import is under way; try again when it has ended")?;
            let mail_files = in_shop(&mut tx, *shop, address, now, &mut erased).await?;
            tx.commit().await?;
            anyhow::Ok((erased, mail_files))
        })
        .await?;
        erased = in_one;
        for invitation in mail_files {
            let file = context.config.outbox_dir().join(format!("{shop}-{invitation}.eml"));
            match std::fs::remove_file(&file) {
                Ok(()) => erased.n_mail_files += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("removing {}", file.display())),
            }
        }
    }
    let (folders, key) = (context.config.folders(), address.key());
    erased.files_left = tokio::task::spawn_blocking(move || holding(folders, &key)).await??;
    Ok(erased)
}

/// Erases in one shop; comes back with the mails that may lie about as files.
async fn in_shop(
    conn: &mut PgConnection,
    shop: ShopId,
    address: &EmailAddress,
    now: DateTime<Utc>,
    erased: &mut Erased,
) -> sqlx::Result<Vec<InvitationId>> {
    let key = address.key();
    // Rejected rows may be of somebody who never became a customer.
    erased.n_rejects += sqlx::query!(
        r#"update import_reject set "row" = '(erased)' where shop_id = $1 and strpos(lower("row"), $2) > 0"#,
        shop.0,
        key,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    // Answers that wait for an order of the person, under whatever name.
    erased.n_texts += sqlx::query!(
        r#"delete from response_aside where shop_id = $1 and (email_key = $2 or strpos(lower("row"), $2) > 0)"#,
        shop.0,
        key,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    // Whoever answers or is about to be mailed holds this row, or waits for it.
    let customer = sqlx::query_scalar!(
        r#"update customer
           set email = null, email_key = null, first_name = null, last_name = null, erased_at = $3, erased_hash = $4
           where shop_id = $1 and email_key = $2
           returning customer_id as "customer_id: CustomerId""#,
        shop.0,
        key,
        now,
        &address.hash(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(customer) = customer else {
        // Who was erased before, and whose files could not be removed then.
        return sqlx::query_scalar!(
            r#"select i.invitation_id as "invitation: InvitationId"
               from customer c join invitation i using (shop_id, customer_id)
               where c.shop_id = $1 and c.erased_hash = $2"#,
            shop.0,
            &address.hash(),
        )
        .fetch_all(conn)
        .await;
    };
    erased.n_customers += 1;
    sqlx::query!(
        "insert into suppression (shop_id, address_hash, reason, created_at) values ($1, $2, 'erased', $3)
         on conflict do nothing",
        shop.0,
        &address.hash(),
        now,
    )
    .execute(&mut *conn)
    .await?;

    let orders = sqlx::query_scalar!(
        r#"select order_id as "order_id: OrderId" from "order" where shop_id = $1 and customer_id = $2"#,
        shop.0,
        customer.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    let orders: Vec<i64> = orders.into_iter().map(|order| order.0).collect();
    erased.n_orders += orders.len() as u64;
    stop_mails(conn, shop, customer, &orders, erased).await?;

    // What was said about these orders, and by the links of mails to this person, whosever the order is now.
    let responses = sqlx::query_scalar!(
        r#"select response_id as "response_id: ResponseId" from response r
           where shop_id = $1 and (order_id = any($2) or exists (
               select from invitation i
               where i.shop_id = $1 and i.invitation_id = r.invitation_id and i.customer_id = $3))"#,
        shop.0,
        &orders,
        customer.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    let responses: Vec<i64> = responses.into_iter().map(|response| response.0).collect();
    erased.n_texts += sqlx::query!(
        "update answer set body = '' where shop_id = $1 and response_id = any($2) and body <> ''",
        shop.0,
        &responses,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    sqlx::query!(
        "update response set display_name = null where shop_id = $1 and response_id = any($2) and display_name is not null",
        shop.0,
        &responses,
    )
    .execute(&mut *conn)
    .await?;
    // What the shop answers may name the person.
    sqlx::query!("delete from reply where shop_id = $1 and response_id = any($2)", shop.0, &responses)
        .execute(&mut *conn)
        .await?;
    erased.n_mails_stopped += sqlx::query!(
        "update rejection set state = 'cancelled', settled_at = $3, claimed_by = null, lease_until = null
         where shop_id = $1 and response_id = any($2) and state = 'queued'",
        shop.0,
        &responses,
        now,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    let n_published = sqlx::query_scalar!(
        r#"select count(*) as "n!" from testimonial
           where shop_id = $1 and response_id = any($2) and published_at is not null"#,
        shop.0,
        &responses,
    )
    .fetch_one(&mut *conn)
    .await?;
    erased.n_published += u64::try_from(n_published).unwrap_or_default();
    sqlx::query_scalar!(
        r#"select invitation_id as "invitation: InvitationId" from invitation where shop_id = $1 and customer_id = $2"#,
        shop.0,
        customer.0,
    )
    .fetch_all(conn)
    .await
}

/// No mail that is not on its way leaves any more, and what was said about those that were is forgotten.
async fn stop_mails(
    conn: &mut PgConnection,
    shop: ShopId,
    customer: CustomerId,
    orders: &[i64],
    erased: &mut Erased,
) -> sqlx::Result<()> {
    // A sender that holds one finds its fence outgrown before the final dot.
    erased.n_mails_stopped += sqlx::query!(
        "update invitation
         set state = 'suppressed', reason = 'no_address', claimed_by = null, lease_until = null, fence = fence + 1
         where shop_id = $1 and (customer_id = $2 or order_id = any($3)) and state in ('queued', 'deferred', 'claimed')",
        shop.0,
        customer.0,
        orders,
    )
    .execute(&mut *conn)
    .await?
    .rows_affected();
    let n_in_data = sqlx::query_scalar!(
        r#"select count(*) as "n!" from invitation where shop_id = $1 and customer_id = $2 and state = 'in_data'"#,
        shop.0,
        customer.0,
    )
    .fetch_one(&mut *conn)
    .await?;
    erased.n_mails_in_data += u64::try_from(n_in_data).unwrap_or_default();
    sqlx::query!(
        "update invitation set remind_at = null
         where shop_id = $1 and (customer_id = $2 or order_id = any($3)) and remind_at is not null",
        shop.0,
        customer.0,
        orders,
    )
    .execute(&mut *conn)
    .await?;
    // Relays and mail systems write about people in words of their own.
    sqlx::query!(
        "update attempt set text = '(erased)' from invitation i
         where attempt.shop_id = $1 and i.shop_id = $1 and i.invitation_id = attempt.invitation_id and i.customer_id = $2
             and attempt.text <> ''",
        shop.0,
        customer.0,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update bounce set reason = '(erased)' from invitation i
         where bounce.shop_id = $1 and i.shop_id = $1 and i.invitation_id = bounce.invitation_id and i.customer_id = $2",
        shop.0,
        customer.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The files below these folders in which a text stands, in lower case or in capitals, in UTF-8 or UTF-16. The private Postgres is no such
/// file: what it held is gone with the next cleaning of its tables.
fn holding(mut folders: Vec<PathBuf>, wanted: &str) -> anyhow::Result<Vec<PathBuf>> {
    let wanted = [
        wanted.as_bytes().to_vec(),
        wanted.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        wanted.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    ];
    // By the one name that each has, whatever way led to it.
    let mut found = BTreeMap::new();
    folders.reverse();
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // A mailbox, or the file of an export.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                // In a pipe nothing lies, and reading it might never end.
                let holds =
                    || io::Result::Ok(std::fs::metadata(&folder)?.is_file() && contains(&folder, &wanted)?);
                if holds().with_context(|| format!("reading {}", folder.display()))? {
                    found.entry(std::fs::canonicalize(&folder)?).or_insert(folder);
                }
                continue;
            }
            entries => entries.with_context(|| format!("reading {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && entry.file_name() != "postgres" {
                folders.push(path);
            } else if kind.is_file()
                && contains(&path, &wanted).with_context(|| format!("reading {}", path.display()))?
            {
                found.entry(std::fs::canonicalize(&path)?).or_insert(path);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn contains(path: &Path, wanted: &[Vec<u8>]) -> io::Result<bool> {
    let longest = wanted.iter().map(Vec::len).max().unwrap_or_default();
    let mut file = File::open(path)?;
    let mut window = Vec::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        let n = file.read(&mut block)?;
        if n == 0 {
            return Ok(false);
        }
        window.extend(block[..n].iter().map(u8::to_ascii_lowercase));
        if wanted.iter().any(|wanted| window.windows(wanted.len()).any(|bytes| bytes == wanted)) {
            return Ok(true);
        }
        // The end may be the beginning of it.
        window.drain(..window.len().saturating_sub(longest.saturating_sub(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_wherever_it_stands_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in/done/orders.csv");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for at in [0, 1, 64 * 1024 - 5, 64 * 1024, 200_000] {
            std::fs::write(&path, [&vec![b'x'; at][..], b"Claire@Customer.example;"].concat()).unwrap();
            let found = holding(vec![folder.path().to_owned()], "claire@customer.example").unwrap();
            assert_eq!(found, [path.as_path()], "at {at}");
        }
        let in_utf_16 = "\u{feff}id;email\r\n1;Claire@customer.example\r\n".encode_utf16();
        std::fs::write(&path, in_utf_16.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        // A folder and one below it name a file once.
        let folders = vec![folder.path().to_owned(), folder.path().join("in")];
        assert_eq!(holding(folders, "claire@customer.example").unwrap(), [path.as_path()]);
        assert!(holding(vec![folder.path().to_owned()], "hugo@customer.example").unwrap().is_empty());
        assert!(holding(vec![folder.path().join("nothing")], "x").unwrap().is_empty());
    }
}
