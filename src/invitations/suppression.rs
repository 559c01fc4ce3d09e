//! The do-not-contact list, a shop's and that of every shop. It holds hashes of addresses, so that it outlives an erasure without keeping
//! the address; the decision and every claim look at it.

pub mod import;

use chrono::{DateTime, Utc};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};

use crate::types::{CustomerId, EmailAddress, ShopId};

/// Whose list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every shop's, those that come later too.
    EveryShop,
    /// One shop's.
    Shop(ShopId),
}

impl Scope {
    /// The shop's number as the list has it; 0 is every shop.
    pub fn shop_id(self) -> i32 {
        match self {
            Self::EveryShop => 0,
            Self::Shop(shop) => shop.0,
        }
    }
}

/// Why an address is not written to any more. The database's `suppression_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, clap::ValueEnum)]
#[sqlx(type_name = "suppression_reason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum SuppressionReason {
    Unsubscribed,
    Bounced,
    Complained,
    Manual,
    Erased,
}

impl SuppressionReason {
    /// What a person reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unsubscribed => "the customer unsubscribed",
            Self::Bounced => "the address does not take mail",
            Self::Complained => "the customer called a mail spam",
            Self::Manual => "put on the do-not-contact list by hand",
            Self::Erased => "the customer was erased",
        }
    }
}

/// Puts a customer on the shop's do-not-contact list; the first reason stays.
///
/// # Errors
/// When the database does not answer.
pub async fn add(
    conn: &mut PgConnection,
    shop: ShopId,
    customer: CustomerId,
    reason: SuppressionReason,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into suppression (shop_id, address_hash, reason, created_at)
         select shop_id, sha256(convert_to(email_key, 'UTF8')), $3, $4
         from customer where shop_id = $1 and customer_id = $2 and email_key is not null
         on conflict do nothing",
        shop.0,
        customer.0,
        reason as SuppressionReason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Puts an address on a list, whether it is a customer's or not. `false`: it was there.
///
/// # Errors
/// When the database does not answer.
pub async fn add_address(
    conn: &mut PgConnection,
    scope: Scope,
    address: &EmailAddress,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let added = sqlx::query!(
        "insert into suppression (shop_id, address_hash, reason, created_at)
         values ($1, $2, 'manual', $3) on conflict do nothing",
        scope.shop_id(),
        &address.hash(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Takes an address off one list, or off every list there is: that of every shop and each shop's. Comes back with how many it was on.
///
/// # Errors
/// When the database does not answer.
pub async fn remove_address(
    conn: &mut PgConnection,
    only: Option<ShopId>,
    address: &EmailAddress,
) -> sqlx::Result<u64> {
    let removed = sqlx::query!(
        "delete from suppression where address_hash = $2 and ($1::int is null or shop_id = $1)",
        only.map(|shop| shop.0),
        &address.hash(),
    )
    .execute(conn)
    .await?;
    Ok(removed.rows_affected())
}

/// A line of a list that an address is on.
#[derive(Debug, Clone, Serialize)]
pub struct Suppressed {
    /// The shop's key; `None`: every shop.
    pub shop: Option<String>,
    pub reason: SuppressionReason,
    pub created_at: DateTime<Utc>,
}

/// The lines an address is on: that of every shop, and those of the shops.
///
/// # Errors
/// When the database does not answer.
pub async fn of_address(db: impl PgExecutor<'_>, address: &EmailAddress) -> sqlx::Result<Vec<Suppressed>> {
    sqlx::query_as!(
        Suppressed,
        r#"select shop.key as "shop?", s.reason as "reason: SuppressionReason", s.created_at
           from suppression s left join shop using (shop_id)
           where s.address_hash = $1
           order by s.shop_id"#,
        &address.hash(),
    )
    .fetch_all(db)
    .await
}

/// The lines a customer is on, of those that the shop minds.
///
/// # Errors
/// When the database does not answer.
pub async fn of_customer(
    db: impl PgExecutor<'_>,
    shop: ShopId,
    customer: CustomerId,
) -> sqlx::Result<Vec<Suppressed>> {
    sqlx::query_as!(
        Suppressed,
        r#"select shop.key as "shop?", s.reason as "reason: SuppressionReason", s.created_at
           from customer c
           join suppression s on s.shop_id in (0, c.shop_id) and s.address_hash = sha256(convert_to(c.email_key, 'UTF8'))
           left join shop on shop.shop_id = s.shop_id
           where c.shop_id = $1 and c.customer_id = $2
           order by s.shop_id"#,
        shop.0,
        customer.0,
    )
    .fetch_all(db)
    .await
}

/// A line of a list.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// `every_shop` or `shop`.
    pub scope: String,
    /// The shop's key; `None`: every shop.
    pub shop: Option<String>,
    /// The address, where a customer has it; the list itself knows only hashes.
    pub email: Option<String>,
    /// SHA-256 of the address in lower case, as hexadecimal digits.
    pub address_hash: String,
    pub reason: SuppressionReason,
    pub created_at: DateTime<Utc>,
}

/// Who is on the lists, the latest first: on all of them, or on those that a shop minds, its own and that of every shop. One after the
/// other, because a list taken over from another tool can be long.
pub fn list<'c>(
    db: impl PgExecutor<'c> + 'c,
    of: Option<ShopId>,
    limit: Option<i64>,
) -> impl Stream<Item = sqlx::Result<Entry>> + 'c {
    // Addresses are found by one hash join; under every shop's list an address may be that of a customer of several.
    sqlx::query_as!(
        Entry,
        r#"with known as (
               select shop_id, sha256(convert_to(email_key, 'UTF8')) as address_hash, email
               from customer where email_key is not null
               union all
               select 0, sha256(convert_to(email_key, 'UTF8')), min(email)
               from customer
               where email_key is not null and exists (select from suppression where shop_id = 0)
               group by email_key
           )
           select case when s.shop_id = 0 then 'every_shop' else 'shop' end as "scope!", shop.key as "shop?",
               known.email as "email?", encode(s.address_hash, 'hex') as "address_hash!",
               s.reason as "reason: SuppressionReason", s.created_at
           from suppression s
           left join shop using (shop_id)
           left join known on known.shop_id = s.shop_id and known.address_hash = s.address_hash
           where $1::int is null or s.shop_id in (0, $1)
           order by s.created_at desc, s.shop_id, s.address_hash
           limit $2"#,
        of.map(|shop| shop.0),
        limit,
    )
    .fetch(db)
}
