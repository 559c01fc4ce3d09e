//! The report that people look at: of a shop with much, with little and with nothing to tell.

use std::collections::BTreeSet;

use scraper::{ElementRef, Html, Selector};
use serde_json::Value;
use sqlx::PgPool;

use crate::support::browser::{Browser, DESK, NARROW, PHONE};
use crate::support::factories::{self, at};
use crate::support::program::Program;

const CONFIG: &str = r#"
[app]
base_url = "http://127.0.0.1:8080"
[database]
[mail]
transport = "file"
[[shop]]
key = "much"
name = "Maison <Exemple> & fils"
locale = "fr"
timezone = "Europe/Paris"
from = "avis@much.example"
url = "https://much.example"
[[shop]]
key = "little"
name = "Little"
locale = "en"
timezone = "UTC"
from = "reviews@little.example"
url = "https://little.example"
[[shop]]
key = "none"
name = "None"
locale = "en"
timezone = "America/Sao_Paulo"
from = "reviews@none.example"
url = "https://none.example"
[survey.recommend]
trigger = "fulfilled"
delay = "7d"
recommendation = { question = "recommend", yes = ["yes"] }
[[survey.recommend.question]]
key = "recommend"
type = "recommend"
text = { en = "Would you recommend us?", fr = "Nous recommanderiez-vous ?" }
[[survey.recommend.question]]
key = "rating"
type = "rating"
text = { en = "Overall", fr = "En général" }
[[survey.recommend.question]]
key = "nps"
type = "nps"
text = { en = "How likely?", fr = "Quelle probabilité ?" }
[[survey.recommend.question]]
key = "topic"
type = "choice"
choices = ["delivery", "product", { key = "price", text = { en = "The price <&>", fr = "Le prix <&>" } }]
text = { en = "What went wrong?", fr = "Qu’est-ce qui n’allait pas ?" }
[[survey.recommend.question]]
key = "comment"
type = "text"
text = { en = "Tell us", fr = "Dites-nous" }
"#;

/// The moment of all reports here.
const AS_OF: &str = "2026-06-03T10:00:00Z";

/// So many orders of two years with what followed them, the same in every run: nine of ten recommend, and fewer in the last weeks.
async fn fill(pool: &PgPool, key: &str, orders: i32) {
    let shop = factories::shop(pool, key).await;
    let version = factories::survey_version(pool, shop, factories::SURVEY).await;
    let fill = r#"
        create function pg_temp.dice(n int, salt int) returns float8 language sql immutable
            as $$ select (hashint4(n * 31 + salt * 7919) & 2147483647) / 2147483648.0 $$;
        insert into customer (shop_id, email, email_key)
            select SHOP, 'c' || n || '@shop.example', 'c' || n || '@shop.example' from generate_series(1, greatest(ORDERS / 2, 1)) n;
        insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, total, currency, items, locale, country,
                             attributes, import_run_id, imported_at, updated_at)
            select SHOP, 'A-' || n, c.customer_id, t, t + interval '2 days',
                   case when pg_temp.dice(n, 9) < 0.03 then 'cancelled' else 'fulfilled' end::order_status, 4990, 'EUR', '{P-1}', 'fr', 'FR', '{}', 1, t, t
            from generate_series(1, ORDERS) n
            cross join lateral (select timestamptz '2024-06-05 08:00Z' + interval '727 days' * (n::float8 / ORDERS) as t) m
            join customer c on c.shop_id = SHOP and c.email_key = 'c' || (1 + floor(pg_temp.dice(n, 1) ^ 1.6 * greatest(ORDERS / 2, 1)))::int || '@shop.example';
        insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at, next_attempt_at,
                                attempts, message_id, sent_at)
            select shop_id, order_id, customer_id, 'recommend', 0, VERSION, 'sent', t, t, t, 1, '<' || shop_id || '.' || order_id || '@shop.example>', t
            from "order" cross join lateral (select fulfilled_at + interval '7 days' as t) m
            where shop_id = SHOP and status = 'fulfilled' and fulfilled_at + interval '7 days' < '2026-06-03';
        insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict, locale,
                              answered_at, received_at, consent_version)
            select shop_id, order_id, 'recommend', VERSION, invitation_id, 1, true, 'page', 'human', 'fr', t, t,
                   case when pg_temp.dice(order_id::int, 3) < 0.5 then '2026-01' end
            from invitation cross join lateral (select sent_at + interval '1 day' as t) m
            where shop_id = SHOP and sent_at < '2026-06-02' and pg_temp.dice(order_id::int, 2) < 0.38;
        create temp table said as
            select response_id, order_id::int as n,
                   pg_temp.dice(order_id::int, 4) < case when answered_at > '2026-02-10' then 0.72 else 0.9 end as yes
            from response where shop_id = SHOP;
        insert into answer (shop_id, response_id, question, score, choice, body)
            select SHOP, response_id, 'recommend', null::int, case when yes then 'yes' else 'no' end, null from said
            union all
            select SHOP, response_id, 'rating', case when yes then 4 + (n % 2) else 1 + n % 3 end, null, null from said
            union all
            select SHOP, response_id, 'nps', case when yes then 8 + (n % 3) else n % 7 end, null, null from said
            union all
            select SHOP, response_id, 'topic', null, case when n % 3 = 0 then 'product' when n % 7 = 1 then 'price' else 'delivery' end, null from said where not yes
            union all
            select SHOP, response_id, 'comment', null, null, 'Well.' from said where pg_temp.dice(n, 5) < 0.6;
        drop table said;
        drop function pg_temp.dice;
    "#;
    let fill = fill
        .replace("ORDERS", &orders.to_string())
        .replace("SHOP", &shop.0.to_string())
        .replace("VERSION", &version.0.to_string());
    if orders > 0 {
        sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(pool).await.unwrap();
    }
}

async fn ratings(pool: &PgPool, key: &str) {
    let shop = factories::shop(pool, key).await;
    let sql = "insert into rating (shop_id, source, rated_on, score, scale, ratings, imported_at, updated_at)
               select $1, source, day::date, high - 0.1 * (n % 5) - case when n > 90 then 0.3 else 0 end, 10, 1000 + 12 * n, day, day
               from generate_series(0, 103) n, (values ('fianet', 9.7), ('other guide', 9.1)) s (source, high),
                    lateral (select timestamptz '2024-06-06' + n * interval '7 days' as day) d";
    sqlx::query(sql).bind(shop).execute(pool).await.unwrap();
}

/// The three shops.
async fn program() -> Program {
    let program = Program::new(CONFIG).await;
    fill(&program.db.pool, "much", 4000).await;
    ratings(&program.db.pool, "much").await;
    fill(&program.db.pool, "little", 5).await;
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn look() {
    let program = program().await;
    for (name, args) in [
        ("much-fr", &["--shop", "much", "--locale", "fr"][..]),
        (
            "much-en-weeks",
            &["--shop", "much", "--from", "2025-12-01", "--to", "2026-06-01", "--locale", "en"],
        ),
        ("all-en", &["--locale", "en"]),
    ] {
        let file = format!("{name}.html");
        let all = [&["--as-of", AS_OF, "report", "--html", &file][..], args].concat();
        program.run(&all).expect(0);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(program.path(&file), folder.join(format!("report-{file}"))).unwrap();
    }
}
