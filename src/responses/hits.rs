//! Who opened which link of a mail, and with what kind of program: notes about visits, by which scanners are known. Never an address,
//! never what the program calls itself.
//!
//! No page waits for a note, and none fails because of one: they go through a bounded channel to a task that writes many at once, over a
//! connection of its own. What does not fit, or cannot be written, is lost and counted in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::masked;
use crate::types::{InvitationId, ShopId};

/// So many notes are kept of an invitation. A person leaves a dozen; a program that hammers a link would fill the disk.
pub const MOST_HITS: i64 = 200;
/// So many notes wait to be written at most.
const WAITING: usize = 4_096;
/// So many are written by one statement.
const AT_ONCE: usize = 1_000;
/// Notes gather for so long, so that a busy minute costs few commits. Shorter than a form takes to be read, so that what a visit has
/// opened is known when its form is judged.
const GATHER: Duration = Duration::from_millis(100);

/// One request for a page behind a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub at: DateTime<Utc>,
    pub method: HitMethod,
    pub page: HitPage,
    /// The answer that the link carries, as `recommend=yes`.
    pub answer: Option<String>,
    pub agent: AgentFamily,
}

/// How a page was asked for. The database's `hit_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "hit_method", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HitMethod {
    Get,
    Head,
    Options,
    Post,
    /// Anything else.
    Other,
}

/// Which page was asked for. The database's `hit_page`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "hit_page", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HitPage {
    Survey,
    Thanks,
    Withdrawal,
    Unsubscribe,
}

/// What kind of program asked. The database's `agent_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "agent_family", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AgentFamily {
    /// A browser on a desk.
    Browser,
    /// A browser on a phone or a tablet.
    Phone,
    /// Something that looks at links on behalf of others: mail filters, previews, crawlers.
    Scanner,
    /// A command or a library.
    Tool,
    /// It does not say.
    None,
    /// Something else.
    Other,
}

/// Words by which scanners and fetchers name themselves, in lower case. Mail filters after what their makers and senders' support pages
/// publish (Barracuda, Proofpoint, Mimecast, Cisco, Trend Micro, Sophos, Fortinet, Symantec, Forcepoint, Trellix, Kaspersky);
/// previews and crawlers after their documentation. Most filters call themselves a browser; those are known by what they do.
const SCANNERS: [&str; 33] = [
    "barracuda",
    "proofpoint",
    "mimecast",
    "ciscosecureemail",
    "ironport",
    "tmes",
    "trendmicro",
    "trend micro",
    "sophos",
    "fortimail",
    "fortiguard",
    "symantec",
    "messagelabs",
    "forcepoint",
    "websense",
    "trellix",
    "fireeye",
    "mcafee",
    "kaspersky",
    "checkpoint",
    "avanan",
    "safelinks",
    "microsoft office",
    "microsoft exchange",
    "msoffice",
    "urlscan",
    "virustotal",
    "headless",
    "phantomjs",
    "preview",
    "facebookexternal",
    "googleimageproxy",
    "yahoomailproxy",
];

/// Words of crawlers, which may stand inside other words.
const CRAWLERS: [&str; 4] = ["bot", "crawl", "spider", "scan"];

/// How commands and libraries begin.
const TOOLS: [&str; 16] = [
    "curl/",
    "wget/",
    "python",
    "go-http-client",
    "java/",
    "okhttp",
    "apache-httpclient",
    "jetty",
    "axios",
    "node",
    "undici",
    "ruby",
    "php",
    "libwww-perl",
    "lua-resty-http",
    "ureq",
];

impl AgentFamily {
    /// By what a request says about its program.
    pub fn of(agent: Option<&str>) -> Self {
        let agent = agent.unwrap_or_default().trim().to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| agent.contains(word));
        if agent.is_empty() {
            Self::None
        } else if has(&SCANNERS) || has(&CRAWLERS) {
            // Phones of the maker "Cubot" say so.
            if agent.contains("cubot") && !has(&SCANNERS) { Self::Phone } else { Self::Scanner }
        } else if TOOLS.iter().any(|tool| agent.starts_with(tool)) {
            Self::Tool
        } else if agent.starts_with("mozilla/") || agent.starts_with("opera/") {
            if has(&["mobile", "android", "iphone", "ipad"]) { Self::Phone } else { Self::Browser }
        } else {
            Self::Other
        }
    }
}

/// Takes notes.
#[derive(Debug)]
pub struct HitLog {
    notes: mpsc::Sender<Note>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Note {
    shop: ShopId,
    invitation: InvitationId,
    hit: Hit,
}

impl HitLog {
    /// Starts the task that writes, which connects as this pool does. It ends when the last note is written after the log was dropped.
    pub fn start(pool: &PgPool) -> (Self, JoinHandle<()>) {
        let (notes, received) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write_all(pool.connect_options(), received, Arc::clone(&lost)));
        (Self { notes, lost }, task)
    }

    /// Notes a hit; when there is no room, counts it as lost.
    pub fn note(&self, shop: ShopId, invitation: InvitationId, hit: Hit) {
        if self.notes.try_send(Note { shop, invitation, hit }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn write_all(options: Arc<PgConnectOptions>, mut received: mpsc::Receiver<Note>, lost: Arc<AtomicU64>) {
    let mut connection = None;
    let mut notes = Vec::with_capacity(AT_ONCE);
    while received.recv_many(&mut notes, AT_ONCE).await > 0 {
        let mut waited = Duration::ZERO;
        while notes.len() < AT_ONCE && waited < GATHER && !received.is_closed() {
            tokio::time::sleep(GATHER / 5).await;
            waited += GATHER / 5;
            while notes.len() < AT_ONCE
                && let Ok(note) = received.try_recv()
            {
                notes.push(note);
            }
        }
        if let Err(error) = write(&options, &mut connection, &notes).await {
            connection = None;
            lost.fetch_add(notes.len() as u64, Ordering::Relaxed);
            tracing::warn!(
                error = %masked::reason(&error.into()),
                "notes about visits could not be written; answers are not affected"
            );
        }
        notes.clear();
        say_lost(&lost);
    }
    say_lost(&lost);
    if let Some(connection) = connection {
        // Everything is written; a database that does not take leave is not worth a word.
        PgConnection::close(connection).await.ok();
    }
}

fn say_lost(lost: &AtomicU64) {
    let n = lost.swap(0, Ordering::Relaxed);
    if n > 0 {
        tracing::warn!(n_lost = n, "{n} notes about visits were lost");
    }
}

async fn write(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
    notes: &[Note],
) -> sqlx::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let mut new = options.connect().await?;
            // A note that a crash of the server takes with it changes nothing, so none waits for the disk.
            sqlx::raw_sql("set synchronous_commit = off").execute(&mut new).await?;
            // Made for a table that is all but empty, a plan that is kept would read all of it for each invitation later on.
            sqlx::raw_sql("set enable_seqscan = off").execute(&mut new).await?;
            connection.insert(new)
        }
    };
    sqlx::query!(
        r#"with new as (
             select *, row_number() over (partition by shop_id, invitation_id order by n) as nth
             from unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::hit_method[], $5::hit_page[], $6::text[], $7::agent_family[])
               with ordinality as h (shop_id, invitation_id, at, method, page, answer, agent, n)
           ), known as (
             select shop_id, invitation_id, (
               select count(*) from hit where hit.shop_id = i.shop_id and hit.invitation_id = i.invitation_id
             ) as n_kept
             from (select distinct shop_id, invitation_id from new) i
           ), kept as (
             insert into hit (shop_id, invitation_id, at, method, page, answer, agent)
             select shop_id, invitation_id, at, method, page, answer, agent
             from new join known using (shop_id, invitation_id)
             where n_kept + nth <= $8
             order by n
           )
           insert into hit_dropped (shop_id, invitation_id, n)
           select shop_id, invitation_id, count(*) from new join known using (shop_id, invitation_id)
           where n_kept + nth > $8
           group by shop_id, invitation_id
           on conflict (shop_id, invitation_id) do update set n = hit_dropped.n + excluded.n"#,
        &notes.iter().map(|note| note.shop.0).collect::<Vec<_>>(),
        &notes.iter().map(|note| note.invitation.0).collect::<Vec<_>>(),
        &notes.iter().map(|note| note.hit.at).collect::<Vec<_>>(),
        &notes.iter().map(|note| note.hit.method).collect::<Vec<_>>() as &[HitMethod],
        &notes.iter().map(|note| note.hit.page).collect::<Vec<_>>() as &[HitPage],
        &notes.iter().map(|note| note.hit.answer.clone()).collect::<Vec<_>>() as &[Option<String>],
        &notes.iter().map(|note| note.hit.agent).collect::<Vec<_>>() as &[AgentFamily],
        MOST_HITS,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The hits on each of these invitations since a moment, by invitation.
///
/// # Errors
/// When the database does not answer.
pub async fn since(
    conn: &mut PgConnection,
    invitations: impl Iterator<Item = (ShopId, InvitationId, DateTime<Utc>)>,
) -> sqlx::Result<HashMap<(ShopId, InvitationId), Vec<Hit>>> {
    let (mut shops, mut ids, mut moments) = (Vec::new(), Vec::new(), Vec::new());
    for (shop, id, moment) in invitations {
        shops.push(shop.0);
        ids.push(id.0);
        moments.push(moment);
    }
    let rows = sqlx::query!(
        r#"select h.shop_id as "shop: ShopId", h.invitation_id as "invitation: InvitationId", h.at, h.method as "method: HitMethod",
             h.page as "page: HitPage", h.answer, h.agent as "agent: AgentFamily"
           from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as i (shop_id, invitation_id, since)
           join hit h on h.shop_id = i.shop_id and h.invitation_id = i.invitation_id and h.at >= i.since
           order by h.hit_id"#,
        &shops,
        &ids,
        &moments,
    )
    .fetch_all(conn)
    .await?;
    let mut hits: HashMap<_, Vec<Hit>> = HashMap::new();
    for row in rows {
        let hit =
            Hit { at: row.at, method: row.method, page: row.page, answer: row.answer, agent: row.agent };
        hits.entry((row.shop, row.invitation)).or_default().push(hit);
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        use AgentFamily::{Browser, None, Other, Phone, Scanner, Tool};
        for (agent, family) in [
            ("", None),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
                Browser,
            ),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", Browser),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
                Phone,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; CUBOT P80) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
                Phone,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36",
                Scanner,
            ),
            ("Mozilla/5.0 (compatible; bingbot/2.0)", Scanner),
            ("Barracuda Sentinel (EE)", Scanner),
            ("Mozilla/4.0 (compatible; ms-office; Microsoft Office 16)", Scanner),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/51.0 Safari/537.36 BingPreview/1.0b",
                Scanner,
            ),
            ("Slackbot-LinkExpanding 1.0", Scanner),
            ("curl/8.5.0", Tool),
            ("python-requests/2.32.3", Tool),
            ("Lynx/2.9.0dev.12 libwww-FM/2.14", Other),
        ] {
            assert_eq!(AgentFamily::of(Some(agent)), family, "{agent}");
        }
        assert_eq!(AgentFamily::of(Option::None), None);
    }
}
