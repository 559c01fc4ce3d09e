//! How far the orders of a window came: decided about, asked, reached, answered, commented, free to be published.

use serde::Serialize;
use sqlx::PgConnection;

use super::series::Subject;

/// Orders that were placed in the window and not cancelled or refunded; each step is some of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Funnel {
    pub orders: i64,
    /// They became due: whether to ask was decided.
    pub due: i64,
    /// The relay took a first mail about it.
    pub sent: i64,
    /// That mail did not come back, or was answered.
    pub delivered: i64,
    /// A person answered on the page.
    pub answered: i64,
    /// In words, too.
    pub commented: i64,
    /// And agreed to their publication.
    pub consented: i64,
}

impl Funnel {
    /// Each step with its name.
    pub fn steps(&self) -> [(&'static str, i64); 7] {
        let Self { orders, due, sent, delivered, answered, commented, consented } = *self;
        [
            ("Orders", orders),
            ("Due", due),
            ("Mail sent", sent),
            ("Delivered", delivered),
            ("Answered", answered),
            ("Commented", commented),
            ("May be published", consented),
        ]
    }
}

pub(super) async fn count(conn: &mut PgConnection, subject: &Subject<'_>) -> sqlx::Result<Funnel> {
    let span = subject.span;
    sqlx::query_file_as!(Funnel, "src/metrics/funnel.sql", subject.shop.0, span.as_of, span.from, span.to)
        .fetch_one(conn)
        .await
}
