//! Made-up rows with sensible defaults: a test names only what it is about.

use afterword::types::{CustomerId, InvitationId, OrderId, ResponseId, ShopId, SurveyVersionId};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

/// The survey that the factories use where none is named.
pub const SURVEY: &str = "recommend";

/// A fixed moment: `at("2026-03-01T09:00:00Z")`.
pub fn at(moment: &str) -> DateTime<Utc> {
    moment.parse().unwrap()
}

/// The shop with this key, made if it is not there.
pub async fn shop(pool: &PgPool, key: &str) -> ShopId {
    let sql = "insert into shop (key, name) values ($1, initcap($1))
               on conflict on constraint shop_key_key do update set key = excluded.key returning shop_id";
    sqlx::query_scalar(sql).bind(key).fetch_one(pool).await.unwrap()
}

/// The customer with this address, made if it is not there: Claire Duval.
pub async fn customer(pool: &PgPool, shop: ShopId, email: &str) -> CustomerId {
    let sql = "insert into customer (shop_id, email, email_key, first_name, last_name)
               values ($1, $2, lower($2), 'Claire', 'Duval')
               on conflict on constraint customer_email_key do update set email = excluded.email returning customer_id";
    sqlx::query_scalar(sql).bind(shop).bind(email).fetch_one(pool).await.unwrap()
}

/// An order: `Order { status: "cancelled", ..Order::new(shop, customer, "A-1") }.insert(&pool).await`.
#[derive(Debug, Clone)]
pub struct Order {
    pub shop: ShopId,
    pub customer: CustomerId,
    pub external_id: String,
    pub ordered_at: DateTime<Utc>,
    pub fulfilled_at: Option<DateTime<Utc>>,
    pub status: &'static str,
    pub total: Option<i64>,
    pub currency: Option<&'static str>,
    pub items: Vec<String>,
    pub locale: Option<&'static str>,
    pub country: Option<&'static str>,
    pub attributes: serde_json::Value,
}

impl Order {
    /// Ordered on 1 March 2026, delivered on the 3rd, 49.90 EUR.
    pub fn new(shop: ShopId, customer: CustomerId, external_id: &str) -> Self {
        Self {
            shop,
            customer,
            external_id: external_id.to_owned(),
            ordered_at: at("2026-03-01T09:00:00Z"),
            fulfilled_at: Some(at("2026-03-03T15:00:00Z")),
            status: "fulfilled",
            total: Some(4990),
            currency: Some("EUR"),
            items: vec!["P-100".to_owned()],
            locale: Some("fr"),
            country: Some("FR"),
            attributes: serde_json::json!({}),
        }
    }

    /// Ordered at this moment, delivered two days later.
    pub fn ordered_at(self, moment: &str) -> Self {
        let ordered_at = at(moment);
        Self { ordered_at, fulfilled_at: Some(ordered_at + TimeDelta::days(2)), ..self }
    }

    /// Writes it, as an import of its own.
    pub async fn insert(self, pool: &PgPool) -> OrderId {
        let sql = r#"insert into "order" (shop_id, external_id, customer_id, ordered_at, fulfilled_at, status, total, currency,
                       items, locale, country, attributes, import_run_id, imported_at, updated_at)
                   select $1, $2, $3, $4, $5, $6::order_status, $7, $8, $9, $10, $11, $12,
                       (select coalesce(max(import_run_id), 0) + 1 from "order" where shop_id = $1), $4, $4
                   returning order_id"#;
        sqlx::query_scalar(sql)
            .bind(self.shop)
            .bind(self.external_id)
            .bind(self.customer)
            .bind(self.ordered_at)
            .bind(self.fulfilled_at)
            .bind(self.status)
            .bind(self.total)
            .bind(self.currency)
            .bind(self.items)
            .bind(self.locale)
            .bind(self.country)
            .bind(self.attributes)
            .fetch_one(pool)
            .await
            .unwrap()
    }
}

/// The reference questionnaire: recommend, rating, topic when "no", comment, consent. As JSON, so that a test can change it.
pub fn questionnaire() -> serde_json::Value {
    let question = |key: &str, kind: serde_json::Value, text: [&str; 2]| {
        let mut question = serde_json::json!({
            "key": key, "required": false, "in_mail": false, "when": null, "text": { "fr": text[0], "en": text[1] },
        });
        question.as_object_mut().unwrap().append(&mut kind.as_object().unwrap().clone());
        question
    };
    let mut questions = vec![
        question(
            "recommend",
            serde_json::json!({ "type": "recommend" }),
            ["Recommanderiez-vous {{shop.name}} ?", "Would you recommend {{shop.name}}?"],
        ),
        question("rating", serde_json::json!({ "type": "rating" }), ["Votre note", "Your rating"]),
        question(
            "topic",
            serde_json::json!({ "type": "choice", "choices": [
                { "key": "product", "text": null }, { "key": "delivery", "text": null }, { "key": "service", "text": null } ] }),
            ["Qu'est-ce qui vous a déplu ?", "What went wrong?"],
        ),
        question(
            "comment",
            serde_json::json!({ "type": "text", "max_length": 2000 }),
            ["Votre avis", "Your words"],
        ),
        question(
            "consent",
            serde_json::json!({ "type": "consent", "version": "2026-01" }),
            ["Vous pouvez publier mon avis", "You may publish my words"],
        ),
    ];
    questions[0]["required"] = true.into();
    questions[0]["in_mail"] = true.into();
    questions[2]["when"] = serde_json::json!({ "question": "recommend", "answers": ["no"] });
    serde_json::json!({ "questions": questions })
}

/// The version of [`questionnaire`] under the name of this survey, made if it is not there.
pub async fn survey_version(pool: &PgPool, shop: ShopId, survey: &str) -> SurveyVersionId {
    let sql = "insert into survey_version (shop_id, survey, digest, questionnaire, created_at)
               values ($1, $2, sha256($3::text::bytea), $3, '2026-01-01')
               on conflict on constraint survey_version_digest_key do update set survey = excluded.survey
               returning survey_version_id";
    sqlx::query_scalar(sql).bind(shop).bind(survey).bind(questionnaire()).fetch_one(pool).await.unwrap()
}

/// A mail about this order that the relay took at this moment.
pub async fn sent_invitation(
    pool: &PgPool,
    shop: ShopId,
    order: OrderId,
    sent_at: DateTime<Utc>,
) -> InvitationId {
    let version = survey_version(pool, shop, SURVEY).await;
    let sql = r#"insert into invitation (shop_id, order_id, customer_id, survey, wave, survey_version_id, state, due_at, decided_at,
                   next_attempt_at, attempts, message_id, sent_at)
               select shop_id, order_id, customer_id, $3, 0, $4, 'sent', $5, $5, $5, 1, '<' || order_id || '@shop.example>', $5
               from "order" where shop_id = $1 and order_id = $2 returning invitation_id"#;
    sqlx::query_scalar(sql)
        .bind(shop)
        .bind(order)
        .bind(SURVEY)
        .bind(version)
        .bind(sent_at)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// An answered questionnaire: `Response { recommend: Some("no"), ..Response::new(shop, order) }.insert(&pool).await`.
#[derive(Debug, Clone)]
pub struct Response {
    pub shop: ShopId,
    pub order: OrderId,
    pub survey: String,
    pub invitation: Option<InvitationId>,
    pub revision: i32,
    pub counted: bool,
    pub via: &'static str,
    pub verdict: &'static str,
    pub locale: &'static str,
    pub answered_at: DateTime<Utc>,
    pub consent_version: Option<&'static str>,
    pub display_name: Option<&'static str>,
    /// The answers, by question; `None`: not answered.
    pub recommend: Option<&'static str>,
    pub rating: Option<i16>,
    pub nps: Option<i16>,
    pub topic: Option<&'static str>,
    pub comment: Option<String>,
}

impl Response {
    /// A person's yes with five stars, a comment and consent, on the page, on 10 March 2026.
    pub fn new(shop: ShopId, order: OrderId) -> Self {
        Self {
            shop,
            order,
            survey: SURVEY.to_owned(),
            invitation: None,
            revision: 1,
            counted: true,
            via: "page",
            verdict: "human",
            locale: "fr",
            answered_at: at("2026-03-10T18:30:00Z"),
            consent_version: Some("2026-01"),
            display_name: None,
            recommend: Some("yes"),
            rating: Some(5),
            nps: None,
            topic: None,
            comment: Some("Livraison rapide, produit soigné.".to_owned()),
        }
    }

    /// Answered at this moment.
    pub fn answered_at(self, moment: &str) -> Self {
        Self { answered_at: at(moment), ..self }
    }

    /// Writes it with its answers.
    pub async fn insert(self, pool: &PgPool) -> ResponseId {
        let version = survey_version(pool, self.shop, &self.survey).await;
        let sql = "insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict,
                     locale, answered_at, received_at, consent_version, display_name)
                   values ($1, $2, $3, $4, $5, $6, $7, $8::response_via, $9::verdict, $10, $11, $11, $12, $13)
                   returning response_id";
        let id: ResponseId = sqlx::query_scalar(sql)
            .bind(self.shop)
            .bind(self.order)
            .bind(&self.survey)
            .bind(version)
            .bind(self.invitation)
            .bind(self.revision)
            .bind(self.counted)
            .bind(self.via)
            .bind(self.verdict)
            .bind(self.locale)
            .bind(self.answered_at)
            .bind(self.consent_version)
            .bind(self.display_name)
            .fetch_one(pool)
            .await
            .unwrap();
        let answers = [
            ("recommend", None::<i16>, self.recommend, None::<&str>),
            ("rating", self.rating, None, None),
            ("nps", self.nps, None, None),
            ("topic", None, self.topic, None),
            ("comment", None, None, self.comment.as_deref()),
        ];
        for (question, score, choice, body) in answers {
            let sql = "insert into answer (shop_id, response_id, question, score, choice, body)
                       select $1, $2, $3, $4, $5, $6 where num_nonnulls($4, $5, $6) = 1";
            sqlx::query(sql)
                .bind(self.shop)
                .bind(id)
                .bind(question)
                .bind(score)
                .bind(choice)
                .bind(body)
                .execute(pool)
                .await
                .unwrap();
        }
        id
    }
}
